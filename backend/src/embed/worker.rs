//! The embedding model's thread and the handle by which requests reach it.

use super::embedder::{Embedded, Embedder};
use crate::error::BackendError;
use crate::liveness::{Liveness, liveness};
use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::limits::{EMBEDDING_QUEUE_MAX, EMBEDDING_RETRY_AFTER_S};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use tokio::sync::oneshot;

/// One request: its texts, and where the answer goes.
struct Job {
    texts: Vec<String>,
    reply: oneshot::Sender<Result<Embedded, ApiError>>,
}

/// The way to an embedding model. Its thread ends with its last handle.
#[derive(Clone)]
pub struct EmbedHandle {
    /// The name that requests use.
    pub id: String,
    /// When the model's folder was last modified, in seconds since 1970.
    pub created_unix_s: u64,
    jobs: SyncSender<Job>,
    liveness: Liveness,
}

impl EmbedHandle {
    /// Starts the thread that owns the model.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn start(
        id: &str,
        created_unix_s: u64,
        embedder: Embedder,
    ) -> Result<EmbedHandle, BackendError> {
        let (jobs, queue) = sync_channel(EMBEDDING_QUEUE_MAX);
        let (life, liveness) = liveness();
        std::thread::Builder::new()
            .name(format!("embed {id}"))
            .spawn(move || {
                let _life = life;
                work(&embedder, &queue);
            })
            .map_err(|source| BackendError::Io {
                what: "embedding thread".to_owned(),
                source,
            })?;
        Ok(EmbedHandle {
            id: id.to_owned(),
            created_unix_s,
            jobs,
            liveness,
        })
    }

    /// Whether the model's thread lives.
    pub fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// Embeds texts. Dropping the future frees the model before its next batch.
    ///
    /// # Errors
    /// `Overloaded` at once when `EMBEDDING_QUEUE_MAX` requests wait; `Internal` when the model
    /// fails.
    pub async fn embed(&self, texts: Vec<String>) -> Result<Embedded, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.jobs
            .try_send(Job { texts, reply })
            .map_err(|error| match error {
                TrySendError::Full(_) => ApiError::new(
                    ErrorKind::Overloaded,
                    "too many embedding requests are waiting",
                )
                .retry_after_s(EMBEDDING_RETRY_AFTER_S),
                TrySendError::Disconnected(_) => stopped(),
            })?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn work(embedder: &Embedder, queue: &Receiver<Job>) {
    while let Ok(Job { texts, reply }) = queue.recv() {
        let answer = match embedder.embed(&texts, || !reply.is_closed()) {
            Ok(Some(embedded)) => Ok(embedded),
            Ok(None) => continue,
            Err(error) => Err(ApiError::from(&error)),
        };
        // Nobody is waiting any more when this fails.
        let _ = reply.send(answer);
    }
}

fn stopped() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "the embedding model has stopped")
}
