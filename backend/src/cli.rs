//! The command line: what a person types, before it is checked against the configuration file.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// `farthing`: the backend of Farthing.
#[derive(Debug, Parser)]
#[command(
    name = "farthing",
    about = "Serves quantized models behind an OpenAI-compatible API"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `farthing`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load the models and answer requests until SIGINT or SIGTERM.
    Serve(ServeArgs),
    /// Measure a model in the engine: prefill, decode, time to the first token, loading, memory.
    Bench(BenchArgs),
    /// Measure how well a model foretells a text.
    Perplexity(PerplexityArgs),
    /// Write a model in fewer bits per weight, as a GGUF file.
    Quantize(QuantizeArgs),
    /// Make the file from which the filter counts a model's prompts.
    Vocabulary(VocabularyArgs),
    /// Learn from labelled data what the filter decides by.
    #[command(subcommand)]
    Calibrate(Calibrate),
    /// Measure on labelled data what the filter decides by.
    #[command(subcommand)]
    Eval(Eval),
    /// Replay a recorded trace over a part of the engine.
    #[command(subcommand)]
    Replay(Replay),
}

/// What `farthing replay` replays.
#[derive(Debug, Subcommand)]
pub enum Replay {
    /// How much of its prompts the prefix cache would have held, from Mooncake's block hashes.
    Mooncake(ReplayMooncakeArgs),
    /// What holding requests back so that they start together does, at Azure's arrivals.
    Azure(ReplayAzureArgs),
}

/// Arguments of `farthing replay azure`. The times of a step are those of SmolLM2-135M on two cores
/// unless others are given.
#[derive(Debug, Args)]
pub struct ReplayAzureArgs {
    /// A trace in CSV: TIMESTAMP, ContextTokens, GeneratedTokens.
    #[arg(value_name = "FILE.csv")]
    pub file: PathBuf,
    /// Windows that requests are held back for; 0 is none.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0,50,100",
        value_name = "MS"
    )]
    pub windows_ms: Vec<u64>,
    /// How many times as fast as in the trace requests come.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,10,50",
        value_name = "N"
    )]
    pub speeds: Vec<NonZeroU32>,
    /// What a step takes whatever it computes.
    #[arg(long, default_value = "6000", value_name = "US")]
    pub step_us: NonZeroU32,
    /// What a token of a prompt adds.
    #[arg(long, default_value = "1000", value_name = "US")]
    pub prefill_token_us: u32,
    /// What a sequence that decodes adds.
    #[arg(long, default_value = "1000", value_name = "US")]
    pub decode_token_us: u32,
    /// Tokens of a step at most.
    #[arg(long, default_value = "128", value_name = "N")]
    pub step_tokens: NonZeroUsize,
    /// Sequences that run together at most.
    #[arg(long, default_value = "32", value_name = "N")]
    pub running_max: NonZeroUsize,
    /// Requests of the trace that are replayed; all of them if not given.
    #[arg(long, value_name = "N")]
    pub requests: Option<NonZeroUsize>,
    /// Print JSON lines.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `farthing replay mooncake`.
#[derive(Debug, Args)]
pub struct ReplayMooncakeArgs {
    /// A trace in JSON Lines, with `hash_ids` in each.
    #[arg(value_name = "FILE.jsonl")]
    pub file: PathBuf,
    /// Blocks of the pool; several sizes, separated by commas, are replayed one after another.
    #[arg(long, required = true, value_delimiter = ',', value_name = "N")]
    pub blocks: Vec<NonZeroUsize>,
    /// Print JSON lines.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `farthing vocabulary`.
#[derive(Debug, Args)]
pub struct VocabularyArgs {
    /// A GGUF file, or Hugging Face's tokenizer.json.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// Where the vocabulary is written.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The model's Jinja chat template, which tokenizer.json does not hold: without one, chats are
    /// not counted.
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
}

/// Arguments of `farthing bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The model, as `farthing serve` takes it.
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Threads that compute; all cores if not given.
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Tokens of each prompt.
    #[arg(long, value_name = "N", default_value = "512")]
    pub prompt_tokens: NonZeroUsize,
    /// Tokens that each sequence generates, two at least: the first one ends the prefill.
    #[arg(long, value_name = "N", default_value = "128")]
    pub generate_tokens: NonZeroUsize,
    /// How many sequences run together, one measurement for each number.
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "1,8,16"
    )]
    pub sequences: Vec<NonZeroUsize>,
    /// How often each measurement is made, after one to warm up that does not count.
    #[arg(long, value_name = "N", default_value = "5")]
    pub repetitions: NonZeroUsize,
    /// Tokens that the engine computes in one step.
    #[arg(long, value_name = "N")]
    pub step_tokens: Option<NonZeroUsize>,
    /// Write JSON lines to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of `farthing perplexity`.
