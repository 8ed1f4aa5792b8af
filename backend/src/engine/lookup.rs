//! Prompt look-up: answers that repeat what was said before, as summaries, corrections and code do,
//! are drafted by looking up how the last tokens went on the time before (Saxena, "Prompt lookup
//! decoding", 2023). It costs no model, only wrong drafts cost something, and their number is
//! bounded by [`Pace`].

use std::collections::HashMap;

use farthing_core::limits::{
    ENGINE_DRAFT_TOKENS_MAX, LOOKUP_INDEX_TOKENS_PER_STEP, LOOKUP_RUN_TOKENS,
};

use super::{LookupUse, Speculation};

/// How one choice's next tokens are guessed.
pub(super) struct Guesses {
    lookup: Option<Lookup>,
    pub(super) pace: Pace,
}

/// Where each run of tokens of one sequence was last seen.
#[derive(Debug, Default)]
pub struct Lookup {
    /// From a run of [`LOOKUP_RUN_TOKENS`] tokens to the position after it.
    seen: HashMap<[u32; LOOKUP_RUN_TOKENS], u32>,
    /// Runs that end before this position are in `seen`.
    indexed: usize,
}

/// How many tokens to draft. Right drafts make the next ones longer; wrong ones make them shorter,
/// and lead to ever longer rests, so that text which cannot be foretold costs next to nothing.
#[derive(Debug, Clone)]
pub struct Pace {
    tokens: usize,
    tokens_max: usize,
    /// Drafts in a row that were mostly wrong.
    failures: u32,
    /// Tokens to be generated before the next draft.
    rest: usize,
}

/// Tokens of the first draft.
const FIRST_TOKENS: usize = 3;
/// The first rest, and how often it may double: 16 to 512 tokens.
const REST_TOKENS: usize = 16;
const REST_DOUBLINGS_MAX: u32 = 5;

// === impl Guesses ===

impl Guesses {
    pub(super) fn new(speculation: Speculation) -> Guesses {
        Guesses {
            lookup: (speculation.lookup == LookupUse::On).then(Lookup::default),
            pace: Pace::new(speculation.tokens_max),
        }
    }

    /// At most `count_max` tokens that may follow, if look-up is on and its pace allows any.
    pub(super) fn look_up(&mut self, tokens: &[u32], count_max: usize) -> Vec<u32> {
        let count = self.pace.tokens().min(count_max);
        match &mut self.lookup {
            Some(lookup) if count > 0 => lookup.propose(tokens, count),
            _ => Vec::new(),
        }
    }
}

// === impl Lookup ===

impl Lookup {
    /// Up to `count` tokens that may follow `tokens`; none if the last ones have not been seen
    /// before. `tokens` must go on from what it was at the last call.
    pub fn propose(&mut self, tokens: &[u32], count: usize) -> Vec<u32> {
        self.index(tokens);
        let Some(run) = tokens.last_chunk::<LOOKUP_RUN_TOKENS>() else {
            return Vec::new();
        };
        let Some(&after) = self.seen.get(run) else {
            return Vec::new();
        };
        let again = &tokens[after as usize..];
        // What has repeated itself up to here is taken to go on so.
        again.iter().copied().cycle().take(count).collect()
    }

    /// Takes in runs that are followed by a token, a bounded number of them at once.
    fn index(&mut self, tokens: &[u32]) {
        let first = self.indexed.max(LOOKUP_RUN_TOKENS);
        let last = tokens.len().min(first + LOOKUP_INDEX_TOKENS_PER_STEP);
        for end in first..last {
            if let Some(&run) = tokens[..end].last_chunk::<LOOKUP_RUN_TOKENS>() {
                self.seen.insert(run, end as u32);
            }
        }
        self.indexed = self.indexed.max(last);
    }
}

// === impl Pace ===

impl Pace {
    /// At most `tokens_max` tokens a draft.
    pub fn new(tokens_max: usize) -> Pace {
        let tokens_max = tokens_max.min(ENGINE_DRAFT_TOKENS_MAX);
        Pace {
            tokens: FIRST_TOKENS.min(tokens_max),
            tokens_max,
            failures: 0,
            rest: 0,
        }
    }

    /// How many tokens to draft now.
    pub fn tokens(&self) -> usize {
        if self.rest > 0 { 0 } else { self.tokens }
    }

    /// `generated` tokens came, and of `drafted` ones `accepted` were right.
    pub fn verified(&mut self, generated: usize, drafted: usize, accepted: usize) {
        self.rest = self.rest.saturating_sub(generated);
        if drafted == 0 {
            return;
        }
        if accepted * 2 > drafted {
            self.failures = 0;
            let longer = if accepted == drafted {
                self.tokens * 2
            } else {
                accepted + 1
            };
            self.tokens = longer.min(self.tokens_max);
            return;
        }
        self.tokens = accepted.max(FIRST_TOKENS).min(self.tokens_max);
        self.rest = REST_TOKENS << self.failures.min(REST_DOUBLINGS_MAX);
        self.failures += 1;
    }
}
