//! One choice while it is being generated: from logits to tokens, from the tokens to text, and the
//! reason to end.

use farthing_core::error::ApiError;
use farthing_core::wire::{FinishReason, TokenConfidence, TokenLogprob};
use farthing_kernels::Softmax;

use super::logprobs::{self, Logprobs};
use super::request::{Confidence, GenerateRequest};
use super::sampler::{Sampler, SamplerScratch};
use crate::text::{Detokenizer, Grammar, StopMatcher, StopState, TokenMask, Tokenizer};

/// The state of one choice. It survives preemption.
pub(super) struct Answer {
    sampler: Sampler,
    grammar: Option<Grammar>,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    /// Alternatives to report with each token, if log-probabilities are wanted.
    top_logprobs: Option<usize>,
    confidence: Confidence,
    generated: usize,
    tokens_min: usize,
    tokens_max: usize,
}

/// What one step brought.
#[derive(Default)]
pub(super) struct Progress {
    /// All tokens generated in this step: the drafts that were right, one that was sampled, then
    /// those that the grammar forces.
    pub(super) tokens: Vec<u32>,
    /// How many of them, from the first, were drafts.
    pub(super) accepted: usize,
    pub(super) text: String,
    pub(super) logprobs: Vec<TokenLogprob>,
    pub(super) confidence: Vec<TokenConfidence>,
    pub(super) finished: Option<FinishReason>,
}

/// A token and what is said about it.
struct Sampled {
    token: u32,
    logprobs: Option<Logprobs>,
    confidence: Option<TokenConfidence>,
}

// === impl Answer ===

impl Answer {
    /// The answer to a request's `choice`, of at most `tokens_max` tokens.
    pub(super) fn new(request: &GenerateRequest, choice: usize, tokens_max: usize) -> Answer {
        let sampling = &request.sampling;
        Answer {
            sampler: Sampler::new(sampling, choice, &request.prompt),
            grammar: request.grammar.clone(),
            detokenizer: Detokenizer::new(),
            stop: StopMatcher::new(&sampling.stop),
            top_logprobs: sampling.logprobs.map(usize::from),
            confidence: request.confidence,
            generated: 0,
            tokens_min: request.min_tokens,
            tokens_max,
        }
    }

    /// Goes on by one step. `rows` are the logits after the last token and after each of `drafts`,
    /// `[1 + drafts, vocabulary]`. From each row a token is sampled as if there were no drafts, and
    /// as long as that is the draft, the next row is right, too: whatever was drafted, the answer
    /// is the one that it would be without.
    ///
    /// # Errors
    /// The grammar cannot be followed further.
    pub(super) fn advance(
        &mut self,
        rows: &mut [f32],
        drafts: &[u32],
        tokenizer: &Tokenizer,
        scratch: &mut SamplerScratch,
    ) -> Result<Progress, ApiError> {
        let mut progress = Progress::default();
        let vocabulary = rows.len() / (1 + drafts.len());
        for (index, logits) in rows.chunks_exact_mut(vocabulary).enumerate() {
            let sampled = self.sample(logits, tokenizer, scratch)?;
            let token = sampled.token;
            self.take(sampled, tokenizer, &mut progress)?;
            if drafts.get(index) != Some(&token) {
                break;
            }
            progress.accepted += 1;
            if progress.finished.is_some() {
                break;
            }
        }
        // Log-probabilities need logits, which a token that is not computed does not have.
        if self.top_logprobs.is_none() {
            self.take_forced(tokenizer, &mut progress)?;
        }
        Ok(progress)
    }