#[derive(Debug, Args)]
pub struct PerplexityArgs {
    /// The model, as `farthing serve` takes it.
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// A text in UTF-8.
    #[arg(long, value_name = "FILE")]
    pub text: PathBuf,
    /// Tokens of a window, of which the second half counts; 512 if not given.
    #[arg(long, value_name = "N")]
    pub window: Option<NonZeroUsize>,
    /// Threads that compute; all cores if not given.
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print one JSON line.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `farthing quantize`.
#[derive(Debug, Args)]
pub struct QuantizeArgs {
    /// A GGUF file, or a folder with config.json, safetensors and tokenizer.json.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// The format of the layers' matrices.
    #[arg(long, value_name = "FORMAT")]
    pub to: Target,
    /// Where the GGUF file is written.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    pub force: bool,
    /// Take matrices that are quantized already, whose errors then add up.
    #[arg(long)]
    pub requantize: bool,
    /// Measure the perplexity of this text before and after.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Threads that compute; all cores if not given.
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print one JSON line.
    #[arg(long)]
    pub json: bool,
}

/// The formats that `farthing quantize` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// Half precision: nothing is quantized.
    F16,
    /// 8 bits and a scale for 32 weights.
    #[value(name = "q8_0", alias = "int8")]
    Q8_0,
    /// 4 bits, scale and minimum for 32 weights.
    #[value(name = "q4_1")]
    Q4_1,
    /// 4 bits and a scale for 32 weights.
    #[value(name = "q4_0")]
    Q4_0,
    /// 4 bits, 6-bit scale and minimum for 32 weights; q4_1 where rows are no multiple of 256.
    #[value(name = "q4_k", alias = "int4")]
    Q4K,
}

/// What `farthing calibrate` learns.
#[derive(Debug, Subcommand)]
pub enum Calibrate {
    /// How much a strong model gains on a prompt, from prompts that a weak and a strong one have
    /// answered.
    Router(CalibrateRouterArgs),
    /// How sure each model of a cascade can be of its answers, from prompts with a label.
    Cascade(CalibrateCascadeArgs),
    /// From which score on the semantic cache may serve, from prompts with their answers.
    Cache(CalibrateCacheArgs),
}

/// What `farthing eval` measures.
#[derive(Debug, Subcommand)]
pub enum Eval {
    /// What the semantic cache does with pairs of requests that have the same answer, and with
    /// pairs that only look so.
    CachePairs(EvalCachePairsArgs),
    /// What the semantic cache does with requests that come one after the other.
    CacheStream(EvalCacheStreamArgs),
    /// How well the router tells which prompts gain from a strong model.
    Router(EvalRouterArgs),
    /// What a cascade of models costs and how often it is right, beside its dearest model alone.
    Cascade(EvalCascadeArgs),
}

