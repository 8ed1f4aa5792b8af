//! Chooses one token for each row of logits, with the meaning and in the order of the CPU's
//! sampler: penalties, temperature, `min_p`, `top_k`, `top_p`, then one random number.
//!
//! The random number falls on the survivors' weights in the order of the ids if neither `top_k` nor
//! `top_p` removed a token, and otherwise likeliest first, of equal ones the smaller id first. At a
//! temperature that is practically 0, or if the largest logit is infinite, the likeliest token is
//! taken. The scores are of the softmax of the logits after penalties at temperature 1.

use super::lengths::{check_lengths, dimension, rows};
use super::{Arg, CudaError, Device, Launch};

/// Most tokens of a vocabulary: their weights, in units of 2^-44, then sum up to no more than 2^63.
pub const VOCABULARY_MAX: usize = 1 << 19;
/// Below it the likeliest token is taken.
pub const TEMPERATURE_MIN: f32 = 1e-5;
/// The log-probability of what cannot happen, as OpenAI writes it.
pub const NEVER: f32 = -9999.0;

const THREADS: u32 = 1024;
const KERNEL: &str = "sample_tokens";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Sequences.
    pub rows: usize,
    pub vocabulary: usize,
}

/// How one row is sampled: `SampleParameters` of the kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct SampleParameters {
    pub temperature: f32,
    /// 1 or more keeps all.
    pub top_p: f32,
    /// 0 keeps all.
    pub min_p: f32,
    /// 1 does nothing.
    pub repetition: f32,
    pub presence: f32,
    pub frequency: f32,
    /// 0 keeps all.
    pub top_k: u32,
    pub reserved: u32,
    /// The random number, from 0 to below 1.
    pub uniform: f64,
}

/// What is said about one choice: `SampleScores` of the kernel. Natural logarithms.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct SampleScores {
    /// Of the token that was chosen.
    pub logprob: f32,
    /// Of the whole distribution.
    pub entropy: f32,
    /// The largest probability less the second.
    pub margin: f32,
    /// Of the likeliest token.
    pub max_logprob: f32,
}

/// The tokens that a row's sequence has, for the penalties.
pub struct History<'a, B> {
    /// u32 `[rows + 1]`: where each row's tokens begin, and where the last one's end.
    pub starts: &'a B,
    /// u32: each token of a row once.
    pub tokens: &'a B,
    /// u32: how often each was generated; zero if it is only in the prompt.
    pub counts: &'a B,
}

pub struct Operands<'a, B> {
    /// f32 `[rows][vocabulary]`. The penalties change it.
    pub logits: &'a B,
    /// [`SampleParameters`] `[rows]`.
    pub parameters: &'a B,
    /// None if no row has a penalty.
    pub history: Option<History<'a, B>>,
    /// u32 `[rows]`.
    pub tokens: &'a B,
    /// [`SampleScores`] `[rows]`.
    pub scores: &'a B,
}

// === impl SampleParameters ===

impl SampleParameters {
    /// The likeliest token, no penalties.
    pub const GREEDY: SampleParameters = SampleParameters {
        temperature: 0.0,
        top_p: 1.0,
        min_p: 0.0,
        repetition: 1.0,
        presence: 0.0,
        frequency: 0.0,
        top_k: 0,
        reserved: 0,
        uniform: 0.0,
    };
    /// Bytes on the device.
    pub const BYTES: usize = size_of::<SampleParameters>();

    /// As the kernel reads it.
    pub fn to_bytes(&self) -> [u8; SampleParameters::BYTES] {
        let mut bytes = [0; SampleParameters::BYTES];
        let words = [
            self.temperature.to_bits(),
            self.top_p.to_bits(),
            self.min_p.to_bits(),
            self.repetition.to_bits(),
            self.presence.to_bits(),
            self.frequency.to_bits(),
            self.top_k,
            self.reserved,
        ];
        let (head, tail) = bytes.split_at_mut(4 * words.len());
        for (to, word) in head.as_chunks_mut().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
        tail.copy_from_slice(&self.uniform.to_le_bytes());
        bytes
    }
}

// === impl SampleScores ===

impl SampleScores {
    /// Bytes on the device.
    pub const BYTES: usize = size_of::<SampleScores>();

