//! One choice while it is being generated: from logits to a token, from the token to text, and the
//! reason to end.

use farthing_core::wire::{FinishReason, Sampling, TokenLogprob};

use super::logprobs::{Logprobs, logprobs};
use super::sampler::{Sampler, SamplerScratch};
use crate::text::{Detokenizer, StopMatcher, StopState, Tokenizer};

/// The state of one choice. It survives preemption.
pub(super) struct Answer {
    sampler: Sampler,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    /// Alternatives to report with each token, if log-probabilities are wanted.
    top_logprobs: Option<usize>,
    generated: usize,
    tokens_max: usize,
}

/// What one token brought.
pub(super) struct Progress {
    pub(super) token: u32,
    pub(super) text: String,
    pub(super) logprobs: Vec<TokenLogprob>,
    pub(super) finished: Option<FinishReason>,
}

// === impl Answer ===

impl Answer {
    /// A choice of at most `tokens_max` tokens.
    pub(super) fn new(
        sampling: &Sampling,
        choice: usize,
        prompt: &[u32],
        tokens_max: usize,
    ) -> Answer {
        Answer {
            sampler: Sampler::new(sampling, choice, prompt),
            detokenizer: Detokenizer::new(),
            stop: StopMatcher::new(&sampling.stop),
            top_logprobs: sampling.logprobs.map(usize::from),
            generated: 0,
            tokens_max,
        }
    }

    /// Samples the next token. A token that ends the answer has neither text nor log-probability,
    /// but counts as generated.
    pub(super) fn next(
        &mut self,
        logits: &mut [f32],
        tokenizer: &Tokenizer,
        scratch: &mut SamplerScratch,
    ) -> Progress {
        // Penalties change the logits, and the log-probabilities are of the unchanged ones.
        let unmodified = self.top_logprobs.map(|top| (top, logits.to_vec()));
        let token = self.sampler.sample(logits, scratch);
        self.generated += 1;
        let ends = tokenizer.is_end_of_generation(token);
        let mut text = String::new();
        let mut stop = StopState::Open;
        if !ends && !tokenizer.is_control(token) {
            let mut characters = String::new();
            self.detokenizer
                .push(tokenizer.token_bytes(token), &mut characters);
            stop = self.stop.push(&characters, &mut text);
        }
        let finished = if ends || stop == StopState::Matched {
            Some(FinishReason::Stop)
        } else if self.generated >= self.tokens_max {
            Some(FinishReason::Length)
        } else {
            None
        };
        let finished = finished.map(|reason| self.finish(reason, &mut text));
        let logprobs = match unmodified {
            Some((top, logits)) if !ends => {
                vec![describe(&logprobs(&logits, token, top), token, tokenizer)]
            }
            _ => Vec::new(),
        };
        Progress {
            token,
            text,
            logprobs,
            finished,
        }
    }

    /// Tokens so far, that which ended the answer included.
    pub(super) fn generated(&self) -> usize {
        self.generated
    }

    /// Releases what waited for the rest of a character or of a stop string. That rest may complete
    /// a stop string, which then is the reason.
    fn finish(&mut self, reason: FinishReason, text: &mut String) -> FinishReason {
        let mut characters = String::new();
        self.detokenizer.finish(&mut characters);
        let stop = self.stop.push(&characters, text);
        self.stop.finish(text);
        match stop {
            StopState::Matched => FinishReason::Stop,
            StopState::Open => reason,
        }
    }
}

/// Log-probabilities with the tokens spelled out.
fn describe(logprobs: &Logprobs, token: u32, tokenizer: &Tokenizer) -> TokenLogprob {
    let spelled = |id: u32| {
        let bytes = tokenizer.token_bytes(id).to_vec();
        (String::from_utf8_lossy(&bytes).into_owned(), bytes)
    };
    let alternative = |&(id, logprob): &(u32, f32)| {
        let (text, bytes) = spelled(id);
        (text, bytes, logprob)
    };
    let (text, bytes) = spelled(token);
    let top = logprobs.top.iter().map(alternative).collect();
    TokenLogprob {
        token: text,
        bytes,
        logprob: logprobs.chosen,
        top,
    }
}
