//! Chooses the next token of one sequence. The order is vLLM's: penalties, temperature, `min_p`,
//! `top_k`, `top_p`, then one random number; at a temperature that is practically 0 the likeliest
//! token after penalties, the smaller id of two equal ones.
//!
//! The same logits, parameters and seed give the same token on every run. A logit that is not a
//! number counts as impossible; if nothing is possible, token 0 is chosen and nothing breaks.

use std::cmp::Ordering;
use std::collections::HashMap;

use farthing_core::wire::Sampling;

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

/// Memory that all sequences share while they sample, one after another.
#[derive(Default)]
pub struct SamplerScratch {
    candidates: Vec<Candidate>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    id: u32,
    /// The probability times a factor that all candidates share; the likeliest has 1.
    weight: f32,
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

/// Candidates sorted at first when `top_p` asks for order: it nearly always suffices.
const SORTED_FIRST: usize = 128;

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

    /// Chooses a token and remembers it. `logits` has one value for each token of the vocabulary
    /// and is changed by the penalties.
    pub fn sample(&mut self, logits: &mut [f32], scratch: &mut SamplerScratch) -> u32 {
        self.penalties.apply(logits);
        let (best, max) = argmax(logits);
        let token = if self.temperature < TEMPERATURE_MIN || !max.is_finite() {
            best
        } else {
            self.draw(logits, max, scratch)
        };
        self.penalties.record(token);
        token
    }

    /// Draws from what temperature, `min_p`, `top_k` and `top_p` leave.
    fn draw(&mut self, logits: &[f32], max: f32, scratch: &mut SamplerScratch) -> u32 {
        let candidates = &mut scratch.candidates;
        candidates.clear();
        for (id, &logit) in logits.iter().enumerate() {
            let weight = ((logit - max) / self.temperature).exp();
            // False for what is not a number, too.
            if weight > 0.0 && weight >= self.min_p {
                candidates.push(Candidate {
                    id: id as u32,
                    weight,
                });
            }
        }
        if self.top_k > 0 && self.top_k < candidates.len() {
            candidates.select_nth_unstable_by(self.top_k, Candidate::order);
            candidates.truncate(self.top_k);
            // The selection's order within is unspecified; a sampled answer must not depend on it.
            candidates.sort_unstable_by(Candidate::order);
        }
        if self.top_p < 1.0 {
            keep_top_p(candidates, f64::from(self.top_p));
        }
        let target = self.random.unit() * total(candidates);
        let mut sum = 0.0;
        for candidate in candidates.iter() {
            sum += f64::from(candidate.weight);
            if sum > target {
                return candidate.id;
            }
        }
        // Rounding may leave the sum a little short of the target.
        candidates.last().map_or(0, |candidate| candidate.id)
    }
}

// === impl Candidate ===

impl Candidate {
    /// Likeliest first; of equal ones, the smaller id.
    fn order(a: &Candidate, b: &Candidate) -> Ordering {
        b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id))
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

/// The first largest logit.
fn argmax(logits: &[f32]) -> (u32, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &logit) in logits.iter().enumerate() {
        // False for what is not a number.
        if logit > best.1 {
            best = (id as u32, logit);
        }
    }
    best
}

/// Keeps the smallest number of likeliest candidates that hold the share `top_p` of the total.
/// Sorting a whole vocabulary for each token would cost more than a layer of a small model, so only
/// as many of the likeliest are sorted as are needed.
fn keep_top_p(candidates: &mut Vec<Candidate>, top_p: f64) {
    let wanted = total(candidates) * top_p;
    let mut sorted = 0;
    let mut sum = 0.0;
    while sorted < candidates.len() {
        let unsorted = &mut candidates[sorted..];
        let next = (sorted * 3).max(SORTED_FIRST).min(unsorted.len());
        if next < unsorted.len() {
            unsorted.select_nth_unstable_by(next, Candidate::order);
        }
        unsorted[..next].sort_unstable_by(Candidate::order);
        for (index, candidate) in unsorted[..next].iter().enumerate() {
            sum += f64::from(candidate.weight);
            if sum >= wanted {
                candidates.truncate(sorted + index + 1);
                return;
            }
        }
        sorted += next;
    }
}

fn total(candidates: &[Candidate]) -> f64 {
    candidates
        .iter()
        .map(|candidate| f64::from(candidate.weight))
        .sum()
}
