//! `farthing eval cache-pairs` and `farthing eval cache-stream`: what the semantic cache does on
//! labelled questions, beside a cache that serves whatever has a cosine of 0.90. And `farthing
//! calibrate cache`: from which score on it may serve such questions.

mod learn;
mod pairs;
mod report;
mod rows;
mod stream;
mod verify;

pub use learn::calibrate_cache;
pub use pairs::eval_pairs;
pub use stream::eval_stream;

use std::path::Path;

use farthing_core::limits::SEMANTIC_EVAL_BATCH;

use super::bound::MaxWrong;
use super::conversation::Asked;
use super::lookup::Question;
use crate::embed::{self, Embedder};
use crate::error::BackendError;

/// The cosine above which the cache that ours is compared with serves: what most have by default.
const BASELINE_COSINE: f32 = 0.90;

/// The stated share of the command line.
fn max_wrong(share: f64) -> Result<MaxWrong, BackendError> {
    MaxWrong::new(share).ok_or_else(|| {
        BackendError::SemanticEval("--max-wrong must be above 0 and below 0.5".to_owned())
    })
}

/// The embedding model of the command line, or the one that is fetched.
fn embedder(given: Option<&Path>) -> Result<Embedder, BackendError> {
    let folder = given.unwrap_or(Path::new(embed::FETCHED));
    Embedder::load(folder).map_err(|error| error.in_file(folder))
}

/// Questions with their vectors.
fn questions(embedder: &Embedder, asked: Vec<Asked>) -> Result<Vec<Question>, BackendError> {
    let mut questions = Vec::with_capacity(asked.len());
    for some in asked.chunks(SEMANTIC_EVAL_BATCH) {
        let texts: Vec<Vec<String>> = some.iter().map(Question::texts).collect();
        let embedded = embedder.embed(&texts.concat(), || true)?;
        let mut vectors = embedded
            .map_or_else(Vec::new, |embedded| embedded.vectors)
            .into_iter();
        for (asked, texts) in some.iter().zip(&texts) {
            let own: Vec<Vec<f32>> = vectors.by_ref().take(texts.len()).collect();
            questions.extend(Question::new(asked.clone(), &own));
        }
    }
    Ok(questions)
}
