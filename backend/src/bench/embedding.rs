//! An embedding model, beside candle on the same weights: the time of one text, of a batch, and of
//! a look-up among as many questions as a semantic cache may hold.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::time::Instant;

use farthing_core::limits::EMBEDDING_BATCH_MAX;
use serde_json::json;

use super::threads;
use crate::cli::BenchArgs;
use crate::embed::{CandleBert, Embedder};
use crate::engine::random::SplitMix64;
use crate::error::BackendError;
use crate::semantic::index::{Quantized, VectorIndex};

/// Tokens of a text, the two around it included.
const TEXT_TOKENS: usize = 32;
/// Times that each repetition measures, ours and candle's in turns.
const TURNS: usize = 20;
/// Questions among which is looked up.
const QUESTIONS: usize = 100_000;
/// Neighbours that a look-up wants.
const NEIGHBOURS: usize = 16;
/// What one text may take, and one look-up.
const TEXT_MS_MAX: f64 = 5.0;
const LOOK_UP_MS_MAX: f64 = 1.0;
const SEED: u64 = 1;

/// Words that are one token each.
const WORDS: [&str; 12] = [
    "how", "long", "does", "the", "bank", "need", "to", "send", "money", "to", "my", "house",
];

/// Figures of one run.
pub(super) struct EmbeddingReport {
    title: String,
    figures: Vec<Beside>,
}

/// One figure, and what it is measured beside.
struct Beside {
    metric: &'static str,
    unit: &'static str,
    value: f64,
    candle: Option<f64>,
    /// At most this is wanted.
    target: Option<f64>,
}

/// Measures the model.
///
/// # Errors
/// It cannot be loaded.
pub(super) fn measure(args: &BenchArgs) -> Result<EmbeddingReport, BackendError> {
    let threads = NonZeroUsize::new(threads(args)).unwrap_or(NonZeroUsize::MIN);
    let started = Instant::now();
    let ours = Embedder::load_with(&args.model, threads)?;
    let load_ms = ms_since(started);
    let candle = CandleBert::load(&args.model)?;
    let mut texts = (0..EMBEDDING_BATCH_MAX).map(text);
    let one: Vec<String> = texts.by_ref().take(1).collect();
    let batch: Vec<String> = one.iter().cloned().chain(texts).collect();
    let turns = TURNS * args.repetitions.get();
    let (one_ms, candle_one_ms) = in_turns(&ours, &candle, &one, turns)?;
    let batch_turns = turns.div_ceil(EMBEDDING_BATCH_MAX);
    let (batch_ms, candle_batch_ms) = in_turns(&ours, &candle, &batch, batch_turns)?;
    let tokens = embed(&ours, &batch)?.1 as f64;
    let per_s = |ms: f64| tokens * 1e3 / ms;
    let look_up_ms = look_up(&ours, &one, turns)?;
    let figure = |metric, unit, value| Beside {
        metric,
        unit,
        value,
        candle: None,
        target: None,
    };
    Ok(EmbeddingReport {
        title: format!(
            "embedding: {threads} threads, texts of {} tokens, medians of {turns}",
            tokens / EMBEDDING_BATCH_MAX as f64
        ),
        figures: vec![
            figure("load_ms", "ms", load_ms),
            Beside {
                candle: Some(candle_one_ms),
                target: Some(TEXT_MS_MAX),
                ..figure("embed_text_ms", "ms", one_ms)
            },
            Beside {
                candle: Some(per_s(candle_batch_ms)),
                ..figure("embed_batch_tokens_per_s", "1/s", per_s(batch_ms))
            },
            Beside {
                target: Some(LOOK_UP_MS_MAX),
                ..figure("look_up_100000_ms", "ms", look_up_ms)
            },
            figure("embed_and_look_up_ms", "ms", one_ms + look_up_ms),
        ],
    })
}

/// The `number`th text.
fn text(number: usize) -> String {
    let words = WORDS.iter().cycle().skip(number);
    let words: Vec<&str> = words.take(TEXT_TOKENS - 2).copied().collect();
    words.join(" ")
}

/// Vectors of texts, and their tokens.
fn embed(embedder: &Embedder, texts: &[String]) -> Result<(Vec<Vec<f32>>, usize), BackendError> {
    let embedded = embedder.embed(texts, || true)?;
    Ok(embedded.map_or_else(Default::default, |of| (of.vectors, of.tokens)))
}

/// Milliseconds of ours and of candle's, after one of each that does not count.
fn in_turns(
    ours: &Embedder,
    candle: &CandleBert,
    texts: &[String],
    turns: usize,
) -> Result<(f64, f64), BackendError> {
    let (mut ours_ms, mut candle_ms) = (Vec::new(), Vec::new());
    for _ in 0..=turns {
        let started = Instant::now();
        embed(ours, texts)?;
        ours_ms.push(ms_since(started));
        let started = Instant::now();
        candle.embed(texts)?;
        candle_ms.push(ms_since(started));
    }
    Ok((median(&mut ours_ms[1..]), median(&mut candle_ms[1..])))
}

/// Milliseconds of a look-up of a text among random directions, on one thread.
fn look_up(embedder: &Embedder, text: &[String], turns: usize) -> Result<f64, BackendError> {
    let (vectors, _) = embed(embedder, text)?;
    let Some(vector) = vectors.first() else {
        return Ok(0.0);
    };
    let mut random = SplitMix64::new(SEED);
    let mut index = VectorIndex::new(vector.len());
    let mut direction = vec![0.0; vector.len()];
    for _ in 0..QUESTIONS {
        direction.fill_with(|| (random.next_u64() >> 40) as f32 / (1 << 23) as f32 - 1.0);
        let length = direction.iter().map(|x| x * x).sum::<f32>().sqrt();
        direction.iter_mut().for_each(|x| *x /= length);
        index.push(&Quantized::of(&direction));
    }
    let mut times: Vec<f64> = (0..turns.max(1))
        .map(|_| {
            let started = Instant::now();
            let near = index.nearest(&Quantized::of(vector), NEIGHBOURS);
            std::hint::black_box(near);
            ms_since(started)
        })
        .collect();
    Ok(median(&mut times))
}

fn ms_since(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}

/// The middle one; the upper of two.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

// === impl EmbeddingReport ===

impl EmbeddingReport {
    pub(super) fn table(&self) -> String {
        let mut out = format!("{}\n", self.title);
        for figure in &self.figures {
            let mut line = format!(
                "{:<26} {:>10.2} {:<4}",
                figure.metric, figure.value, figure.unit
            );
            if let Some(candle) = figure.candle {
                line += &format!(" candle {candle:.2}, ratio {:.2}", figure.value / candle);
            }
            if let Some(target) = figure.target {
                line += &format!(" at most {target}: {}", figure.met(target));
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }

    /// One line a figure.
    pub(super) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        for figure in &self.figures {
            let ratio = figure.candle.map(|candle| figure.value / candle);
            let line = json!({"bench": "embedding", "metric": figure.metric,
                "value": figure.value, "unit": figure.unit,
                "peer": figure.candle.map(|_| "candle"), "peer_value": figure.candle,
                "ratio": ratio, "target": figure.target,
                "met": figure.target.map(|target| figure.value <= target)});
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

impl Beside {
    fn met(&self, target: f64) -> &'static str {
        match self.value <= target {
            true => "met",
            false => "missed",
        }
    }
}
