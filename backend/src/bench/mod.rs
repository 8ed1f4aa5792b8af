//! `farthing bench`: one model in the real engine (scheduler, prefix cache, sampler), measured as
//! llama-bench does: a warm-up, then repetitions, of which the median and the spread are printed.
//! An embedding model is measured beside candle.

mod embedding;
mod memory;
mod report;
mod run;

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};

use farthing_core::limits;

use crate::cli::BenchArgs;
use crate::engine::{self, EngineConfig, EngineHandle, LookupUse, Speculation};
use crate::error::BackendError;
use crate::model::checkpoint::generates_text;
use crate::model::{LoadedModel, ModelOptions, load_model};
use crate::server::process::print;
use report::{Figure, Report};
use run::Bench;

const MIB: f64 = (1 << 20) as f64;

/// Loads the model, measures it and prints what was found.
///
/// # Errors
/// An argument that the model or the engine cannot take, by its name; a model that cannot be
/// loaded; a file that cannot be written.
pub fn run(args: &BenchArgs) -> Result<(), BackendError> {
    let most = check(args)?;
    let canonical = |path: &Path| path.canonicalize().ok();
    let json_path = args.json.as_deref().and_then(canonical);
    if json_path.is_some() && json_path == canonical(&args.model) {
        return Err(wrong("--json", "this is the model".to_owned()));
    }
    // Before the work, so that a wrong path does not cost a whole run.
    let json = args.json.as_deref().map(open).transpose()?;
    if args.model.is_dir() && !generates_text(&args.model) {
        let report = embedding::measure(args)?;
        return say(json, &report.table(), |file| report.write_json(file));
    }
    let started = Instant::now();
    let model = load(args, most)?;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;
    let config = config(args, most);
    let mut report = Report::new(args, &config, &model.info);
    let times = model.info.load_times;
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    for (metric, unit, value) in [
        ("load_ms", "ms", load_ms),
        ("load_open_ms", "ms", ms(times.open)),
        ("load_weights_ms", "ms", ms(times.weights)),
        ("load_tokenizer_ms", "ms", ms(times.tokenizer)),
        ("load_cache_ms", "ms", ms(times.cache)),
        (
            "weights_mib",
            "MiB",
            model.decoder.weight_bytes() as f64 / MIB,
        ),
        ("kv_mib", "MiB", model.cache.bytes() as f64 / MIB),
    ] {
        report.extend([Figure::once(metric, unit, value)]);
    }
    let engine = engine::start(vec![model], config);
    let measured = measure(args, &engine, &mut report);
    for (metric, bytes) in [
        ("rss_mib", memory::resident_bytes()),
        ("peak_rss_mib", memory::peak_resident_bytes()),
    ] {
        let mib = bytes.map(|bytes| bytes as f64 / MIB);
        report.extend(mib.map(|mib| Figure::once(metric, "MiB", mib)));
    }
    engine.shutdown();
    measured?;
    say(json, &report.table(), |file| report.write_json(file))
}

/// Writes the figures, if they are to be written, and prints the table.
fn say(
    json: Option<(&Path, File)>,
    table: &str,
    write: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<(), BackendError> {
    if let Some((path, mut file)) = json {
        let written = file.set_len(0).and_then(|()| write(&mut file));
        written.map_err(|source| io(path, source))?;
    }
    print(table)
}

fn measure(
    args: &BenchArgs,
    engine: &EngineHandle,
    report: &mut Report,
) -> Result<(), BackendError> {
    let mut bench = Bench::new(engine, args)?;
    for &sequences in &args.sequences {
        report.extend(bench.sequences(sequences.get(), args.repetitions.get())?);
    }
    Ok(())
}

/// Refuses what cannot be measured; returns the most sequences that run together.
fn check(args: &BenchArgs) -> Result<usize, BackendError> {
    let counts = args.sequences.iter().map(|count| count.get());
    let most = counts.max().unwrap_or(1);
    for (name, value, max) in [
        ("--sequences", most, limits::ENGINE_RUNNING_MAX),
        ("--threads", threads(args), farthing_kernels::THREADS_MAX),
        (
            "--repetitions",
            args.repetitions.get(),
            limits::BENCH_REPETITIONS_MAX,
        ),
        (
            "--step-tokens",
            args.step_tokens.map_or(1, NonZeroUsize::get),
            limits::ENGINE_STEP_TOKENS_MAX,
        ),
        (
            "--prompt-tokens",
            args.prompt_tokens.get(),
            limits::MODEL_CONTEXT_TOKENS_MAX,
        ),
        (
            "--generate-tokens",
            args.generate_tokens.get(),
            limits::MODEL_CONTEXT_TOKENS_MAX,
        ),
    ] {
        if value > max {
            return Err(wrong(name, format!("{value} is over {max}")));
        }
    }
    if args.generate_tokens.get() < 2 {
        return Err(wrong("--generate-tokens", "1 is under 2".to_owned()));
    }
    let tokens = most.saturating_mul(sequence_tokens(args));
    if tokens > limits::KV_TOKENS_MAX {
        let message = format!(
            "{most} sequences hold {tokens} tokens, over {}",
            limits::KV_TOKENS_MAX
        );
        return Err(wrong("--sequences", message));
    }
    Ok(most)
}

/// Tokens that one sequence takes in the KV cache, to whole blocks.
fn sequence_tokens(args: &BenchArgs) -> usize {
    let tokens = args.prompt_tokens.get() + args.generate_tokens.get();
    tokens.next_multiple_of(limits::KV_BLOCK_TOKENS)
}

fn load(args: &BenchArgs, most: usize) -> Result<LoadedModel, BackendError> {
    let id = args.model.file_stem().unwrap_or_default().to_string_lossy();
    let tokens = args.prompt_tokens.get() + args.generate_tokens.get();
    let options = ModelOptions {
        context_tokens: Some(tokens),
        kv_tokens: Some(most * sequence_tokens(args)),
        kv_dtype: farthing_kernels::KvDtype::F16,
    };
    let model = load_model(&id, &args.model, options)?;
    if model.info.context_tokens < tokens {
        let message = format!(
            "with --generate-tokens {tokens} tokens; the model takes {}",
            model.info.context_tokens
        );
        return Err(wrong("--prompt-tokens", message));
    }
    Ok(model)
}

fn config(args: &BenchArgs, most: usize) -> EngineConfig {
    let default = EngineConfig::default();
    EngineConfig {
        threads: threads(args),
        step_tokens: args
            .step_tokens
            .map_or(default.step_tokens, NonZeroUsize::get),
        running_max: most,
        queue_max: default.queue_max.max(most),
        // Made-up prompts repeat themselves, and what is guessed of them says nothing of others.
        speculation: Speculation {
            tokens_max: 0,
            lookup: LookupUse::Off,
        },
        ..default
    }
}

fn threads(args: &BenchArgs) -> usize {
    let all = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    args.threads.unwrap_or_else(all).get()
}

/// Opens what the figures will be written to, and leaves what is in there until they are known.
fn open(path: &Path) -> Result<(&Path, File), BackendError> {
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).open(path);
    Ok((path, file.map_err(|source| io(path, source))?))
}

fn wrong(argument: &str, message: String) -> BackendError {
    BackendError::Config {
        path: argument.to_owned(),
        message,
    }
}

fn io(path: &Path, source: std::io::Error) -> BackendError {
    BackendError::Io {
        what: path.display().to_string(),
        source,
    }
}
