//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// What CI has time for.
pub const FUZZ_SECONDS: u64 = 10;

/// Farthing's commands: each fetches and builds what it needs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Fetch Envoy, the models, what tests run and the wasm target, where they are missing
    Fetch(FetchOptions),
    /// Build the backend and the filter
    Build(BuildOptions),
    /// Run the stack in the foreground until SIGINT or SIGTERM
    Up(UpOptions),
    /// Send a small real workload through the stack and print what each request cost
    Demo(DemoOptions),
    /// Compile the CUDA kernels, which needs no card; the backend is then built with them inside
    Kernels,
    /// Write the reference of the filter's configuration from its types
    Reference,
    /// Run every test: Rust, the openai package as a client, and the demo
    Test,
    /// Give the readers of requests, streams, configurations and cache entries made-up inputs
    Fuzz(FuzzOptions),
    /// Run a benchmark with its peer beside it
    Bench(BenchOptions),
    /// Make the vocabulary files of OpenAI's encodings, o200k_base and cl100k_base
    Vocabulary,
    /// Write down what llama.cpp generates from 200 prompts, which a test of the engine reads
    Agreement,
    /// Make the price catalogue of the filter from LiteLLM's table
    Prices(PricesOptions),
    /// Write a published set of questions as rows that `farthing eval cascade` reads
    Questions(QuestionsOptions),
}

/// Ports and paths of the stack; a port that is not given is a free one.
#[derive(Args, Default)]
pub struct UpOptions {
    /// YAML with `filter:` (the filter's configuration) and `backend:` (the backend's)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where clients send requests
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Envoy's admin interface
    #[arg(long, value_name = "PORT")]
    pub admin_port: Option<u16>,
    /// The backend's own port
    #[arg(long, value_name = "PORT")]
    pub backend_port: Option<u16>,
    /// The folder of the model files
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
}

#[derive(Args)]
pub struct FetchOptions {
    /// Also the model of 1.1 GB that only benchmarks and evaluations want
    #[arg(long)]
    pub large: bool,
}

#[derive(Args)]
pub struct BuildOptions {
    /// Put these vocabularies into the filter, so that it need not fetch them
    #[arg(long, value_name = "NAME")]
    pub embed: Vec<String>,
}

#[derive(Args)]
pub struct DemoOptions {
    /// Also write every request and the sum as JSON Lines
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Args)]
pub struct PricesOptions {
    /// LiteLLM's model_prices_and_context_window_backup.json
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// The release of LiteLLM that it is from
    #[arg(long, value_name = "VERSION")]
    pub release: String,
}

#[derive(Args)]
pub struct QuestionsOptions {
    /// Which set
    pub set: QuestionSet,
    /// GSM8K's JSON Lines, or the folder of the set's files
    #[arg(long, value_name = "PATH")]
    pub from: PathBuf,
    /// How many rows; all, if it is not given
    #[arg(long, value_name = "N")]
    pub rows: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum QuestionSet {
    /// FrugalGPT's headlines about the price of gold
    Headlines,
    /// Sums in words
    Gsm8k,
    /// BIG-Bench Hard, with three examples before each
    Bbh,
}

#[derive(Args)]
pub struct FuzzOptions {
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = FUZZ_SECONDS)]
    pub seconds: u64,
    /// Run this target only
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
}

#[derive(Args)]
pub struct BenchOptions {
    /// Which benchmark
    pub name: BenchName,
    /// Measure one part of it only (edge: speed, sizes, streaming, tokens, memory,
    /// peers; engine: speed, latency, bandwidth, memory, speculation, traces,
    /// overhead, beside-envoy)
    #[arg(long, value_name = "PART")]
    pub only: Option<String>,
    /// Install no other gateways (edge), build no llama.cpp (engine), and leave them out
    #[arg(long)]
    pub without_peers: bool,
    /// Also write every metric as JSON Lines
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchName {
    /// The exact cache's eviction, beside plain LRU and the optimum; needs no part of the stack
    Cache,
    /// Envoy with the filter, beside Envoy without it and a direct response
    Edge,
    /// Prefill, decode and latency of the backend, beside llama.cpp's server
    Engine,
}
