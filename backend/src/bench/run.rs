//! Requests into the engine, and when their events came.
//!
//! Prefill: all sequences are submitted at once and generate one token each; what is measured ends
//! with the last first token. Decode: the same prompts again, now in the prefix cache up to their
//! last token, so that every sequence decodes from its first step on; what is measured starts with
//! the first token of the first sequence and ends with the last token of all.

use std::time::{Duration, Instant};

use farthing_core::limits::KV_BLOCK_TOKENS;
use farthing_core::price::ServiceTier;
use farthing_core::wire::Sampling;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use super::report::Figure;
use crate::cli::BenchArgs;
use crate::engine::random::SplitMix64;
use crate::engine::{Confidence, EngineEvent, EngineHandle, GenerateRequest};
use crate::error::BackendError;

/// Prompts are random but the same in every run.
const SEED: u64 = 1;

/// Measurements of one model.
pub(super) struct Bench<'a> {
    engine: &'a EngineHandle,
    runtime: Runtime,
    model: String,
    /// Tokens that stand for text.
    plain: Vec<u32>,
    prompt_tokens: usize,
    generate_tokens: usize,
    random: SplitMix64,
    /// Salts given out: sequences with different ones share no prefix.
    salts: u64,
}

/// One sequence's prompt, and what its prefix is kept under.
#[derive(Clone)]
struct Prompt {
    tokens: Vec<u32>,
    salt: [u8; 32],
}

/// When one request's events came.
struct Times {
    first: Instant,
    done: Instant,
    generated: u64,
}

// === impl Bench ===

