//! `cargo xtask`: the commands that people, CI and acceptance share. Each sets itself up from
//! nothing, says what it does on standard error, and keeps standard output for its result.
//!
//! Reading order: [`cli`] names the commands, [`fetch`] and [`build`] make the parts, [`stack`]
//! starts them, and [`up`], [`demo`], [`test`] and [`bench`] are what is done with them; [`prices`]
//! and [`reference`] make files of the repository, [`vocabulary`] what the filter counts with,
//! [`embedded`] a filter with that inside, [`kernels`] what a card computes with, [`agreement`]
//! what llama.cpp says, [`questions`] what cascades are measured on.

#![forbid(unsafe_code)]

mod agreement;
mod bench;
mod build;
mod cli;
mod demo;
mod embedded;
mod error;
mod fetch;
mod fuzz;
mod kernels;
mod machine;
mod prices;
mod questions;
mod reference;
mod runs;
mod signals;
mod stack;
mod subprocess;
mod test;
mod up;
mod vocabulary;

use crate::cli::{Cli, Command};
use crate::error::XtaskError;
use crate::signals::Interrupt;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    runs::remove_old();
    match Interrupt::watch().and_then(|interrupt| run(cli.command, &interrupt)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command, interrupt: &Interrupt) -> Result<(), XtaskError> {
    match command {
        Command::Fetch(options) => {
            fetch::for_tests(interrupt)?;
            if options.large {
                fetch::large_model(interrupt)?;
            }
            Ok(())
        }
        Command::Build(options) => build::run(&options, interrupt),
        Command::Vocabulary => fetch::vocabularies(interrupt),
        Command::Up(options) => up::run(&options, interrupt),
        Command::Demo(options) => demo::run(&options, interrupt),
        Command::Kernels => kernels::run(interrupt),
        Command::Reference => reference::write(),
        Command::Test => test::run(interrupt),
        Command::Fuzz(options) => fuzz::run(&options, interrupt).map(drop),
        Command::Bench(options) => bench::run(&options, interrupt),
        Command::Agreement => agreement::run(interrupt),
        Command::Prices(options) => prices::run(&options),
        Command::Questions(options) => questions::run(&options),
    }
}
