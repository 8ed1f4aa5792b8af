//! From prompts that both models have answered to a pre-router, and to what each of them would have
//! been told by one that had not seen it.

use std::num::NonZeroUsize;

use farthing_core::limits::GAIN_QUANTILES;
use farthing_kernels::ThreadPool;

use super::Gain;
use super::features::{FEATURES, features, names};
use super::file::{Learned, Measured, NEIGHBOURS, PreRouter};
use super::fold::Design;
use super::head::Head;
use super::near::{Near, nearest_of_others};
use crate::error::BackendError;
use crate::semantic::index::Quantized;

/// Neighbours that are looked up, so that enough remain when some are left out.
const CANDIDATES: usize = 2 * NEIGHBOURS;
/// A prompt is unlike all others if only so many of a thousand are farther from all others.
const FAR_PER_MILLE: usize = 10;
/// A feature that hardly varies is not blown up.
const DEVIATION_MIN: f64 = 0.05;

/// A prompt, and which of the models was right.
#[derive(Debug, Clone)]
pub struct Example<'a> {
    pub prompt: &'a str,
    pub embedding: Vec<f32>,
    pub weak: bool,
    pub strong: bool,
}

/// Examples as they are learned from.
pub struct Training {
    embeddings: Vec<Vec<f32>>,
    means: Vec<f32>,
    deviations: Vec<f32>,
    /// What the heads read of each.
    rows: Vec<Vec<f32>>,
    design: Design,
    better: Vec<bool>,
    worse: Vec<bool>,
    weak: Vec<bool>,
    outcomes: Vec<i8>,
}

/// Which part each example is in: a file, or a fold of one.
#[derive(Debug, Clone)]
pub struct Parts {
    pub of: Vec<usize>,
    pub count: usize,
}

/// The neighbours of each example in other parts.
struct Neighbours {
    of: Vec<Vec<Near>>,
    near_min: f32,
}

// === impl Training ===