    /// Takes the tokens that must follow, without asking the model.
    fn take_forced(
        &mut self,
        tokenizer: &Tokenizer,
        progress: &mut Progress,
    ) -> Result<(), ApiError> {
        let Some(grammar) = self
            .grammar
            .as_mut()
            .filter(|_| progress.finished.is_none())
        else {
            return Ok(());
        };
        for token in grammar.forced() {
            self.sampler.record(token);
            let forced = Sampled {
                token,
                logprobs: None,
                confidence: self.confidence_of(TokenConfidence::Forced),
            };
            self.take(forced, tokenizer, progress)?;
            if progress.finished.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Chooses a token by one row of logits, which it changes.
    fn sample(
        &mut self,
        logits: &mut [f32],
        tokenizer: &Tokenizer,
        scratch: &mut SamplerScratch,
    ) -> Result<Sampled, ApiError> {
        let mask = self.grammar.as_mut().map(Grammar::mask).transpose()?;
        let forced = mask.as_ref().and_then(TokenMask::only);
        let measures = self.confidence == Confidence::Report && forced.is_none();
        // Before penalties and mask: what is reported is the model's own distribution.
        let softmax = match self.top_logprobs.is_some() || measures {
            true => Softmax::of(logits),
            false => None,
        };
        let keeps = self.top_logprobs.is_some() || measures && self.sampler.changes_logits();
        let unmodified = keeps.then(|| logits.to_vec());
        if self.generated < self.tokens_min {
            for &end in tokenizer.end_of_generation_ids() {
                if let Some(logit) = logits.get_mut(end as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        let token = match (forced, &mask) {
            (Some(token), _) => {
                self.sampler.record(token);
                token
            }
            (None, Some(mask)) => {
                mask.apply(logits);
                let wished = self.sampler.choose(logits, scratch);
                // A model that gives no allowed token any probability has no say.
                let token = if mask.allows(wished) {
                    wished
                } else {
                    mask.first()
                };
                self.sampler.record(token);
                token
            }
            (None, None) => self.sampler.sample(logits, scratch),
        };
        let unmodified = unmodified.as_deref().unwrap_or(logits);
        let chosen = unmodified.get(token as usize).copied();
        let confidence = match forced {
            Some(_) => TokenConfidence::Forced,
            None => logprobs::confidence(softmax.as_ref(), chosen.unwrap_or(f32::NAN)),
        };
        Ok(Sampled {
            token,
            logprobs: (self.top_logprobs)
                .map(|top| Logprobs::of(softmax.as_ref(), unmodified, token, top)),
            confidence: self.confidence_of(confidence),
        })
    }

    fn confidence_of(&self, confidence: TokenConfidence) -> Option<TokenConfidence> {
        (self.confidence == Confidence::Report).then_some(confidence)
    }

    /// Adds a token. One that ends the answer has neither text nor log-probability, but counts as
    /// generated.
    fn take(
        &mut self,
        sampled: Sampled,
        tokenizer: &Tokenizer,
        progress: &mut Progress,
    ) -> Result<(), ApiError> {
        let Sampled {
            token,
            logprobs,
            confidence,
        } = sampled;
        self.generated += 1;
        progress.tokens.push(token);
        let ends = tokenizer.is_end_of_generation(token);
        let mut stop = StopState::Open;
        if !ends && !tokenizer.is_control(token) {
            let mut characters = String::new();
            self.detokenizer
                .push(tokenizer.token_bytes(token), &mut characters);
            stop = self.stop.push(&characters, &mut progress.text);
        }
        if !ends {
            progress.confidence.extend(confidence);
            let described = logprobs.map(|logprobs| describe(&logprobs, token, tokenizer));
            progress
                .logprobs
                .extend(described.map(|described| TokenLogprob {
                    confidence,
                    ..described
                }));
        }
        let mut complete = ends || stop == StopState::Matched;
        if let Some(grammar) = self.grammar.as_mut().filter(|_| !complete) {
            grammar.consume(token)?;
            complete = grammar.is_complete();
        }
        let finished = if complete {
            Some(FinishReason::Stop)
        } else if self.generated >= self.tokens_max {
            Some(FinishReason::Length)
        } else {
            None
        };
        progress.finished = finished.map(|reason| self.finish(reason, &mut progress.text));
        Ok(())
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
        confidence: None,
    }
}
