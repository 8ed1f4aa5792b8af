//! One look-up: a question, what the store has near it, and which of that is its answer.

use std::sync::Arc;

use super::conversation::{Asked, Setting};
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
        let ours = Signature::read(&self.asked.question, is_known);
        let alike = near.iter().filter_map(|candidate| {
            let record = &candidate.record;
            let contexts = (&self.context_vector, &record.context_vector);
            let cosine = match contexts {
                (Some(ours), Some(theirs)) => Some(ours.cosine(theirs)),
                _ => None,
            };
            let setting = self
                .asked
                .continues_alike(&record.asked, cosine, is_known)?;
            Some((candidate, setting))
        });
        let alike: Vec<(&Candidate, Setting)> = alike.collect();
        let witness = |(candidate, setting): &(&Candidate, Setting)| Witness {
            cosine: candidate.cosine,
            setting: *setting,
            comparison: ours.compare(&Signature::read(&candidate.record.asked.question, is_known)),
            answer_id: candidate.record.answer_id,
        };
        let witnesses: Vec<Witness> = alike.iter().map(witness).collect();
        let best = score::best(&witnesses)?;
        let (chosen, _) = alike.get(best.witness)?;
        Some(Judged {
            level: best.level,
            record: Arc::clone(&chosen.record),
        })
    }
}
