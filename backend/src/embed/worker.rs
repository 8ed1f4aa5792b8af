//! The embedding model's thread and the handle by which requests reach it.

use super::embedder::{Embedded, Embedder};
use super::wordpiece::WordPiece;
use crate::error::BackendError;
use crate::liveness::{Liveness, liveness};
use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::limits::{EMBEDDING_BATCH_MAX, EMBEDDING_QUEUE_MAX, EMBEDDING_RETRY_AFTER_S};
use std::sync::Arc;
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
    /// Numbers of a vector.
    pub width: usize,
    jobs: SyncSender<Job>,
    wordpiece: Arc<WordPiece>,
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
        let wordpiece = Arc::clone(embedder.wordpiece());
        let width = embedder.width();
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
            width,
            jobs,
            wordpiece,
            liveness,
        })
    }

    /// Whether the model's thread lives.
    pub fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// Whether a word, in lower case, is one of the model's own: others may be misspelled.
    pub fn is_known(&self, word: &str) -> bool {
        self.wordpiece.knows(word)
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

/// Short requests that wait together are embedded together, as one.
fn work(embedder: &Embedder, queue: &Receiver<Job>) {
    let mut held = None;
    while let Some(first) = held.take().or_else(|| queue.recv().ok()) {
        let mut jobs = vec![first];
        let mut texts = jobs[0].texts.len();
        while texts < EMBEDDING_BATCH_MAX
            && let Ok(next) = queue.try_recv()
        {
            if texts + next.texts.len() > EMBEDDING_BATCH_MAX {
                held = Some(next);
                break;
            }
            texts += next.texts.len();
            jobs.push(next);
        }
        match jobs.len() {
            1 => jobs.into_iter().for_each(|job| alone(embedder, job)),
            _ => together(embedder, jobs),
        }
    }
}

fn alone(embedder: &Embedder, Job { texts, reply }: Job) {
    let answer = match embedder.embed(&texts, || !reply.is_closed()) {
        Ok(Some(embedded)) => Ok(embedded),
        Ok(None) => return,
        Err(error) => Err(ApiError::from(&error)),
    };
    // Nobody is waiting any more when this fails.
    let _ = reply.send(answer);
}

/// One batch for several requests. Tokens are counted for each by itself.
fn together(embedder: &Embedder, mut jobs: Vec<Job>) {
    jobs.retain(|job| !job.reply.is_closed());
    let all: Vec<String> = jobs
        .iter()
        .flat_map(|job| job.texts.iter().cloned())
        .collect();
    let embedded = embedder.embed(&all, || true);
    let Ok(Some(embedded)) = embedded else {
        // What fails together may have failed for one of them.
        return jobs.into_iter().for_each(|job| alone(embedder, job));
    };
    let mut rows = embedded.vectors.into_iter().zip(embedded.tokens_each);
    for Job { texts, reply } in jobs {
        let (vectors, tokens_each): (Vec<_>, Vec<_>) = rows.by_ref().take(texts.len()).unzip();
        let tokens = tokens_each.iter().sum();
        let _ = reply.send(Ok(Embedded {
            vectors,
            tokens,
            tokens_each,
        }));
    }
}

fn stopped() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "the embedding model has stopped")
}
