//! The verifier: a larger local model is asked whether two questions are the same, where the score
//! does not say so clearly enough.

use super::conversation::Asked;
use super::score::Level;
use crate::error::BackendError;

/// How sure the verifier must be.
pub const PROVEN: f32 = 0.95;

/// The log-odds of an answer whose question the verifier holds to be the same.
pub const PROMOTED: f32 = 4.0;

/// Levels below the threshold in which it is asked: four units of log-odds.
const GREY_LEVELS: usize = 22;

/// Somebody who tells whether two questions have the same answer.
pub trait Verifier {
    /// The probability that they have; none where nothing can be said.
    ///
    /// # Errors
    /// The model fails.
    fn sure(&mut self, cached: &Asked, asking: &Asked) -> Result<Option<f32>, BackendError>;
}

/// Whether a score is below the threshold, but near enough to ask.
pub fn is_grey(level: Level, threshold: Level) -> bool {
    level < threshold && level.index() + GREY_LEVELS >= threshold.index()
}

/// What the verifier is asked; the answer is its first word.
pub fn prompt(cached: &Asked, asking: &Asked) -> String {
    let context = |asked: &Asked| match &asked.context {
        Some(context) => format!("{}\n{}\n", context.said, context.reply),
        None => String::new(),
    };
    format!(
        "Would exactly the same reply be correct for both messages? Answer Yes or No.\n\n\
         Message A: How do I reset my password?\nMessage B: I forgot my password, what do I do?\n\
         Same reply: Yes\n\n\
         Message A: What is the fee for a transfer to France?\n\
         Message B: What is the fee for a transfer to Spain?\nSame reply: No\n\n\
         Message A: {}{}\nMessage B: {}{}\nSame reply:",
        context(cached),
        cached.question.trim(),
        context(asking),
        asking.question.trim(),
    )
}