    /// As the kernel writes it.
    pub fn from_bytes(bytes: &[u8; SampleScores::BYTES]) -> SampleScores {
        let word = |at: usize| {
            f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        SampleScores {
            logprob: word(0),
            entropy: word(4),
            margin: word(8),
            max_logprob: word(12),
        }
    }
}

// === Running ===

impl Shape {
    /// How the kernel is started.
    ///
    /// # Errors
    /// The kernel does not take the shape.
    pub fn launch(&self) -> Result<Launch, CudaError> {
        let rows = rows(KERNEL, self.rows)?;
        let (range, rule) = (1..=VOCABULARY_MAX, "it must be 1 to 524,288");
        dimension(KERNEL, "vocabulary", self.vocabulary, range, rule)?;
        Ok(Launch {
            kernel: KERNEL,
            grid: [rows, 1, 1],
            threads: THREADS,
            shared_bytes: 0,
        })
    }
}

/// Queues the operation.
///
/// # Errors
/// The kernel does not take the shape, a buffer is too short for it, or the device fails.
pub fn run<D: Device>(
    device: &mut D,
    shape: &Shape,
    operands: &Operands<'_, D::Buffer>,
) -> Result<(), CudaError> {
    let launch = shape.launch()?;
    let (rows, logits) = (shape.rows, 4 * shape.rows * shape.vocabulary);
    let parameters = rows * SampleParameters::BYTES;
    check_lengths(
        device,
        KERNEL,
        &[
            ("logits", operands.logits, logits),
            ("parameters", operands.parameters, parameters),
            ("tokens", operands.tokens, 4 * rows),
            ("scores", operands.scores, rows * SampleScores::BYTES),
        ],
    )?;
    let (history, history_len) = match &operands.history {
        Some(history) => {
            let starts = ("history_starts", history.starts, 4 * (rows + 1));
            check_lengths(device, KERNEL, &[starts])?;
            let bytes = device.len(history.tokens).min(device.len(history.counts));
            let len = u32::try_from(bytes / 4).unwrap_or(u32::MAX);
            let [starts, tokens, counts] = [history.starts, history.tokens, history.counts];
            ([starts, tokens, counts].map(Arg::Buffer), len)
        }
        None => ([Arg::Null, Arg::Null, Arg::Null], 0),
    };
    let [history_starts, history_tokens, history_counts] = history;
    let arguments = [
        Arg::Buffer(operands.logits),
        Arg::Buffer(operands.parameters),
        history_starts,
        history_tokens,
        history_counts,
        Arg::U32(history_len),
        Arg::U32(shape.vocabulary as u32),
        Arg::Buffer(operands.tokens),
        Arg::Buffer(operands.scores),
    ];
    // SAFETY: the arguments are the kernel's in its order, and the buffers were just found to be as
    // long as the shape; the kernel reads no history beyond `history_len` and ignores tokens that
    // are not in the vocabulary.
    unsafe { device.launch(&launch, &arguments) }
}

// === The reference ===

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Survivor {
    pub id: u32,
    pub logit: f32,
    /// Its probability times a factor that all share; the likeliest has 1.
    pub weight: f64,
}

/// Applies the penalties of tokens and how often each was generated.
pub fn penalise(logits: &mut [f32], parameters: &SampleParameters, history: &[(u32, u32)]) {
    for &(token, count) in history {
        let Some(logit) = logits.get_mut(token as usize) else {
            continue;
        };
        if *logit > 0.0 {
            *logit /= parameters.repetition;
        } else {
            *logit *= parameters.repetition;
        }
        if count > 0 {
            *logit -= parameters.presence + parameters.frequency * count as f32;
        }
    }
}

/// The first largest logit; token 0 if none is possible.
pub fn likeliest(logits: &[f32]) -> (u32, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &logit) in logits.iter().enumerate() {
        if logit > best.1 {
            best = (id as u32, logit);
        }
    }
    best
}

/// What temperature, `min_p`, `top_k` and `top_p` leave, in the order that is drawn from.
pub fn survivors(logits: &[f32], parameters: &SampleParameters) -> Vec<Survivor> {
    let (_, max) = likeliest(logits);
    let tokens = logits.iter().enumerate().map(|(id, &logit)| {
        let x = f64::from((logit - max) / parameters.temperature);
        let (id, weight) = (id as u32, x.exp());
        Survivor { id, logit, weight }
    });
    // In f32, as on the CPU; false for what is not a number, too.
    let possible = |weight: f64| weight as f32 > 0.0 && weight >= f64::from(parameters.min_p);
    let mut kept: Vec<Survivor> = tokens.filter(|token| possible(token.weight)).collect();
    let top_k = match parameters.top_k as usize {
        0 => kept.len(),
        top_k => top_k,
    };
    if top_k >= kept.len() && parameters.top_p >= 1.0 {
        return kept;
    }
    kept.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id)));
    kept.truncate(top_k);
    if parameters.top_p < 1.0 {
        let wanted = total(&kept) * f64::from(parameters.top_p);
        let mut sum = 0.0;
        let reached = kept.iter().position(|token| {
            sum += token.weight;
            sum >= wanted
        });
        kept.truncate(reached.map_or(kept.len(), |index| index + 1));
    }
    kept
}

/// The sum of the weights.
pub fn total(survivors: &[Survivor]) -> f64 {
    survivors.iter().map(|token| token.weight).sum()
}

