//! The engine as the server sees it: submit never blocks, and dropping a receiver is an abort.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::limits;
use farthing_core::price::ServiceTier;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::metrics::{Counters, EngineMetrics};
use super::request::{EngineEvent, GenerateRequest};
use crate::liveness::Liveness;
use crate::model::ModelInfo;

/// A cheap clone of the way into the model thread.
#[derive(Clone)]
pub struct EngineHandle(Arc<Shared>);

/// What travels to the model thread.
pub(super) enum Command {
    Generate(Box<Submission>),
    /// Nothing but a reason to look at the stop flag.
    Wake,
}

/// One accepted request on its way to a model.
pub(super) struct Submission {
    pub(super) request: GenerateRequest,
    pub(super) events: UnboundedSender<EngineEvent>,
    /// The request's place in the queue, given back when it starts or ends.
    pub(super) place: OwnedSemaphorePermit,
}

/// What all handles and the model thread share.
struct Shared {
    models: Vec<Arc<ModelInfo>>,
    counters: Vec<Arc<Counters>>,
    commands: SyncSender<Command>,
    queue: Arc<Semaphore>,
    queue_max: usize,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    liveness: Liveness,
}

// === impl EngineHandle ===

impl EngineHandle {
    pub(super) fn new(
        models: Vec<(Arc<ModelInfo>, Arc<Counters>)>,
        commands: SyncSender<Command>,
        queue_max: usize,
        stop: Arc<AtomicBool>,
        (thread, liveness): (JoinHandle<()>, Liveness),
    ) -> EngineHandle {
        let (models, counters) = models.into_iter().unzip();
        EngineHandle(Arc::new(Shared {
            models,
            counters,
            commands,
            queue: Arc::new(Semaphore::new(queue_max)),
            queue_max,
            stop,
            thread: Mutex::new(Some(thread)),
            liveness,
        }))
    }

    /// Queues a request. Never blocks.
    ///
    /// The receiver's backlog is bounded by the tokens of the request. Dropping it aborts the
    /// request within one step, waiting or running.
    ///
    /// # Errors `ModelNotFound`, `ContextLengthExceeded` (the prompt leaves no room for one token),
    /// `InvalidValue` (an empty prompt or a token outside the vocabulary), `Overloaded` with
    /// `retry_after_s` (the queue is full, or nearly so for a request that can wait), `Unavailable`
    /// (shutting down, or the model thread has stopped).
    pub fn submit(
        &self,
        request: GenerateRequest,
    ) -> Result<UnboundedReceiver<EngineEvent>, ApiError> {
        self.admissible(&request)?;
        if self.0.stop.load(Ordering::Acquire) {
            return Err(unavailable());
        }
        self.check_room(request.tier)?;
        let place = Arc::clone(&self.0.queue)
            .try_acquire_owned()
            .map_err(|_| self.overloaded())?;
        let (events, receiver) = unbounded_channel();
        let command = Command::Generate(Box::new(Submission {
            request,
            events,
            place,
        }));
        match self.0.commands.try_send(command) {
            Ok(()) => Ok(receiver),
            Err(TrySendError::Full(_)) => Err(self.overloaded()),
            // Stopping is checked above: the thread ended by itself, or in this moment.
            Err(TrySendError::Disconnected(_)) => Err(thread_gone()),
        }
    }

    /// Whether a request of this tier has a place in the queue now. Nothing is reserved by it; it
    /// spares preparing a request that would be refused.
    ///
    /// # Errors
    /// `Overloaded` with `retry_after_s`: the queue is full, or nearly so for a request that can
    /// wait.
    pub fn check_room(&self, tier: ServiceTier) -> Result<(), ApiError> {
        let reserved = if is_patient(tier) {
            self.0.queue_max / limits::ENGINE_QUEUE_RESERVED_SHARE
        } else {
            0
        };
        if self.0.queue.available_permits() <= reserved {
            return Err(self.overloaded());
        }
        Ok(())
    }

    /// The loaded models, in the order in which they were given.
    pub fn models(&self) -> &[Arc<ModelInfo>] {
        &self.0.models
    }

    /// The loaded model of this id.
    pub fn model(&self, id: &str) -> Option<&Arc<ModelInfo>> {
        self.0.models.iter().find(|model| model.id == id)
    }

    /// What the engine has done and holds.
    pub fn snapshot(&self) -> EngineMetrics {
        let names = self.0.models.iter().map(|model| model.id.as_str());
        EngineMetrics {
            queued: (self.0.queue_max - self.0.queue.available_permits()) as u64,
            models: names
                .zip(&self.0.counters)
                .map(|(id, cells)| cells.read(id))
                .collect(),
        }
    }

    /// Whether the model thread lives.
    pub fn liveness(&self) -> &Liveness {
        &self.0.liveness
    }

    /// Stops the model thread and waits for it, which takes at most one step. Requests that are
    /// still in flight fail with `Unavailable`.
    pub fn shutdown(&self) {
        self.0.stop.store(true, Ordering::Release);
        // A full channel means that the thread is awake and will see the flag by itself.
        let _ = self.0.commands.try_send(Command::Wake);
        let thread = self
            .0
            .thread
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .take();
        if let Some(thread) = thread {
            // A panic in the thread has already closed every request's channel.
            let _ = thread.join();
        }
    }

    /// What the model cannot take whatever its load.
    fn admissible(&self, request: &GenerateRequest) -> Result<(), ApiError> {
        let Some(model) = self.model(&request.model) else {
            let message = format!("the model '{}' does not exist", request.model);
            return Err(ApiError::new(ErrorKind::ModelNotFound, message).param("model"));
        };
        if request.prompt.is_empty() {
            let message = "the prompt is empty";
            return Err(ApiError::new(ErrorKind::InvalidValue, message).param("prompt"));
        }
        if let Some(token) = request
            .prompt
            .iter()
            .find(|&&id| id as usize >= model.vocab_size)
        {
            let message = format!("token {token} is not in the vocabulary of '{}'", model.id);
            return Err(ApiError::new(ErrorKind::InvalidValue, message).param("prompt"));
        }
        if request.prompt.len() >= model.context_tokens {
            return Err(ApiError::new(
                ErrorKind::ContextLengthExceeded,
                format!(
                    "the prompt has {} tokens; '{}' takes {} tokens of prompt and answer together",
                    request.prompt.len(),
                    model.id,
                    model.context_tokens
                ),
            ));
        }
        Ok(())
    }

    fn overloaded(&self) -> ApiError {
        let waiting = self.0.queue_max - self.0.queue.available_permits();
        let message = format!("{waiting} requests are already waiting");
        ApiError::new(ErrorKind::Overloaded, message).retry_after_s(limits::ENGINE_RETRY_AFTER_S)
    }
}

/// Whether a request is among those that are refused first: OpenAI's `flex` is answered while there
/// is capacity to spare.
fn is_patient(tier: ServiceTier) -> bool {
    matches!(tier, ServiceTier::Flex | ServiceTier::Batch)
}

/// The error of a request whose model thread has ended without being told to.
pub fn thread_gone() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "the model thread has stopped")
}

/// The error of a request that meets an engine that is stopping.
pub(super) fn unavailable() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "the backend is shutting down")
}
