//! Corrects the count for one model from the usage that its answers report, and keeps what was
//! learned in the shared store, for all workers.

use super::Count;
use crate::limits::CAS_ATTEMPTS_MAX;
use crate::store::{self, KEY_PREFIX, SharedStore};

const MAGIC: [u8; 4] = *b"FCA1";

/// Share of the error that one observation corrects.
const RATE: f64 = 1.0 / 16.0;
/// Corrections beyond these would be a wrong usage, not a strange vocabulary.
const FACTOR_MIN: f64 = 0.4;
const FACTOR_MAX: f64 = 2.5;
/// An estimate that is off by less than this part of the prompt teaches nothing worth a write.
const CLOSE_DIVISOR: u64 = 128;
/// Below this many tokens the chat template is most of the prompt.
const OBSERVED_TOKENS_MIN: u64 = 16;

const MILLITOKENS: u64 = 1_000;
const MILLI: f64 = MILLITOKENS as f64;

/// Factors for the two classes of a [`Count`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    plain: f64,
    multibyte: f64,
}

impl Default for Calibration {
    fn default() -> Self {
        Calibration {
            plain: 1.0,
            multibyte: 1.0,
        }
    }
}

impl Calibration {
    /// Estimated tokens, rounded up.
    pub fn tokens(&self, count: &Count) -> u64 {
        // A count is far below 2^53, so the conversions are exact.
        let estimated = self.plain * count.plain as f64 + self.multibyte * count.multibyte as f64;
        ((estimated / MILLI).ceil() as u64)
            .saturating_add(count.exact)
            .saturating_add(count.images)
    }

    /// Is the estimate as good as it need be for a prompt of so many tokens?
    pub fn is_close(&self, count: &Count, prompt_tokens: u64) -> bool {
        let off = self.tokens(count).abs_diff(prompt_tokens);
        off.saturating_mul(CLOSE_DIVISOR) <= prompt_tokens
    }

    /// The tokens to reserve for a prompt: the estimate, and what the text may cost beyond it.
    /// A correction downwards does not count here, because a client can teach it: with texts that
    /// cost less than they look, before one that costs more.
    pub fn tokens_max(&self, count: &Count) -> u64 {
        let at_least_as_it_looks = Calibration {
            plain: self.plain.max(1.0),
            multibyte: self.multibyte.max(1.0),
        };
        at_least_as_it_looks
            .tokens(count)
            .saturating_add(count.surplus.div_ceil(MILLITOKENS))
    }

    /// One step of normalized least mean squares (Widrow and Hoff) towards what the upstream
    /// counted: each class is corrected in proportion to its part in the estimate, and the step is
    /// an exponential moving average where only one class occurs.
    #[must_use]
    pub fn learned(self, count: &Count, prompt_tokens: u64) -> Calibration {
        // What an image costs is a bound and no count: nothing is learned beside one.
        if count.images > 0 {
            return self;
        }
        let text_tokens = prompt_tokens.saturating_sub(count.exact);
        if prompt_tokens < OBSERVED_TOKENS_MIN || text_tokens == 0 {
            return self;
        }
        let (plain, multibyte) = (count.plain as f64 / MILLI, count.multibyte as f64 / MILLI);
        let power = plain * plain + multibyte * multibyte;
        if power < 1.0 {
            return self;
        }
        let error = text_tokens as f64 - (self.plain * plain + self.multibyte * multibyte);
        let corrected = |factor: f64, part: f64| {
            (factor + RATE * error * part / power).clamp(FACTOR_MIN, FACTOR_MAX)
        };
        Calibration {
            plain: corrected(self.plain, plain),
            multibyte: corrected(self.multibyte, multibyte),
        }
    }

    /// What the workers have learned about a model so far.
    pub fn load(store: &dyn SharedStore, model_id: &str) -> Calibration {
        store
            .get(&key(model_id))
            .and_then(|(sealed, _)| Calibration::open(&sealed))
            .unwrap_or_default()
    }

    /// Learns from one answer, into the shared store; returns the new state. When other workers
    /// keep writing, this observation is dropped: there will be others.
    pub fn learn(
        store: &dyn SharedStore,
        model_id: &str,
        count: &Count,
        prompt_tokens: u64,
    ) -> Calibration {
        let mut latest = Calibration::default();
        store::update(store, &key(model_id), CAS_ATTEMPTS_MAX, |stored| {
            let before = stored.and_then(Calibration::open).unwrap_or_default();
            latest = before.learned(count, prompt_tokens);
            (latest != before).then(|| latest.seal())
        });
        latest
    }

    fn seal(&self) -> Vec<u8> {
        let [plain, multibyte] = [self.plain, self.multibyte].map(f64::to_le_bytes);
        store::seal(MAGIC, &[plain, multibyte].concat())
    }

    fn open(sealed: &[u8]) -> Option<Calibration> {
        let (plain, multibyte) = store::open(MAGIC, sealed)?.split_first_chunk::<8>()?;
        let sane = |bytes: [u8; 8]| {
            let factor = f64::from_le_bytes(bytes);
            (FACTOR_MIN..=FACTOR_MAX)
                .contains(&factor)
                .then_some(factor)
        };
        Some(Calibration {
            plain: sane(*plain)?,
            multibyte: sane(multibyte.try_into().ok()?)?,
        })
    }
}

/// Bounded: one key for each model that was ever configured.
fn key(model_id: &str) -> String {
    format!("{KEY_PREFIX}calibration/{model_id}")
}
