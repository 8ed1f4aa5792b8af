//! `farthing`: arguments to configuration, configuration to a running server, errors to exit codes.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use farthing_backend::cli::{Cli, Command, ServeArgs};
use farthing_backend::config::Config;
use farthing_backend::error::BackendError;
use farthing_backend::server::process;

/// A wrong configuration, as for a wrong command line (clap exits with the same).
const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let Command::Serve(args) = Cli::parse().command;
    match serve(&args) {
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