impl Training {
    /// Reads the prompts. All embeddings must have the same width.
    pub fn new(examples: &[Example<'_>]) -> Training {
        let read: Vec<[f64; FEATURES]> = examples.iter().map(|of| features(of.prompt)).collect();
        let (means, deviations) = standard(&read);
        let mut training = Training {
            embeddings: examples.iter().map(|of| of.embedding.clone()).collect(),
            means,
            deviations,
            rows: Vec::new(),
            design: Design::new(&[]),
            better: examples.iter().map(|of| of.strong && !of.weak).collect(),
            worse: examples.iter().map(|of| of.weak && !of.strong).collect(),
            weak: examples.iter().map(|of| of.weak).collect(),
            outcomes: examples
                .iter()
                .map(|of| i8::from(of.weak) | i8::from(of.strong) << 1)
                .collect(),
        };
        let learned = training.learned([Head::default(), Head::default(), Head::default()], 0.0);
        training.rows = read
            .iter()
            .zip(examples)
            .map(|(features, of)| learned.row(features, &of.embedding))
            .collect();
        training.design = Design::new(&training.rows);
        training
    }

    /// What each example is told by a pre-router of those of the other parts.
    ///
    /// # Errors
    /// The examples are degenerate.
    pub fn leave_out(&self, parts: &Parts) -> Result<Vec<Gain>, BackendError> {
        let neighbours = self.neighbours(parts)?;
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let judged = std::thread::scope(|scope| {
            let neighbours = &neighbours;
            let run = |thread: usize| {
                let own = (thread..parts.count).step_by(threads);
                own.map(|part| self.judge_part(parts, part, neighbours))
                    .collect::<Vec<_>>()
            };
            let running: Vec<_> = (0..threads)
                .map(|thread| scope.spawn(move || run(thread)))
                .collect();
            let join = |run: std::thread::ScopedJoinHandle<'_, Vec<_>>| match run.join() {
                Ok(judged) => judged,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            running.into_iter().flat_map(join).collect::<Vec<_>>()
        });
        let mut gains = vec![None; self.rows.len()];
        for of_part in judged {
            for (at, gain) in of_part? {
                gains[at] = Some(gain);
            }
        }
        gains
            .into_iter()
            .collect::<Option<_>>()
            .ok_or_else(degenerate)
    }

    /// The examples of a part with what they are told.
    fn judge_part(
        &self,
        parts: &Parts,
        part: usize,
        neighbours: &Neighbours,
    ) -> Result<Vec<(usize, Gain)>, BackendError> {
        let is_out = |at: usize| parts.of[at] == part;
        let learned = self.learn(neighbours, &is_out)?;
        let judge = |at| (at, self.told(&learned, neighbours, at, &is_out));
        Ok((0..self.rows.len())
            .filter(|at| is_out(*at))
            .map(judge)
            .collect())
    }

    /// The pre-router of all examples. `parts` say whose neighbours in the calibration are not to
    /// be taken for those that a new prompt would have.
    ///
    /// # Errors
    /// The examples are too few or degenerate.
    pub fn finish(&self, parts: &Parts, measured: Measured) -> Result<PreRouter, BackendError> {
        let learned = self.learn(&self.neighbours(parts)?, &|_| false)?;
        let vectors: Vec<Quantized> = self.embeddings.iter().map(|of| Quantized::of(of)).collect();
        PreRouter::new(Learned {
            scales: vectors.iter().map(|vector| vector.scale).collect(),
            numbers: vectors
                .into_iter()
                .flat_map(|vector| vector.numbers)
                .collect(),
            measured,
            ..learned
        })
    }

    fn neighbours(&self, parts: &Parts) -> Result<Neighbours, BackendError> {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let vectors: Vec<&[f32]> = self.embeddings.iter().map(Vec::as_slice).collect();
        let pool = ThreadPool::new(threads);
        let of = nearest_of_others(&pool, &vectors, &parts.of, CANDIDATES)?;
        let mut nearest: Vec<f32> = (of.iter())
            .map(|near| near.first().map_or(0.0, |near| near.cosine))
            .collect();
        nearest.sort_by(f32::total_cmp);
        let far = nearest.len() * FAR_PER_MILLE / 1_000;
        let near_min = nearest.get(far).copied().unwrap_or_default();
        Ok(Neighbours { of, near_min })
    }

    fn learn(
        &self,
        neighbours: &Neighbours,
        is_out: &dyn Fn(usize) -> bool,
    ) -> Result<Learned, BackendError> {
        let labels: [&[bool]; 3] = [&self.better, &self.worse, &self.weak];
        let heads = self.design.fit(&labels, is_out).ok_or_else(degenerate)?;
        let heads = <[Head; 3]>::try_from(heads).map_err(|_| degenerate())?;
        let mut learned = self.learned(heads, neighbours.near_min);
        let kept = (0..self.rows.len()).filter(|at| !is_out(*at));
        let mut gains: Vec<f32> = kept
            .map(|at| self.told(&learned, neighbours, at, is_out).value)
            .collect();
        gains.sort_by(f32::total_cmp);
        learned.quantiles = (0..GAIN_QUANTILES)
            .filter_map(|i| gains.get(i * gains.len().saturating_sub(1) / (GAIN_QUANTILES - 1)))
            .copied()
            .collect();
        Ok(learned)
    }

    /// What an example is told, by neighbours that are not left out.
    fn told(
        &self,
        learned: &Learned,
        neighbours: &Neighbours,
        at: usize,
        is_out: &dyn Fn(usize) -> bool,
    ) -> Gain {
        let near = neighbours.of[at].iter().filter(|near| !is_out(near.at));
        let near = near.take(NEIGHBOURS).map(|near| (near.cosine, near.at));
        learned.gain(&self.rows[at], near)
    }

    fn learned(&self, [better, worse, weak_right]: [Head; 3], near_min: f32) -> Learned {
        Learned {
            features: names().map(str::to_owned).collect(),
            means: self.means.clone(),
            deviations: self.deviations.clone(),
            better,
            worse,
            weak_right,
            quantiles: Vec::new(),
            near_min,
            scales: Vec::new(),
            numbers: Vec::new(),
            outcomes: self.outcomes.clone(),
            measured: Measured::default(),
        }
    }
}

fn degenerate() -> BackendError {
    BackendError::PreRouter("cannot be learned from these rows".to_owned())
}

/// What features are reduced by and divided by. No outcome has a say in it.
fn standard(read: &[[f64; FEATURES]]) -> (Vec<f32>, Vec<f32>) {
    let count = read.len().max(1) as f64;
    let mean_of =
        |value: &dyn Fn(&[f64; FEATURES]) -> f64| read.iter().map(value).sum::<f64>() / count;
    let means: Vec<f64> = (0..FEATURES).map(|i| mean_of(&|row| row[i])).collect();
    let deviation = |(i, mean): (usize, &f64)| {
        let variance = mean_of(&|row| (row[i] - mean) * (row[i] - mean));
        variance.sqrt().max(DEVIATION_MIN) as f32
    };
    let deviations = means.iter().enumerate().map(deviation).collect();
    (means.iter().map(|mean| *mean as f32).collect(), deviations)
}
