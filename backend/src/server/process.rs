//! The process around [`run`](super::run): models, runtime, listener, signals, and the line that
//! tells whoever started it that it serves.

use std::io::Write;
use std::sync::Arc;

use farthing_core::limits;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Drained, State, device, log, run};
use crate::config::Config;
use crate::error::BackendError;

/// Says which device computes, loads the models, listens, prints `ready http://ADDR`, and serves
/// until SIGINT or SIGTERM.
///
/// # Errors
/// A model that cannot be loaded, or an address that cannot be bound; nothing was served then.
/// `WorkerStopped` when a model's thread ended by itself: what restarts us restores the service.
pub fn serve(config: Config) -> Result<(), BackendError> {
    device::announce();
    let state = Arc::new(State::load(config)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(limits::RUNTIME_THREADS)
        .max_blocking_threads(limits::PROMPT_THREADS + limits::PROVIDER_RESOLVERS)
        .enable_all()
        .build()
        .map_err(|source| io("the runtime", source))?;
    let drained = runtime.block_on(listen(Arc::clone(&state)));
    let stopped = state.stopped_worker();
    // Answers under way have ended or are cut, so the model thread ends within one step.
    state.engine.shutdown();
    if let Drained::Cut(connections) = drained? {
        log::event("cut", &[("connections", &connections)]);
    }
    match stopped {
        Some(worker) => Err(BackendError::WorkerStopped(worker)),
        None => Ok(()),
    }
}

async fn listen(state: Arc<State>) -> Result<Drained, BackendError> {
    let wanted = state.config.listen;
    let refused = |source| io(format!("listening on {wanted}"), source);
    let listener = TcpListener::bind(wanted).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    // The handlers are in place before `ready`, so that a signal sent on seeing it is not lost.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|source| io("SIGINT", source))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|source| io("SIGTERM", source))?;
    print(&format!("ready http://{address}\n"))?;
    let workers = Arc::clone(&state);
    let shutdown = async move {
        tokio::select! {
            () = workers.worker_stopped() => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    Ok(run(listener, state, shutdown).await)
}

/// Prints to standard output, at once even into a pipe.
///
/// # Errors
/// Nobody reads it.
pub fn print(text: &str) -> Result<(), BackendError> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|source| io("standard output", source))
}

fn io(what: impl Into<String>, source: std::io::Error) -> BackendError {
    BackendError::Io {
        what: what.into(),
        source,
    }
}
