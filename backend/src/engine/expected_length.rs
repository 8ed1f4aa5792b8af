//! How long answers become, as a share of what their requests allow: most end long before
//! `max_tokens`. Admission counts on this share, so that the cache is well used and yet few
//! sequences are preempted. The idea is SGLang's `new_token_ratio`, which starts at 0.7, falls
//! while nothing is retracted and rises when something is; here the share is also learned.

/// The learned share of one model.
#[derive(Debug, Clone)]
pub struct ExpectedLength {
    /// Mean share, and mean distance from it.
    mean: f64,
    deviation: f64,
    /// How far the estimate is moved towards the longest possible answers.
    caution: f64,
}

/// SGLang's first guess, with no distance from it.
const SHARE_FIRST: f64 = 0.7;
/// However short answers are: their lengths vary.
const SHARE_MIN: f64 = 0.05;
/// How much of the usual distance is added to the mean. In simulations of a full cache none at all
/// preempts twice as many sequences as all of it, which in turn takes a tenth more steps.
const DEVIATION_SHARE: f64 = 0.5;
/// How far one finished answer moves the mean: the last fifty count most.
const RATE: f64 = 0.02;
/// What one preemption adds to the caution, as a share of what is missing to the most.
const CAUTION_RISE: f64 = 0.2;
/// What a finished answer leaves of it.
const CAUTION_DECAY: f64 = 0.98;

// === impl ExpectedLength ===

impl ExpectedLength {
    pub fn new() -> ExpectedLength {
        ExpectedLength {
            mean: SHARE_FIRST,
            deviation: 0.0,
            caution: 0.0,
        }
    }

    /// An answer ended with `generated` of at most `generate_max` tokens.
    pub fn finished(&mut self, generated: usize, generate_max: usize) {
        let share = generated as f64 / generate_max.max(1) as f64;
        let error = share.clamp(0.0, 1.0) - self.mean;
        self.mean += RATE * error;
        self.deviation += RATE * (error.abs() - self.deviation);
        self.caution *= CAUTION_DECAY;
    }

    /// A sequence had to be preempted: too much was admitted.
    pub fn preempted(&mut self) {
        self.caution += CAUTION_RISE * (1.0 - self.caution);
    }

    /// The share that is counted on, above the mean by a part of the usual distance from it; within
    /// [`SHARE_MIN`] and 1.
    pub fn share(&self) -> f64 {
        let share = self.mean + DEVIATION_SHARE * self.deviation;
        let share = share.clamp(SHARE_MIN, 1.0);
        share + self.caution * (1.0 - share)
    }

    /// How many of at most `generate_max` tokens an answer is expected to have.
    pub fn tokens(&self, generate_max: usize) -> usize {
        (self.share() * generate_max as f64).ceil() as usize
    }
}

impl Default for ExpectedLength {
    fn default() -> ExpectedLength {
        ExpectedLength::new()
    }
}
