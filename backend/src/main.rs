//! `farthing`: arguments to what each command does, errors to exit codes.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use farthing_backend::bench;
use farthing_backend::calibrate;
use farthing_backend::cascade::eval as cascade_eval;
use farthing_backend::cli::{Calibrate, Cli, Command, Eval, Replay, ServeArgs};
use farthing_backend::config::Config;
use farthing_backend::error::BackendError;
use farthing_backend::perplexity;
use farthing_backend::quantize;
use farthing_backend::replay;
use farthing_backend::semantic::eval as semantic_eval;
use farthing_backend::server::process;
use farthing_backend::vocabulary;

/// A wrong configuration, as for a wrong command line (clap exits with the same).
const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => serve(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Vocabulary(args) => vocabulary::run(&args),
        Command::Calibrate(Calibrate::Router(args)) => calibrate::calibrate_router(&args),
        Command::Calibrate(Calibrate::Cascade(args)) => cascade_eval::calibrate_cascade(&args),
        Command::Calibrate(Calibrate::Cache(args)) => semantic_eval::calibrate_cache(&args),
        Command::Eval(Eval::Router(args)) => calibrate::eval_router(&args),
        Command::Eval(Eval::Cascade(args)) => cascade_eval::eval_cascade(&args),
        Command::Eval(Eval::CachePairs(args)) => semantic_eval::eval_pairs(&args),
        Command::Eval(Eval::CacheStream(args)) => semantic_eval::eval_stream(&args),
        Command::Replay(Replay::Azure(args)) => replay::replay_azure(&args),
        Command::Replay(Replay::Mooncake(args)) => replay::replay_mooncake(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "farthing: {error}");
            match error {
                BackendError::Config { .. } => ExitCode::from(EXIT_CONFIG),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn serve(args: &ServeArgs) -> Result<(), BackendError> {
    let config = Config::load(args)?;
    if args.print_config {
        return process::print(&config.to_yaml());
    }
    process::serve(config)
}
