//! Sampling: every parameter and their combinations, one to a row, over vocabularies of all lengths
//! modulo four, with logits that are wide, flat, tied, infinite or no numbers.
//!
//! A token is right if the random number falls into its part of the weights; the error is how far
//! it is from there, as a share of the total. Cuts may be decided by rounding, so they are made in
//! the reference a little earlier and later, too.

use super::{Extent, Outcome};
use crate::floats::{f32_bytes, worse};
use crate::paged::u32_bytes;
use crate::random::Random;
use farthing_kernels::cuda::sample::{
    History, Operands, SampleParameters, SampleScores, Shape, Survivor, TEMPERATURE_MIN, likeliest,
    penalise, reference, reference_scores, run, survivors, total,
};
use farthing_kernels::cuda::{CudaError, Device};

/// Of the total of the weights, beside what is drawn exactly.
const TOLERANCE_DRAW: f64 = 2e-6;
/// Of a logarithm or a probability, which are sums of many exponentials in f32.
const TOLERANCE_SCORES: f64 = 2e-5;
/// How much earlier and later `top_p` and `min_p` cut.
const CUT_ROUNDING: f32 = 2e-6;
/// Weights that are nearer to each other than so may come in either order.
const TIE_ROUNDING: f64 = 2e-7;

const SMALL: [usize; 5] = [1, 2, 33, 1000, 5003];
const FULL: [usize; 3] = [49_152, 151_936, 262_144];

/// The shape of a row's logits.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// A few are much likelier than the rest.
    Wide,
    /// All nearly the same: thousands survive every cut.
    Flat,
    /// Multiples of a half.
    Tied,
    /// All the same.
    Equal,
    /// Some are not a number or infinitely unlikely.
    Holed,
    /// One is infinite.
    Infinite,
    /// Not one is possible.
    Impossible,
}

/// A row of every vocabulary.
struct Row {
    name: &'static str,
    kind: Kind,
    parameters: SampleParameters,
    /// Tokens of the history, of which every third is only in the prompt.
    history_len: usize,
}

/// A row's inputs, and its logits after penalties.
struct Inputs {
    logits: Vec<f32>,
    history: Vec<(u32, u32)>,
    parameters: SampleParameters,
    penalised: Vec<f32>,
}

pub fn check<D: Device>(
    device: &mut D,
    extent: Extent,
    random: &mut Random,
) -> Result<Vec<Outcome>, CudaError> {
    let full: &[usize] = match extent {
        Extent::Small => &[],
        Extent::Full => &FULL,
    };
    let mut outcomes = Vec::new();
    for &vocabulary in SMALL.iter().chain(full) {
        let rows = rows();
        let inputs: Vec<Inputs> = rows
            .iter()
            .map(|row| inputs(random, row, vocabulary))
            .collect();
        let (tokens, scores) = sample(device, &inputs, vocabulary)?;
        let mut scores_error = 0.0;
        for (index, (row, inputs)) in rows.iter().zip(&inputs).enumerate() {
            let token = tokens[index];
            outcomes.push(Outcome {
                operation: "sample",
                case: format!("{vocabulary} {:?} {}", row.kind, row.name),
                error: token_error(&inputs.penalised, &inputs.parameters, token),
                tolerance: TOLERANCE_DRAW,
            });
            let error = scores_error_of(&inputs.penalised, token, &scores[index]);
            scores_error = worse(error, scores_error);
        }
        outcomes.push(Outcome {
            operation: "sample",
            case: format!("{vocabulary} scores"),
            error: scores_error,
            tolerance: TOLERANCE_SCORES,
        });
    }
    Ok(outcomes)
}

const GREEDY: SampleParameters = SampleParameters::GREEDY;
const PLAIN: SampleParameters = SampleParameters {
    temperature: 1.0,
    ..GREEDY
};
const HOT: SampleParameters = SampleParameters {
    temperature: 5.0,
    ..PLAIN
};
const MILD: SampleParameters = SampleParameters {
    temperature: 0.8,
    top_p: 0.95,
    ..GREEDY
};
const PENALTIES: SampleParameters = SampleParameters {
    repetition: 1.3,
    presence: 0.5,
    frequency: 0.25,
    ..MILD
};

fn rows() -> Vec<Row> {
    let mut rows = uncut_rows();
    rows.extend(cut_rows());
    rows.extend(rows_with_history());
    rows
}

fn row(name: &'static str, kind: Kind, parameters: SampleParameters) -> Row {
    Row {
        name,
        kind,
        parameters,
        history_len: 0,
    }
}