impl<'a> Bench<'a> {
    pub(super) fn new(
        engine: &'a EngineHandle,
        args: &BenchArgs,
    ) -> Result<Bench<'a>, BackendError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|source| BackendError::Io {
                what: "the runtime".to_owned(),
                source,
            })?;
        let model = engine.models().first();
        let model = model.ok_or_else(|| failed("the engine has no model"))?;
        let ids = 0..model.tokenizer.vocab_size() as u32;
        let plain = ids.filter(|&id| !model.tokenizer.is_control(id)).collect();
        Ok(Bench {
            engine,
            runtime,
            model: model.id.clone(),
            plain,
            prompt_tokens: args.prompt_tokens.get(),
            generate_tokens: args.generate_tokens.get(),
            random: SplitMix64::new(SEED),
            salts: 0,
        })
    }

    /// Measures so many sequences together.
    pub(super) fn sequences(
        &mut self,
        sequences: usize,
        repetitions: usize,
    ) -> Result<Vec<Figure>, BackendError> {
        let (mut prefill, mut ttft, mut decode) = (Vec::new(), Vec::new(), Vec::new());
        for repetition in 0..=repetitions {
            let prompts: Vec<_> = (0..sequences).map(|_| self.prompt()).collect();
            let (rate, first) = self.prefill(&prompts)?;
            let decoded = self.decode(&prompts)?;
            // The first one only warms up.
            if repetition > 0 {
                prefill.push(rate);
                ttft.extend(first);
                decode.push(decoded);
            }
        }
        let figure = |metric, unit, values| Figure::of(metric, unit, sequences, values);
        Ok(vec![
            figure("prefill_tokens_per_s", "tokens/s", prefill),
            figure("ttft_ms", "ms", ttft),
            figure("decode_tokens_per_s", "tokens/s", decode),
        ])
    }

    /// Prompt tokens a second, and each sequence's time to its first token in milliseconds.
    fn prefill(&self, prompts: &[Prompt]) -> Result<(f64, Vec<f64>), BackendError> {
        let started = Instant::now();
        let times = self.generate(prompts.to_vec(), 1)?;
        let ends = times
            .iter()
            .map(|times| times.first.duration_since(started));
        let first: Vec<Duration> = ends.collect();
        let last = first.iter().max().copied().unwrap_or_default();
        let tokens = prompts.len() * self.prompt_tokens;
        let first_ms = first.iter().map(|first| first.as_secs_f64() * 1e3);
        Ok((rate(tokens, last), first_ms.collect()))
    }

    /// Tokens a second of all sequences together, after prompts that are in the prefix cache.
    fn decode(&self, prompts: &[Prompt]) -> Result<f64, BackendError> {
        // Whole blocks are in the cache. One more token is computed, so all start in one step.
        let cached = (self.prompt_tokens - 1) / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
        let prompts = prompts.iter().map(|prompt| Prompt {
            tokens: prompt.tokens[..=cached].to_vec(),
            salt: prompt.salt,
        });
        let times = self.generate(prompts.collect(), self.generate_tokens)?;
        let first = times.iter().map(|times| times.first).min();
        let done = times.iter().map(|times| times.done).max();
        let elapsed = done.zip(first).map(|(done, first)| done - first);
        let wanted = (times.len() * self.generate_tokens) as u64;
        let generated: u64 = times.iter().map(|times| times.generated).sum();
        if generated != wanted {
            let what = format!("{generated} tokens were generated where {wanted} were asked for");
            return Err(failed(&what));
        }
        let tokens = times.len() * (self.generate_tokens - 1);
        Ok(rate(tokens, elapsed.unwrap_or_default()))
    }

    /// Submits all prompts at once and waits for all answers.
    fn generate(
        &self,
        prompts: Vec<Prompt>,
        max_tokens: usize,
    ) -> Result<Vec<Times>, BackendError> {
        let requests = prompts.into_iter().map(|prompt| GenerateRequest {
            model: self.model.clone(),
            prompt: prompt.tokens,
            sampling: Sampling {
                temperature: 0.0,
                ..Sampling::default()
            },
            tier: ServiceTier::default(),
            grammar: None,
            confidence: Confidence::Skip,
            max_tokens,
            // Like is compared with like: no answer ends early.
            min_tokens: max_tokens,
            cache_salt: prompt.salt,
        });
        let requests: Vec<_> = requests.collect();
        let submit = |request| self.engine.submit(request);
        let submitted: Result<Vec<_>, _> = requests.into_iter().map(submit).collect();
        let receivers = submitted.map_err(|error| failed(&error.to_string()))?;
        self.runtime.block_on(async {
            let mut waiting = JoinSet::new();
            for events in receivers {
                waiting.spawn(times(events));
            }
            let mut all = Vec::with_capacity(waiting.len());
            while let Some(joined) = waiting.join_next().await {
                all.push(joined.map_err(|error| failed(&error.to_string()))??);
            }
            Ok(all)
        })
    }

    fn prompt(&mut self) -> Prompt {
        let count = self.plain.len().max(1) as u64;
        let token = |_| {
            let at = (self.random.next_u64() % count) as usize;
            self.plain.get(at).copied().unwrap_or_default()
        };
        let tokens = (0..self.prompt_tokens).map(token).collect();
        let mut salt = [0; 32];
        salt[..8].copy_from_slice(&self.salts.to_le_bytes());
        self.salts += 1;
        Prompt { tokens, salt }
    }
}

/// Waits for the end of one request.
async fn times(mut events: UnboundedReceiver<EngineEvent>) -> Result<Times, BackendError> {
    let mut first = None;
    while let Some(event) = events.recv().await {
        match event {
            EngineEvent::Prefilled { .. } => first = Some(Instant::now()),
            EngineEvent::Done { usage } => {
                let done = Instant::now();
                return Ok(Times {
                    first: first.unwrap_or(done),
                    done,
                    generated: usage.completion_tokens,
                });
            }
            EngineEvent::Failed(error) => return Err(failed(&error.to_string())),
            EngineEvent::Delta { .. } | EngineEvent::Finished { .. } => {}
        }
    }
    Err(BackendError::WorkerStopped("the model thread".to_owned()))
}

fn rate(tokens: usize, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 {
        tokens as f64 / seconds
    } else {
        0.0
    }
}

fn failed(what: &str) -> BackendError {
    BackendError::Model(format!("the benchmark did not run: {what}"))
}
