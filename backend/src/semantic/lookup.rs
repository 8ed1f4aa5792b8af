//! One look-up: a question, what the store has near it, and which of that is its answer.

use std::sync::Arc;

use super::conversation::Asked;
use super::index::Quantized;
use super::score::{self, Level, Witness};
use super::signature::Signature;
use super::store::{Candidate, Record};
use super::words::Knows;

/// Entries that a look-up sees.
pub const NEIGHBOURS: usize = 16;

/// What is asked, as it is compared.
#[derive(Debug, Clone)]
pub struct Question {
    pub asked: Asked,
    pub vector: Quantized,
    /// Of what was said before, if anything was.
    pub context_vector: Option<Quantized>,
}

/// A cached answer that may be right.
#[derive(Debug, Clone)]
pub struct Judged {
    pub level: Level,
    pub record: Arc<Record>,
}

impl Question {
    /// The texts whose vectors make a question: the message, and what was said before.
    pub fn texts(asked: &Asked) -> Vec<String> {
        let context = asked.context.as_ref().map(|context| context.said.clone());
        std::iter::once(asked.question.clone())
            .chain(context)
            .collect()
    }

    /// A question, and the vectors of its [`Question::texts`].
    pub fn new(asked: Asked, vectors: &[Vec<f32>]) -> Option<Question> {
        let (vector, context) = vectors.split_first()?;
        Some(Question {
            asked,
            vector: Quantized::of(vector),
            context_vector: context.first().map(|vector| Quantized::of(vector)),
        })
    }

    /// The likeliest answer among what is near, nearest first.
    pub fn judge(&self, near: &[Candidate], is_known: Knows<'_>) -> Option<Judged> {
        let read = |asked: &Asked| Signature::read(&asked.question, is_known);
        let theirs: Vec<Signature> = near
            .iter()
            .map(|candidate| read(&candidate.record.asked))
            .collect();
        self.judge_read(&read(&self.asked), near.iter().zip(&theirs), is_known)
    }

    /// The same where the signatures of all questions have been read before.
    pub(super) fn judge_read<'a>(
        &self,
        ours: &Signature,
        near: impl Iterator<Item = (&'a Candidate, &'a Signature)>,
        is_known: Knows<'_>,
    ) -> Option<Judged> {
        let (mut alike, mut witnesses) = (Vec::new(), Vec::new());
        for (candidate, theirs) in near {
            let record = &candidate.record;
            let contexts = (&self.context_vector, &record.context_vector);
            let cosine = match contexts {
                (Some(ours), Some(theirs)) => Some(ours.cosine(theirs)),
                _ => None,
            };
            let setting = self.asked.continues_alike(&record.asked, cosine, is_known);
            let Some(setting) = setting else { continue };
            witnesses.push(Witness {
                cosine: candidate.cosine,
                setting,
                comparison: ours.compare(theirs),
                answer_id: record.answer_id,
            });
            alike.push(record);
        }
        let best = score::best(&witnesses)?;
        Some(Judged {
            level: best.level,
            record: Arc::clone(alike.get(best.witness)?),
        })
    }
}