/// The likeliest token, or one of all.
fn uncut_rows() -> Vec<Row> {
    let cold = SampleParameters {
        temperature: 1e-4,
        ..PLAIN
    };
    vec![
        row("greedy", Kind::Wide, GREEDY),
        row("greedy", Kind::Tied, GREEDY),
        row("greedy", Kind::Holed, GREEDY),
        row("greedy", Kind::Infinite, GREEDY),
        row("greedy", Kind::Impossible, GREEDY),
        row("plain", Kind::Wide, PLAIN),
        row("plain", Kind::Flat, PLAIN),
        row("plain", Kind::Holed, PLAIN),
        row("plain", Kind::Infinite, PLAIN),
        row("plain", Kind::Impossible, PLAIN),
        row("plain", Kind::Equal, PLAIN),
        row("hot", Kind::Wide, HOT),
        row("cold", Kind::Wide, cold),
    ]
}

fn cut_rows() -> Vec<Row> {
    let top_k = |top_k| SampleParameters { top_k, ..PLAIN };
    let top_p = |top_p| SampleParameters { top_p, ..PLAIN };
    let min_p = |min_p| SampleParameters { min_p, ..PLAIN };
    let many = SampleParameters {
        top_k: 3000,
        top_p: 0.9,
        ..HOT
    };
    vec![
        row("top_k 1", Kind::Wide, top_k(1)),
        row("top_k 1", Kind::Tied, top_k(1)),
        row("top_k 7", Kind::Equal, top_k(7)),
        row("top_k 40", Kind::Tied, top_k(40)),
        row("top_k 40", Kind::Holed, top_k(40)),
        row("top_k 3000", Kind::Flat, top_k(3000)),
        row("top_k of all", Kind::Wide, top_k(u32::MAX)),
        row("top_p 0", Kind::Wide, top_p(0.0)),
        row("top_p 1e-9", Kind::Tied, top_p(1e-9)),
        row("top_p 0.5", Kind::Tied, top_p(0.5)),
        row("top_p 0.9", Kind::Flat, top_p(0.9)),
        row("top_p 0.9", Kind::Equal, top_p(0.9)),
        row("top_p 0.999", Kind::Holed, top_p(0.999)),
        row("min_p 1", Kind::Wide, min_p(1.0)),
        row("min_p 1", Kind::Tied, min_p(1.0)),
        row("min_p 0.05", Kind::Wide, min_p(0.05)),
        row("min_p above 1", Kind::Wide, min_p(2.0)),
        row("many", Kind::Flat, many),
        row("mild", Kind::Wide, MILD),
    ]
}

fn rows_with_history() -> Vec<Row> {
    let greedy = SampleParameters {
        temperature: 0.0,
        ..PENALTIES
    };
    let all = SampleParameters {
        top_k: 40,
        min_p: 0.02,
        ..PENALTIES
    };
    [
        row("greedy penalties", Kind::Wide, greedy),
        row("penalties", Kind::Wide, PENALTIES),
        row("penalties", Kind::Holed, PENALTIES),
        row("all", Kind::Wide, all),
        row("all", Kind::Tied, all),
    ]
    .map(|row| Row {
        history_len: 20,
        ..row
    })
    .into()
}

fn inputs(random: &mut Random, row: &Row, vocabulary: usize) -> Inputs {
    let mut logits: Vec<f32> = (0..vocabulary).map(|_| logit(random, row.kind)).collect();
    if row.kind == Kind::Infinite {
        logits[random.below(vocabulary)] = f32::INFINITY;
    }
    let mut history: Vec<(u32, u32)> = Vec::new();
    for index in 0..row.history_len {
        // One more than there are: what is not in the vocabulary is ignored.
        let token = random.below(vocabulary + 1) as u32;
        if history.iter().all(|(other, _)| *other != token) {
            history.push((token, index as u32 % 3));
        }
    }
    let parameters = SampleParameters {
        uniform: (random.bits() >> 11) as f64 / (1u64 << 53) as f64,
        ..row.parameters
    };
    let mut penalised = logits.clone();
    penalise(&mut penalised, &parameters, &history);
    Inputs {
        logits,
        history,
        parameters,
        penalised,
    }
}

fn logit(random: &mut Random, kind: Kind) -> f32 {
    // About normal, as the logits of models.
    let normal: f32 = random.values(6).iter().sum::<f32>() * 2.0;
    match kind {
        Kind::Wide | Kind::Infinite => normal,
        Kind::Flat => 0.1 * random.value(),
        Kind::Tied => normal.round() / 2.0,
        Kind::Equal => 1.5,
        Kind::Holed => match random.below(4) {
            0 => f32::NAN,
            1 => f32::NEG_INFINITY,
            _ => normal,
        },
        Kind::Impossible => [f32::NAN, f32::NEG_INFINITY][random.below(2)],
    }
}

