//! Perplexity: how well a model foretells a text; the exponential of the mean negative
//! log-likelihood of its tokens. Lower is better; a quantized model's is compared with that of the
//! model that it was made from.
//!
//! As llama.cpp's `llama-perplexity` does it: the text is cut into windows of the same length that
//! do not overlap, each begins with the token that begins a text (if the model has one), and the
//! tokens of a window's second half count, so that each has at least half a window before it. What
//! is left at the end counts for nothing; a text shorter than one window is one.

use std::io::Read;
use std::num::NonZeroUsize;
use std::path::Path;

use farthing_core::limits;
use farthing_kernels::{KvCache, KvDtype, Softmax, ThreadPool};
use serde_json::json;

use crate::cli::PerplexityArgs;
use crate::engine::logprobs::Logprobs;
use crate::error::BackendError;
use crate::model::{Batch, Decoder, LoadedModel, Logits, ModelOptions, Workspace, load_model};
use crate::server::process::print;
use crate::text::{Specials, Tokenizer};

/// Tokens of a window if nobody says otherwise, as in llama.cpp.
pub const WINDOW_DEFAULT: usize = 512;
/// The shortest window that has a second half to speak of.
const WINDOW_MIN: usize = 4;
/// Tokens of one forward pass: each may have a row of logits as wide as the vocabulary.
const STEP_TOKENS: usize = 64;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perplexity {
    pub value: f64,
    /// Of `value`, from the spread of the tokens' log-likelihoods.
    pub standard_error: f64,
    /// Tokens that count.
    pub tokens: usize,
    pub windows: usize,
    /// Tokens of a window.
    pub window: usize,
}

/// Measures a model file on a text file and prints the result.
///
/// # Errors
/// A file cannot be read, the model cannot run here, or the text is too short or too long.
pub fn run(args: &PerplexityArgs) -> Result<(), BackendError> {
    let window = args.window.map_or(WINDOW_DEFAULT, NonZeroUsize::get);
    let all = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let pool = ThreadPool::new(args.threads.unwrap_or_else(all).get());
    let text = read_text(&args.text)?;
    let mut model = load(&args.model, window)?;
    let measured = measure(&pool, &mut model, &text, window)?;
    if !args.json {
        return print(&format!("{measured}\n"));
    }
    let line = json!({"eval": "perplexity", "metric": "perplexity", "value": measured.value,
        "standard_error": measured.standard_error, "tokens": measured.tokens,
        "windows": measured.windows, "window": measured.window, "model": model.info.id});
    print(&format!("{line}\n"))
}

/// A text to measure on.
///
/// # Errors
/// The file cannot be read, is too long, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, BackendError> {
    let io = |source| BackendError::Io {
        what: path.display().to_string(),
        source,
    };
    let max = limits::PERPLEXITY_TEXT_BYTES_MAX;
    let file = std::fs::File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > max {
        return Err(refused(format!("{} has over {max} bytes", path.display())));
    }
    String::from_utf8(bytes).map_err(|_| refused(format!("{} is not UTF-8", path.display())))
}

/// A model with room for one window.
///
/// # Errors
/// As [`load_model`]; or the window is no length that the model takes, by its argument.
pub fn load(path: &Path, window: usize) -> Result<LoadedModel, BackendError> {
    let range = WINDOW_MIN..=limits::MODEL_CONTEXT_TOKENS_MAX;
    if !range.contains(&window) {
        let (least, most) = (range.start(), range.end());
        return Err(wrong(
            "--window",
            format!("{window} is not within {least} and {most}"),
        ));
    }
    let model = load_model(&id_of(path), path, room_for(window))?;
    if window > model.info.context_tokens {
        let max = model.info.context_tokens;
        return Err(wrong(
            "--window",
            format!("{window} is over the model's {max}"),
        ));
    }
    Ok(model)
}

/// A model with room for a window of up to `most` tokens, and the window that it takes.
///
/// # Errors
/// As [`load_model`].
pub fn load_for_up_to(path: &Path, most: usize) -> Result<(LoadedModel, usize), BackendError> {
    let model = load_model(&id_of(path), path, room_for(most))?;
    let window = most.min(model.info.context_tokens);
    Ok((model, window))
}

