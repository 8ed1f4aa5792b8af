//! Chooses the next token of one sequence. The order is vLLM's: penalties, temperature, `min_p`,
//! `top_k`, `top_p`, then one random number; at a temperature that is practically 0 the likeliest
//! token after penalties, the smaller id of two equal ones.
//!
//! The same logits, parameters and seed give the same token on every run. A logit that is not a
//! number counts as impossible; if nothing is possible, token 0 is chosen and nothing breaks.

use std::collections::HashMap;

use farthing_core::wire::Sampling;
use farthing_kernels::{LOGITS_PER_BLOCK, exp_weights};

use super::candidates::{Candidates, Row};
use super::random::{SplitMix64, unpredictable_seed};

/// The sampling state of one sequence. It survives preemption, because it depends only on the
/// tokens generated so far.
pub struct Sampler {
    temperature: f32,
    min_p: f32,
    top_k: usize,
    top_p: f32,
    penalties: Penalties,
    random: SplitMix64,
}

/// Memory of one sampling, kept for the next.
#[derive(Default)]
pub struct SamplerScratch {
    maxima: Vec<f32>,
    room: DrawScratch,
}

/// What only drawing at random needs.
#[derive(Default)]
struct DrawScratch {
    /// Of the whole vocabulary; see [`exp_weights`].
    weights: Vec<f32>,
    sums: Vec<f64>,
    candidates: Candidates,
}

/// What makes repeated tokens less likely.
struct Penalties {
    presence: f32,
    frequency: f32,
    repetition: f32,
    /// Empty unless a penalty is on.
    seen: HashMap<u32, Seen>,
}

#[derive(Default)]
struct Seen {
    /// Times that the token was generated; zero when it is only in the prompt.
    generated: u32,
}

/// Below it the likeliest token is taken, as in vLLM (`_SAMPLING_EPS`): a smaller temperature would
/// only tell apart logits that differ by rounding.
const TEMPERATURE_MIN: f32 = 1e-5;

// === impl Sampler ===

impl Sampler {
    /// The sampler of one choice. Without a seed, every request and choice samples differently.
    pub fn new(sampling: &Sampling, choice: usize, prompt: &[u32]) -> Sampler {
        Sampler {
            temperature: sampling.temperature,
            min_p: sampling.min_p,
            top_k: sampling.top_k as usize,
            top_p: sampling.top_p,
            penalties: Penalties::new(sampling, prompt),
            random: match sampling.seed {
                Some(seed) => SplitMix64::for_choice(seed, choice),
                None => SplitMix64::new(unpredictable_seed()),
            },
        }
    }

    /// Chooses a token and remembers it.
    pub fn sample(&mut self, logits: &mut [f32], scratch: &mut SamplerScratch) -> u32 {
        let token = self.choose(logits, scratch);
        self.record(token);
        token
    }

    /// Chooses a token. `logits` has one value for each token of the vocabulary and is changed by
    /// the penalties.
    pub fn choose(&mut self, logits: &mut [f32], scratch: &mut SamplerScratch) -> u32 {
        self.penalties.apply(logits);
        let row = Row::new(logits, self.temperature, &mut scratch.maxima);
        if self.temperature < TEMPERATURE_MIN || !row.max.is_finite() {
            return row.likeliest();
        }
        self.draw(&row, &mut scratch.room)
    }

    /// Whether [`Sampler::choose`] changes logits.
    pub fn changes_logits(&self) -> bool {
        !self.penalties.seen.is_empty()
    }

    /// Remembers that a token was generated.
    pub fn record(&mut self, token: u32) {
        self.penalties.record(token);
    }

    /// Draws from what temperature, `min_p`, `top_k` and `top_p` leave. Of a whole vocabulary the
    /// weights are summed up in blocks, and only one block is then walked; where tokens are cut
    /// off, only as many of the likeliest are looked at as are needed.
    fn draw(&mut self, row: &Row<'_>, scratch: &mut DrawScratch) -> u32 {
        let DrawScratch {
            weights,
            sums,
            candidates,
        } = scratch;
        if self.top_k > 0 && self.top_k < row.logits.len() {
            candidates.take_top_k(row, self.min_p, self.top_k);
            if self.top_p < 1.0 {
                let total = candidates.total();
                candidates.keep_top_p(total * f64::from(self.top_p));
            }
            return candidates.pick(self.random.unit());
        }
        weights.resize(row.logits.len(), 0.0);
        sums.resize(row.logits.len().div_ceil(LOGITS_PER_BLOCK), 0.0);
        let Row {
            logits,
            max,
            temperature,
            ..
        } = *row;
        exp_weights(logits, max, temperature, self.min_p, weights, sums);
        let total: f64 = sums.iter().sum();
        if self.top_p < 1.0 {
            candidates.take_top_p(row, self.min_p, total * f64::from(self.top_p));
            return candidates.pick(self.random.unit());
        }
        pick_weight(weights, sums, self.random.unit() * total)
    }
}

// === impl Penalties ===

impl Penalties {
    fn new(sampling: &Sampling, prompt: &[u32]) -> Penalties {
        let mut penalties = Penalties {
            presence: sampling.presence_penalty,
            frequency: sampling.frequency_penalty,
            repetition: sampling.repetition_penalty,
            seen: HashMap::new(),
        };
        if penalties.repetition != 1.0 {
            penalties
                .seen
                .extend(prompt.iter().map(|&token| (token, Seen::default())));
        }
        penalties
    }

    /// OpenAI's formula for presence and frequency, over generated tokens; for repetition that of
    /// CTRL (Keskar et al. 2019, section 4.1), over the prompt as well, as Hugging Face and vLLM.
    fn apply(&self, logits: &mut [f32]) {
        for (&token, seen) in &self.seen {
            let Some(logit) = logits.get_mut(token as usize) else {
                continue;
            };
            if *logit > 0.0 {
                *logit /= self.repetition;
            } else {
                *logit *= self.repetition;
            }
            if seen.generated > 0 {
                *logit -= self.presence + self.frequency * seen.generated as f32;
            }
        }
    }

    fn record(&mut self, token: u32) {
        if self.presence != 0.0 || self.frequency != 0.0 || self.repetition != 1.0 {
            self.seen.entry(token).or_default().generated += 1;
        }
    }
}

/// The token whose weight covers `target` when all weights are laid end to end in the order of the
/// ids. `sums` has the weight of each block.
fn pick_weight(weights: &[f32], sums: &[f64], target: f64) -> u32 {
    let mut sum = 0.0;
    let covers = |block_sum: &f64| {
        let covers = sum + block_sum > target;
        if !covers {
            sum += block_sum;
        }
        covers
    };
    let block = sums.iter().position(covers);
    let first = block.map_or(weights.len(), |block| block * LOGITS_PER_BLOCK);
    for (index, &weight) in weights[first..].iter().enumerate() {
        sum += f64::from(weight);
        if sum > target {
            return (first + index) as u32;
        }
    }
    // Rounding may leave the sum a little short of the target.
    weights
        .iter()
        .rposition(|&weight| weight > 0.0)
        .map_or(0, |last| last as u32)
}
