//! The likeliest tokens of a distribution, found without sorting the vocabulary.

use std::cmp::Ordering;

use farthing_kernels::{LOGITS_PER_BLOCK, block_maxima, exp};

/// Tokens to draw from, with their weights.
#[derive(Default)]
pub(super) struct Candidates {
    kept: Vec<Candidate>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    id: u32,
    /// The probability times a factor that all candidates share; the likeliest has 1.
    weight: f32,
}

/// The logits of one position, looked over once.
pub(super) struct Row<'a> {
    pub(super) logits: &'a [f32],
    /// Of each block; see [`block_maxima`].
    maxima: &'a [f32],
    /// The largest of all.
    pub(super) max: f32,
    pub(super) temperature: f32,
}

/// Candidates sorted at first when a share of the probability asks for order: it nearly always
/// suffices.
const SORTED_FIRST: usize = 128;

/// How far below the likeliest token the first search goes, in nats; the next ones go twice as far.
const SEARCH_NATS: f32 = 4.0;

/// Below this a weight is zero.
const SEARCH_NATS_MAX: f32 = 88.0;

// === impl Candidates ===

impl Candidates {
    /// Takes the `k` likeliest tokens that have a share of the likeliest one's probability of
    /// `min_p` at least. If that leaves any out, they are in order, likeliest first, and otherwise
    /// in the order of the ids.
    pub(super) fn take_top_k(&mut self, row: &Row<'_>, min_p: f32, k: usize) {
        let mut nats = SEARCH_NATS;
        loop {
            self.take(row, nats);
            if self.kept.len() > k || nats >= SEARCH_NATS_MAX || exp(-nats) < min_p {
                break;
            }
            nats *= 2.0;
        }
        self.kept
            .retain(|candidate| candidate.weight > 0.0 && candidate.weight >= min_p);
        if k < self.kept.len() {
            self.kept.select_nth_unstable_by(k, Candidate::order);
            self.kept.truncate(k);
            // The selection's order within is unspecified; a sampled answer must not depend on it.
            self.kept.sort_unstable_by(Candidate::order);
        }
    }

    /// Takes the fewest likeliest tokens that together weigh `wanted` at least, likeliest first,
    /// none of them lighter than `min_p`.
    pub(super) fn take_top_p(&mut self, row: &Row<'_>, min_p: f32, wanted: f64) {
        let mut nats = SEARCH_NATS;
        loop {
            self.take(row, nats);
            if nats >= SEARCH_NATS_MAX || self.total() >= wanted {
                break;
            }
            nats *= 2.0;
        }
        self.kept
            .retain(|candidate| candidate.weight > 0.0 && candidate.weight >= min_p);
        self.keep_top_p(wanted);
    }

    /// Keeps the fewest likeliest candidates that together weigh `wanted` at least, likeliest
    /// first. Only as many of the likeliest are sorted as are needed.
    pub(super) fn keep_top_p(&mut self, wanted: f64) {
        let mut sorted = 0;
        let mut sum = 0.0;
        while sorted < self.kept.len() {
            let unsorted = &mut self.kept[sorted..];
            let next = (sorted * 3).max(SORTED_FIRST).min(unsorted.len());
            if next < unsorted.len() {
                unsorted.select_nth_unstable_by(next, Candidate::order);
            }
            unsorted[..next].sort_unstable_by(Candidate::order);
            for (index, candidate) in unsorted[..next].iter().enumerate() {
                sum += f64::from(candidate.weight);
                if sum >= wanted {
                    self.kept.truncate(sorted + index + 1);
                    return;
                }
            }
            sorted += next;
        }
    }

    /// What all candidates weigh together.
    pub(super) fn total(&self) -> f64 {
        let weights = self.kept.iter().map(|candidate| candidate.weight);
        weights.map(f64::from).sum()
    }

    /// The candidate on which a random number from 0 to below 1 falls.
    pub(super) fn pick(&self, random: f64) -> u32 {
        let target = random * self.total();
        let mut sum = 0.0;
        for candidate in &self.kept {
            sum += f64::from(candidate.weight);
            if sum > target {
                return candidate.id;
            }
        }
        // Rounding may leave the sum a little short of the target.
        self.kept.last().map_or(0, |candidate| candidate.id)
    }

    /// Every token no more than `nats` below the likeliest, in the order of the ids.
    fn take(&mut self, row: &Row<'_>, nats: f32) {
        self.kept.clear();
        let least = row.max - nats * row.temperature;
        for (index, logits) in row.blocks_from(least) {
            for (within, &logit) in logits.iter().enumerate() {
                // False for what is not a number.
                if logit >= least {
                    self.kept.push(Candidate {
                        id: (index * LOGITS_PER_BLOCK + within) as u32,
                        weight: exp((logit - row.max) / row.temperature),
                    });
                }
            }
        }
    }
}

// === impl Row ===

impl<'a> Row<'a> {
    /// Looks over the logits of one position, `maxima` being memory for what is seen.
    pub(super) fn new(logits: &'a [f32], temperature: f32, maxima: &'a mut Vec<f32>) -> Row<'a> {
        maxima.resize(logits.len().div_ceil(LOGITS_PER_BLOCK), 0.0);
        block_maxima(logits, maxima);
        let max = maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Row {
            logits,
            maxima,
            max,
            temperature,
        }
    }

    /// The first token of the largest logit; token 0 if none is possible.
    pub(super) fn likeliest(&self) -> u32 {
        if self.max == f32::NEG_INFINITY {
            return 0;
        }
        for (index, logits) in self.blocks_from(self.max) {
            if let Some(within) = logits.iter().position(|&logit| logit == self.max) {
                return (index * LOGITS_PER_BLOCK + within) as u32;
            }
        }
        0
    }

    /// The blocks that have a logit of `least` or more, with their index.
    pub(super) fn blocks_from(&self, least: f32) -> impl Iterator<Item = (usize, &'a [f32])> {
        let blocks = self.logits.chunks(LOGITS_PER_BLOCK);
        let maxima = self.maxima.iter();
        let known = blocks.zip(maxima).enumerate();
        known
            .filter(move |(_, (_, max))| **max >= least)
            .map(|(index, (logits, _))| (index, logits))
    }
}

// === impl Candidate ===

impl Candidate {
    /// Likeliest first; of equal ones, the smaller id.
    fn order(a: &Candidate, b: &Candidate) -> Ordering {
        b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id))
    }
}