fn id_of(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn room_for(window: usize) -> ModelOptions {
    ModelOptions {
        context_tokens: Some(window),
        kv_tokens: Some(window),
        kv_dtype: KvDtype::F16,
    }
}

fn wrong(argument: &str, message: String) -> BackendError {
    BackendError::Config {
        path: argument.to_owned(),
        message,
    }
}

/// The perplexity of `text` in windows of up to `window` tokens, for which the model's KV cache
/// must have room.
///
/// # Errors
/// The text has too few tokens.
pub fn measure(
    pool: &ThreadPool,
    model: &mut LoadedModel,
    text: &str,
    window: usize,
) -> Result<Perplexity, BackendError> {
    let windows = windows(&model.info.tokenizer, text, window)?;
    let mut pass = Pass {
        pool,
        decoder: &model.decoder,
        cache: &mut model.cache,
        work: model.decoder.workspace(STEP_TOKENS, STEP_TOKENS),
    };
    let mut likelihoods = Vec::new();
    for window in &windows {
        pass.window(window, &mut likelihoods)?;
    }
    let window = windows.first().map_or(0, Vec::len);
    Ok(Perplexity::of(&likelihoods, windows.len(), window))
}

/// The text's windows; those after which a token counts are the second half, see [`counted`].
///
/// # Errors
/// The text has too few tokens.
pub fn windows(
    tokenizer: &Tokenizer,
    text: &str,
    window: usize,
) -> Result<Vec<Vec<u32>>, BackendError> {
    let tokens = tokenizer.encode_prompt(text, Specials::Plain);
    let window = window.min(tokens.len());
    if window < WINDOW_MIN {
        let count = tokens.len();
        return Err(refused(format!(
            "a text of {count} tokens, under {WINDOW_MIN}"
        )));
    }
    let mut windows: Vec<Vec<u32>> = tokens.chunks_exact(window).map(<[u32]>::to_vec).collect();
    if let Some(start) = tokenizer.prompt_start() {
        for window in &mut windows {
            window[0] = start;
        }
    }
    Ok(windows)
}

/// The places of a window after which the next token is foretold and counts.
pub fn counted(window: usize) -> std::ops::Range<usize> {
    window / 2..window - 1
}

/// What a window is computed with.
struct Pass<'a> {
    pool: &'a ThreadPool,
    decoder: &'a Decoder,
    cache: &'a mut KvCache,
    work: Workspace,
}

// === impl Pass ===

impl Pass<'_> {
    /// Adds the log-likelihood of each token of the window that counts.
    fn window(&mut self, tokens: &[u32], likelihoods: &mut Vec<f64>) -> Result<(), BackendError> {
        let blocks = tokens.len().div_ceil(limits::KV_BLOCK_TOKENS) as u32;
        let blocks: Vec<u32> = (0..blocks).collect();
        let counted = counted(tokens.len());
        let vocab_size = self.decoder.shape().vocab_size;
        for (step, chunk) in tokens.chunks(STEP_TOKENS).enumerate() {
            let start = step * STEP_TOKENS;
            let mut batch = Batch::default();
            let mut next = Vec::new();
            for (place, token) in (start..).zip(chunk) {
                let logits = if counted.contains(&place) {
                    next.push(tokens[place + 1]);
                    Logits::Last
                } else {
                    Logits::Skip
                };
                batch.push(std::slice::from_ref(token), place, &blocks, logits);
            }
            let rows = self
                .decoder
                .forward(self.pool, &batch, self.cache, &mut self.work)?;
            for (logits, token) in rows.chunks_exact(vocab_size).zip(next) {
                let softmax = Softmax::of(logits);
                let logprobs = Logprobs::of(softmax.as_ref(), logits, token, 0);
                likelihoods.push(f64::from(logprobs.chosen));
            }
        }
        Ok(())
    }
}

// === impl Perplexity ===

impl Perplexity {
    /// From natural logarithms of likelihoods, one at least.
    pub fn of(likelihoods: &[f64], windows: usize, window: usize) -> Perplexity {
        let count = likelihoods.len() as f64;
        let mean = likelihoods.iter().sum::<f64>() / count;
        let squares: f64 = likelihoods.iter().map(|x| (x - mean) * (x - mean)).sum();
        let value = (-mean).exp();
        Perplexity {
            value,
            // By the delta method: the exponential's slope is its value.
            standard_error: value * (squares / (count - 1.0).max(1.0) / count).sqrt(),
            tokens: likelihoods.len(),
            windows,
            window,
        }
    }
}

impl std::fmt::Display for Perplexity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "perplexity {:.4} +- {:.4} ({} tokens of {} windows of {})",
            self.value, self.standard_error, self.tokens, self.windows, self.window
        )
    }
}

fn refused(what: String) -> BackendError {
    BackendError::Model(format!("perplexity: {what}"))
}