/// Which models answer labelled prompts for a cascade.
#[derive(Debug, Args)]
pub struct TierArgs {
    /// JSON Lines: `prompt` (a text or a list of messages), `answer`, `check` (exact, number or
    /// choice; neither is needed with `--judge`), and, where they have been collected, `tiers`:
    /// what each model answered.
    #[arg(value_name = "FILE.jsonl")]
    pub file: PathBuf,
    /// A model that answers, from cheap to dear; those of `cargo xtask fetch --large` if none is
    /// given.
    #[arg(long = "tier", value_name = "NAME=FILE", value_parser = named_file)]
    pub tiers: Vec<(String, PathBuf)>,
    /// Where the answers are kept: they are read from there if the file is there, and written if
    /// not.
    #[arg(long, value_name = "FILE.jsonl")]
    pub outcomes: Option<PathBuf>,
    /// Tokens of an answer at most.
    #[arg(long, default_value = "320", value_name = "N")]
    pub max_tokens: NonZeroUsize,
    /// A chat model that says which answers are right on rows without `answer`, beside those of the
    /// dearest tier; it is measured on rows that have one, and refused if it is not good enough.
    #[arg(long, value_name = "FILE")]
    pub judge: Option<PathBuf>,
    /// What a million tokens of each tier cost, prompt and answer, in the order of the tiers; in
    /// proportion to the sizes of the models' files if not given.
    #[arg(long = "price", value_name = "IN,OUT", value_parser = price)]
    pub prices: Vec<(f64, f64)>,
    /// What a right answer is worth, in answers of the dearest tier; if not given, the least with
    /// which the cascade is as often right as that tier.
    #[arg(long, value_name = "N", value_parser = worth)]
    pub value: Option<f64>,
    /// Share of answers that the cascade may lose to its dearest tier, held with 95 % confidence on
    /// the rows that it is learned from; not held to any if not given.
    #[arg(long, value_name = "SHARE", value_parser = loss)]
    pub max_loss: Option<f64>,
}

/// Arguments of `farthing calibrate cascade`.
#[derive(Debug, Args)]
pub struct CalibrateCascadeArgs {
    #[command(flatten)]
    pub tiers: TierArgs,
    /// Where the calibration is written.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Print one JSON line.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `farthing eval cascade`.
#[derive(Debug, Args)]
pub struct EvalCascadeArgs {
    #[command(flatten)]
    pub tiers: TierArgs,
    /// Where the halves that are learned from and measured on are drawn from.
    #[arg(long, default_value = "1", value_name = "N")]
    pub seed: u64,
    /// Write a picture of cost against quality.
    #[arg(long, value_name = "FILE.svg")]
    pub svg: Option<PathBuf>,
    /// Print JSON lines.
    #[arg(long)]
    pub json: bool,
}

fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(path)))
        }
        _ => Err("is not NAME=FILE".to_owned()),
    }
}

fn worth(text: &str) -> Result<f64, String> {
    let worth = text.parse::<f64>().ok();
    let worth = worth.filter(|worth| worth.is_finite() && *worth > 0.0);
    worth.ok_or_else(|| "is not a number above 0".to_owned())
}

/// As `cascades.NAME.max_loss` of the configuration.
fn loss(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok();
    let share = share.filter(|share| *share > 0.0 && *share < 0.5);
    share.ok_or_else(|| "is not above 0 and below 0.5".to_owned())
}

fn price(text: &str) -> Result<(f64, f64), String> {
    let rate = |text: &str| {
        let rate = text.trim().parse::<f64>().ok();
        rate.filter(|rate| rate.is_finite() && *rate >= 0.0)
    };
    text.split_once(',')
        .and_then(|(input, output)| Some((rate(input)?, rate(output)?)))
        .ok_or_else(|| "is not two amounts of dollars, IN,OUT".to_owned())
}

