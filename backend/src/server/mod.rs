//! The HTTP server: bytes in, the engine's or the embedder's answer out.
//!
//! Reading order: `process` starts (`device` says what computes), [`run`] accepts, `connection`
//! speaks HTTP/1.1, `router` finds the route; `body` and `identity` read what every request has;
//! `generate` (chat and completions, by way of `prompt`), `embeddings`, `models` and `health`
//! answer; `stream`, `measure` and `reply` carry the answers out, `stored` those of the response
//! store, `semantic` those of the semantic cache, which gets its own from `learning`, `provided`
//! and `provided_stream` those of providers; `cascade` takes requests for one of the `cascades`,
//! on which `climb` goes from model to model; `overhead` keeps what all that costs until an answer
//! carries it to the filter.

mod body;
mod cascade;
mod cascades;
mod climb;
mod connection;
mod device;
mod embeddings;
mod generate;
mod health;
mod identity;
mod learning;
pub(crate) mod log;
mod measure;
mod models;
mod overhead;
pub mod process;
mod prompt;
mod provided;
mod provided_stream;
mod reply;
mod router;
mod semantic;
mod stall;
mod state;
mod stored;
mod stores;
mod stream;
mod vocabularies;

use std::sync::Arc;
use std::time::Duration;

use farthing_core::limits;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

pub use state::State;

/// How the server came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every answer was completed.
    Complete,
    /// The bound on draining came first, and this many connections were cut.
    Cut(usize),
}

/// Serves connections of `listener` until `shutdown` is ready, then takes no new ones and lets
/// answers under way end within `http.drain_timeout_ms`.
pub async fn run(
    listener: TcpListener,
    state: Arc<State>,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let http = &state.config.http;
    let places = Arc::new(Semaphore::new(http.connections_max.get() as usize));
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = shutdown.as_mut() => break,
            Some(_) = connections.join_next() => {}
            (stream, place) = accept(&listener, &places) => {
                let (state, stopped) = (Arc::clone(&state), stopped.clone());
                connections.spawn(async move {
                    connection::serve(stream, state, stopped).await;
                    drop(place);
                });
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    log::event("draining", &[("connections", &connections.len())]);
    let rest = async { while connections.join_next().await.is_some() {} };
    let drained = match tokio::time::timeout(http.drain_timeout(), rest).await {
        Ok(()) => Drained::Complete,
        Err(_) => Drained::Cut(connections.len()),
    };
    connections.shutdown().await;
    drained
}

/// Waits for a free place first: connections over the limit stay in the kernel's backlog.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let accepted = match Arc::clone(places).acquire_owned().await {
            Ok(place) => listener.accept().await.map(|(stream, _)| (stream, place)),
            Err(closed) => Err(std::io::Error::other(closed)),
        };
        match accepted {
            Ok(accepted) => return accepted,
            Err(error) => {
                log::event("accept_failed", &[("reason", &error)]);
                tokio::time::sleep(Duration::from_millis(limits::ACCEPT_REST_MS)).await;
            }
        }
    }
}