/// The device's tokens and scores.
fn sample<D: Device>(
    device: &mut D,
    inputs: &[Inputs],
    vocabulary: usize,
) -> Result<(Vec<u32>, Vec<SampleScores>), CudaError> {
    let rows = inputs.len();
    let mut starts = vec![0];
    let (mut history_tokens, mut history_counts) = (Vec::new(), Vec::new());
    let (mut logits, mut parameters) = (Vec::new(), Vec::new());
    for row in inputs {
        logits.extend_from_slice(&row.logits);
        parameters.extend(row.parameters.to_bytes());
        history_tokens.extend(row.history.iter().map(|(token, _)| *token));
        history_counts.extend(row.history.iter().map(|(_, count)| *count));
        starts.push(history_tokens.len() as u32);
    }
    let logits = device.upload(&f32_bytes(&logits))?;
    let parameters = device.upload(&parameters)?;
    let starts = device.upload(&u32_bytes(&starts))?;
    let history_tokens = device.upload(&u32_bytes(&history_tokens))?;
    let history_counts = device.upload(&u32_bytes(&history_counts))?;
    let tokens = device.filled(4 * rows, 0xff)?;
    let scores = device.filled(rows * SampleScores::BYTES, 0xff)?;
    let operands = Operands {
        logits: &logits,
        parameters: &parameters,
        history: Some(History {
            starts: &starts,
            tokens: &history_tokens,
            counts: &history_counts,
        }),
        tokens: &tokens,
        scores: &scores,
    };
    run(device, &Shape { rows, vocabulary }, &operands)?;
    let (tokens, scores) = (device.download(&tokens)?, device.download(&scores)?);
    let tokens = tokens.as_chunks().0.iter();
    let scores = scores.as_chunks().0.iter();
    Ok((
        tokens.map(|bytes| u32::from_le_bytes(*bytes)).collect(),
        scores.map(SampleScores::from_bytes).collect(),
    ))
}

// === Errors ===

/// How far `token` is from right; infinite for one that cannot be chosen.
fn token_error(logits: &[f32], parameters: &SampleParameters, token: u32) -> f64 {
    let expected = reference(logits, parameters);
    let (_, max) = likeliest(logits);
    let is_drawn = parameters.temperature >= TEMPERATURE_MIN && max.is_finite();
    if token == expected {
        return 0.0;
    }
    if !is_drawn {
        return f64::INFINITY;
    }
    let factors = [1.0, 1.0 - CUT_ROUNDING, 1.0 + CUT_ROUNDING];
    let mut least = f64::INFINITY;
    for (top_p, min_p) in factors.iter().flat_map(|a| factors.map(|b| (*a, b))) {
        let kept = survivors(
            logits,
            &SampleParameters {
                // What cuts goes on cutting, so that the order is the same.
                top_p: match parameters.top_p {
                    share if share < 1.0 => (share * top_p).min(1.0 - f32::EPSILON),
                    share => share,
                },
                min_p: parameters.min_p * min_p,
                ..*parameters
            },
        );
        least = least.min(distance(&kept, parameters.uniform, token));
    }
    least
}

/// From the random number to the part of `token`, as a share of all.
fn distance(kept: &[Survivor], uniform: f64, token: u32) -> f64 {
    let Some(index) = kept.iter().position(|survivor| survivor.id == token) else {
        return f64::INFINITY;
    };
    let chosen = kept[index];
    let sorted = kept.is_sorted_by(|a, b| a.weight >= b.weight);
    // Of another logit, but with a weight that rounding may make the same or put on the other side.
    let near = |other: &Survivor| {
        sorted
            && other.logit != chosen.logit
            && (other.weight / chosen.weight - 1.0).abs() < TIE_ROUNDING
    };
    let surely_before = kept[..index].iter().filter(|other| !near(other));
    let maybe_before = kept[index + 1..].iter().filter(|other| near(other));
    let start: f64 = surely_before.map(|other| other.weight).sum();
    let end = total(&kept[..=index]) + maybe_before.map(|other| other.weight).sum::<f64>();
    let all = total(kept);
    let target = uniform * all;
    (start - target).max(target - end).max(0.0) / all
}

fn scores_error_of(logits: &[f32], token: u32, got: &SampleScores) -> f64 {
    if token as usize >= logits.len() {
        return f64::INFINITY;
    }
    let wanted = reference_scores(logits, token);
    [
        (got.logprob, wanted.logprob),
        (got.entropy, wanted.entropy),
        (got.margin, wanted.margin),
        (got.max_logprob, wanted.max_logprob),
    ]
    .into_iter()
    .map(|(got, wanted)| {
        let difference = (f64::from(got) - f64::from(wanted)).abs();
        difference / f64::from(wanted).abs().max(1.0)
    })
    .fold(0.0, worse)
}