/// Arguments of `farthing calibrate router`.
#[derive(Debug, Args)]
pub struct CalibrateRouterArgs {
    /// Files, one for each domain. CSV: prompt, was the weak model right, was the strong one.
    /// JSON Lines (.jsonl): `prompt`, `weak` and `strong`, each true or false, or what the model
    /// answered beside `answer`, the right one, and `check`: exact, number or choice.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the calibration is written.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Make the backend's pre-router, which reads prompts by the embedding model of this folder,
    /// and not the filter's calibration.
    #[arg(long, value_name = "DIR")]
    pub embedding_model: Option<PathBuf>,
    /// Print one JSON line.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `farthing eval cache-pairs`.
#[derive(Debug, Args)]
pub struct EvalCachePairsArgs {
    /// JSON Lines: `a` and `b`, each a text or a list of messages, and `same_answer`.
    #[arg(value_name = "FILE.jsonl")]
    pub file: PathBuf,
    /// Largest share of all answers that may be wrong for the cache.
    #[arg(long, default_value = "0.01", value_name = "SHARE")]
    pub max_wrong: f64,
    /// Folder of the embedding model; that of `cargo xtask` if not given.
    #[arg(long, value_name = "DIR")]
    pub embedding_model: Option<PathBuf>,
    /// A chat model that is asked where the score is not enough to say yes or no.
    #[arg(long, value_name = "FILE")]
    pub verifier: Option<PathBuf>,
    /// Write a picture of right answers against wrong ones.
    #[arg(long, value_name = "FILE.svg")]
    pub svg: Option<PathBuf>,
    /// Print JSON lines.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `farthing eval cache-stream`.
#[derive(Debug, Args)]
pub struct EvalCacheStreamArgs {
    /// CSV with a line of names: the text, and its label, which stands for its answer.
    #[arg(value_name = "FILE.csv")]
    pub file: PathBuf,
    /// Largest share of all answers that may be wrong for the cache.
    #[arg(long, default_value = "0.01", value_name = "SHARE")]
    pub max_wrong: f64,
    /// What `farthing calibrate cache` has learned, to begin with; this build's own if not given.
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    /// Put the requests in so many random orders instead of that of the file.
    #[arg(long, default_value = "0", value_name = "N")]
    pub shuffles: u32,
    /// Where the random orders begin.
    #[arg(long, default_value = "1", value_name = "N")]
    pub seed: u64,
    /// Folder of the embedding model; that of `cargo xtask` if not given.
    #[arg(long, value_name = "DIR")]
    pub embedding_model: Option<PathBuf>,
    /// Write a picture of cost against quality.
    #[arg(long, value_name = "FILE.svg")]
    pub svg: Option<PathBuf>,
    /// Print JSON lines.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `farthing calibrate cache`.
#[derive(Debug, Args)]
pub struct CalibrateCacheArgs {
    /// JSON Lines: `prompt` (a text, or a list with one message of a user) and `answer`, which is
    /// the same text where the answer is the same; in the order in which they are asked.
    #[arg(value_name = "FILE.jsonl")]
    pub file: PathBuf,
    /// Where the calibration is written.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Largest share of all answers that may be wrong for the cache: what is served meanwhile, and
    /// what the command tells. The file holds for any share.
    #[arg(long, default_value = "0.01", value_name = "SHARE")]
    pub max_wrong: f64,
    /// Folder of the embedding model; that of `cargo xtask` if not given.
    #[arg(long, value_name = "DIR")]
    pub embedding_model: Option<PathBuf>,
    /// Print one JSON line.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `farthing eval router`.
#[derive(Debug, Args)]
pub struct EvalRouterArgs {
    /// Files as `farthing calibrate router` reads them.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Measure this calibration or pre-router as it is, instead of the calibration of this build.
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    /// Leave each file out in turn: what measures it is learned from the others. With
    /// `--calibration` nothing is learned. Each file is measured by itself, too.
    #[arg(long)]
    pub group_by_file: bool,
    /// Folder of the embedding model; that of `cargo xtask` if not given.
    #[arg(long, value_name = "DIR")]
    pub embedding_model: Option<PathBuf>,
    /// Learn the filter's calibration, which reads no embeddings, and not a pre-router.
    #[arg(long, conflicts_with = "embedding_model")]
    pub lexical: bool,
    /// Write a picture of cost against quality.
    #[arg(long, value_name = "FILE.svg")]
    pub svg: Option<PathBuf>,
    /// Print JSON lines.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `farthing serve`; each one given wins over the same field of the configuration file.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    /// Folder with the models: every *.gguf, and every folder that holds safetensors.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one, printed in the `ready` line.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Threads that compute.
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print the configuration in force, every default included, and exit.
    #[arg(long)]
    pub print_config: bool,
}