/// The token, from logits after penalties.
pub fn reference(logits: &[f32], parameters: &SampleParameters) -> u32 {
    let (best, max) = likeliest(logits);
    if parameters.temperature < TEMPERATURE_MIN || !max.is_finite() {
        return best;
    }
    let kept = survivors(logits, parameters);
    let target = parameters.uniform * total(&kept);
    let mut sum = 0.0;
    let drawn = kept.iter().find(|token| {
        sum += token.weight;
        sum > target
    });
    drawn.or(kept.last()).map_or(0, |token| token.id)
}

/// What is said about `token`, from logits after penalties.
pub fn reference_scores(logits: &[f32], token: u32) -> SampleScores {
    let (best, max) = likeliest(logits);
    if !max.is_finite() {
        return SampleScores {
            logprob: NEVER,
            entropy: 0.0,
            margin: 0.0,
            max_logprob: NEVER,
        };
    }
    let possible = logits.iter().filter(|logit| !logit.is_nan());
    let shifted: Vec<f64> = possible.map(|x| f64::from(*x) - f64::from(max)).collect();
    let sum: f64 = shifted.iter().map(|x| x.exp()).sum();
    let probabilities = shifted.iter().map(|x| x.exp() / sum);
    let entropy = probabilities
        .filter(|p| *p > 0.0)
        .map(|p| -p * p.ln())
        .sum::<f64>();
    let others = logits
        .iter()
        .enumerate()
        .filter(|(id, _)| *id != best as usize);
    let second = others.fold(f64::NEG_INFINITY, |second, (_, x)| {
        second.max(f64::from(*x))
    });
    let logprob = f64::from(logits[token as usize]) - f64::from(max) - sum.ln();
    SampleScores {
        logprob: if logprob.is_finite() {
            logprob as f32
        } else {
            NEVER
        },
        entropy: entropy as f32,
        margin: ((1.0 - (second - f64::from(max)).exp()) / sum) as f32,
        max_logprob: -sum.ln() as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: SampleParameters = SampleParameters {
        temperature: 1.0,
        ..SampleParameters::GREEDY
    };

    #[test]
    fn parameters_lie_as_the_kernel_reads_them() {
        let bytes = SampleParameters {
            top_k: 7,
            uniform: 0.5,
            ..ALL
        }
        .to_bytes();
        assert_eq!(bytes.len(), 40);
        assert_eq!(bytes[..4], 1.0f32.to_le_bytes());
        assert_eq!(bytes[24..28], 7u32.to_le_bytes());
        assert_eq!(bytes[32..], 0.5f64.to_le_bytes());
    }

    #[test]
    fn the_reference_cuts_and_draws() {
        let logits = [1.0, f32::NAN, 3.0, 3.0, f32::NEG_INFINITY, 2.0];
        let ids = |parameters: SampleParameters| -> Vec<u32> {
            let kept = survivors(&logits, &parameters);
            kept.iter().map(|token| token.id).collect()
        };
        assert_eq!(ids(ALL), [0, 2, 3, 5]);
        assert_eq!(ids(SampleParameters { top_k: 3, ..ALL }), [2, 3, 5]);
        assert_eq!(ids(SampleParameters { top_k: 1, ..ALL }), [2]);
        assert_eq!(ids(SampleParameters { top_p: 0.5, ..ALL }), [2, 3]);
        assert_eq!(ids(SampleParameters { top_p: 0.0, ..ALL }), [2]);
        assert_eq!(ids(SampleParameters { min_p: 0.3, ..ALL }), [2, 3, 5]);
        assert_eq!(reference(&logits, &ALL), 0);
        let last = SampleParameters {
            uniform: 0.999,
            ..ALL
        };
        assert_eq!(reference(&logits, &last), 5);
        assert_eq!(reference(&logits, &SampleParameters::GREEDY), 2);
        assert_eq!(reference(&[f32::NAN], &ALL), 0);
    }

    #[test]
    fn penalties_are_those_of_the_sampler() {
        let mut logits = [2.0, -2.0, 1.0];
        let parameters = SampleParameters {
            repetition: 2.0,
            presence: 0.5,
            frequency: 0.25,
            ..ALL
        };
        penalise(&mut logits, &parameters, &[(0, 2), (1, 0), (9, 1)]);
        assert_eq!(logits, [0.0, -4.0, 1.0]);
    }

    #[test]
    fn other_shapes_are_refused_by_name() {
        for (rows, vocabulary, refused) in [
            (0, 10, "rows"),
            (1, 0, "vocabulary"),
            (1, VOCABULARY_MAX + 1, "vocabulary"),
        ] {
            match (Shape { rows, vocabulary }).launch() {
                Err(CudaError::Shape { name, .. }) => assert_eq!(name, refused),
                other => panic!("{refused}: {other:?}"),
            }
        }
    }
}
