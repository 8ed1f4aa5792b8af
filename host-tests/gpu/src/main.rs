//! `farthing-gpu`: the kernels on a real card. `check` compares them with their references, `bench`
//! times them beside what the card can do, and `results` makes a page of what was written down.
//! `compile` needs no card: it gives the kernels to NVRTC for every target.

#![forbid(unsafe_code)]

mod limits;
mod origin;
mod report;
mod results;
mod runs;

use clap::{Args, Parser, Subcommand};
use farthing_gpu_tests::checks::{Extent, OF_LIBRARY};
use farthing_kernels::cuda::{Card, CudaError, check_syntax, compile};
use limits::Limits;
use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a run ends with if there is no card to run on.
const NO_CARD: u8 = 2;

#[derive(Parser)]
#[command(name = "farthing-gpu", about = "The CUDA kernels on a card")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure what the card can do: its copy bandwidth and its rate of dense products
    Limits(Options),
    /// Compare every operation with its reference
    Check(CheckOptions),
    /// Time every operation at the shapes of real models
    Bench(Options),
    /// All of these
    All(Options),
    /// Compile the kernels for every target with NVRTC; needs no card
    Compile {
        /// Only read them: what follows is the same in nvcc
        #[arg(long)]
        syntax: bool,
    },
    /// Name every operation; needs no card
    Operations {
        /// Only those whose kernels are all ours, for runs under a sanitizer
        #[arg(long)]
        own: bool,
    },
    /// Make a page of tables from a file of results
    Results {
        /// What `bench --json` wrote
        file: PathBuf,
    },
}

#[derive(Args)]
struct Options {
    /// Write the results as JSON Lines
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// These operations only, separated by commas
    #[arg(long, value_name = "OPERATION", value_delimiter = ',')]
    only: Vec<String>,
    /// Draw the inputs of an earlier run again
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Which of the machine's cards
    #[arg(long, value_name = "N", default_value_t = 0)]
    device: usize,
    /// Keep kernels that are compiled at start in this folder
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

#[derive(Args)]
struct CheckOptions {
    /// Only small shapes, for runs under a sanitizer
    #[arg(long)]
    small: bool,
    #[command(flatten)]
    options: Options,
}

/// What ends a run early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Cuda(#[from] CudaError),
    #[error("{action} {path}: {source}")]
    File {
        action: &'static str,
        path: String,
        source: std::io::Error,
    },
    #[error("{path}, line {line}: {source}")]
    Json {
        path: String,
        line: usize,
        source: serde_json::Error,
    },
    #[error("there is no operation named {0}")]
    NoOperation(String),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, RunError> {
    let (options, steps) = match command {
        Command::Compile { syntax } => {
            let compile = if syntax {
                |target| check_syntax(target).map(|()| "read".to_string())
            } else {
                |target| compile(target).map(|image| format!("{} bytes", image.len()))
            };
            return Ok(exit_code(runs::compile(compile)));
        }
        Command::Operations { own } => {
            let names = runs::operations().into_iter();
            let named = names.filter(|name| !own || !OF_LIBRARY.contains(name));
            named.for_each(|name| println!("{name}"));
            return Ok(ExitCode::SUCCESS);
        }
        Command::Results { file } => {
            print!("{}", results::page(&file)?);
            return Ok(ExitCode::SUCCESS);
        }
        Command::Limits(options) => (options, Steps::default()),
        Command::Check(CheckOptions { small, options }) => {
            let extent = if small { Extent::Small } else { Extent::Full };
            (options, Steps::check(extent))
        }
        Command::Bench(options) => (options, Steps::bench()),
        Command::All(options) => {
            let check = Some(Extent::Full);
            (options, Steps { check, bench: true })
        }
    };
    let mut card = match Card::open(options.device, options.cache.as_deref()) {
        Ok(card) => card,
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::from(NO_CARD));
        }
    };
    on_card(&mut card, &options, steps)
}

/// What is done on a card, after its limits have been measured.
#[derive(Default)]
struct Steps {
    check: Option<Extent>,
    bench: bool,
}

impl Steps {
    fn check(extent: Extent) -> Steps {
        Steps {
            check: Some(extent),
            bench: false,
        }
    }

    fn bench() -> Steps {
        Steps {
            check: None,
            bench: true,
        }
    }
}

fn on_card(card: &mut Card, options: &Options, steps: Steps) -> Result<ExitCode, RunError> {
    let origin = origin::Origin::of(card);
    println!("on {}", origin.line());
    let mut passed = true;
    if let Some(extent) = steps.check {
        let seed = options.seed.unwrap_or_else(seed_of_the_moment);
        passed &= runs::check(card, extent, seed, &options.only)?;
    }
    // A run that only checks may be under a sanitizer, where a product of that size takes minutes.
    if steps.check.is_none() || steps.bench {
        let mut report = Report::new(Limits::measure(card)?);
        if steps.bench {
            passed &= runs::bench(card, &mut report, &options.only)?;
            print!("{}", report.table());
        }
        print!("{}", report.summary());
        if let Some(path) = &options.json {
            report.write(path, &origin)?;
        }
    }
    Ok(exit_code(passed))
}

fn exit_code(passed: bool) -> ExitCode {
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Another one each time, printed with the checks.
fn seed_of_the_moment() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
