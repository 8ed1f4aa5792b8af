//! How many tokens is a prompt? The filter has no tokenizer: it counts bytes by class in one pass
//! ([`Count`]) and corrects the count for each model by the usage that comes back
//! ([`Calibration`]). Without correction the count is within about 20 % on English, code, JSON and
//! digits for the byte-level BPEs of SmolLM2 and Qwen2; other scripts differ by up to three times
//! between those two, which is what the correction is for. `backend/tests/token_estimate.rs` prints
//! the error of both.
//!
//! Two bounds go with the estimate, because a client chooses its text. What may be spent is
//! reserved for [`Calibration::tokens_max`]: a byte-level BPE spends up to one token on a byte, and
//! where a text looks like none (alternating white space, signs at random, long words without a
//! break) each such byte counts nearly whole. The bound is then a token for every two bytes of
//! signs, control characters or mixed white space, for every four of letters at random, and a few
//! percent above the estimate on ordinary text. A request is refused as too long only by
//! [`Count::tokens_min`].

mod calibration;
mod lanes;
mod prompt;
mod sums;

pub use calibration::Calibration;
pub use prompt::{Basis, PromptTokens};

use crate::limits::IMAGE_TOKENS_MAX;
use crate::wire::{Message, Prompt, Request};
use sums::Sums;

/// `<|im_start|>`, role, line break, `<|im_end|>`, line break.
const MESSAGE: u64 = 5_000;
/// The beginning of the answer: `<|im_start|>assistant` and a line break.
const GENERATION_PROMPT: u64 = 3_000;

/// Sums by class, in thousandths of a token. The two classes have a correction each, because a
/// vocabulary that knows English well may know other scripts badly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// ASCII text and the frame of a chat.
    pub(crate) plain: u64,
    /// Characters of more than one byte.
    pub(crate) multibyte: u64,
    /// Tokens that the client counted itself, by sending their ids.
    pub(crate) exact: u64,
    /// What the text may cost beyond both classes if it was made to cost much.
    pub(crate) surplus: u64,
    /// Images, each at `IMAGE_TOKENS_MAX`.
    pub(crate) images: u64,
    /// Words of the longest prompt, in tokens: no estimate but a lower bound.
    least: u64,
}

impl Count {
    /// Counts everything in a request that the model will read.
    pub fn of_request(request: &Request) -> Count {
        let mut count = Count::default();
        match &request.prompt {
            Prompt::Messages(messages) => {
                count.plain = GENERATION_PROMPT;
                for message in messages {
                    let words = count.message(message);
                    count.least = count.least.saturating_add(words);
                }
            }
            Prompt::Text(texts) => {
                for text in texts {
                    let words = count.text(text.as_bytes());
                    count.least = count.least.max(words);
                }
            }
            Prompt::Tokens(lists) => {
                let lengths = || lists.iter().map(|list| list.len() as u64);
                count.exact = lengths().sum();
                count.least = lengths().max().unwrap_or(0);
            }
        }
        count.images = u64::from(request.images.count).saturating_mul(IMAGE_TOKENS_MAX);
        for json in request.shown_fields() {
            count.text(&json.to_bytes());
        }
        count
    }

    /// The tokens that the longest prompt has at least, in any usual vocabulary: its own ids, or
    /// one for each word after white space. All else may be merged, or left out by a template.
    pub fn tokens_min(&self) -> u64 {
        self.least
    }

    /// Answers how many words the message says.
    fn message(&mut self, message: &Message) -> u64 {
        self.plain = self.plain.saturating_add(MESSAGE);
        if let Some(name) = &message.name {
            self.text(name.as_bytes());
        }
        if let Some(calls) = &message.tool_calls {
            self.text(&calls.to_bytes());
        }
        self.text(message.content.as_bytes())
    }

    /// Adds text, at about the same cost for every byte. Bytes that are not UTF-8 count as what
    /// they look like. Answers how many words begin with a letter or a digit after white space.
    pub fn text(&mut self, text: &[u8]) -> u64 {
        let sums = Sums::of(text);
        self.plain = self.plain.saturating_add(sums.plain);
        self.multibyte = self.multibyte.saturating_add(sums.multibyte);
        self.surplus = self.surplus.saturating_add(sums.surplus);
        sums.words
    }
}
