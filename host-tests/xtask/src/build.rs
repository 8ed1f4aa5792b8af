//! Builds the backend and the filter with the workspace's own profiles.

use crate::cli::BuildOptions;
use crate::error::XtaskError;
use crate::signals::Interrupt;
use crate::{fetch, kernels, subprocess, vocabulary};
use farthing_host_tests::paths;
use std::env;
use std::io::{IsTerminal, Write, stderr};
use std::process::Command;
use std::time::{Duration, Instant};

/// How often a build that says nothing is mentioned where there is no terminal.
const REMINDER_AFTER: Duration = Duration::from_secs(30);
/// Longer lines of cargo would wrap and could not be overwritten.
const LINE_CHARS_MAX: usize = 70;

/// How cargo builds the filter.
pub const FILTER: [&str; 7] = [
    "build",
    "--profile",
    "wasm",
    "--package",
    "farthing-plugin",
    "--target",
    "wasm32-wasip1",
];

/// How cargo builds the filter that traps where a request says so.
const POISONED_FILTER: [&str; 11] = [
    "build",
    "--profile",
    "wasm",
    "--package",
    "farthing-plugin",
    "--example",
    "poisoned",
    "--features",
    "poison",
    "--target",
    "wasm32-wasip1",
];

/// How cargo builds the filter that decides nothing.
const BARE_FILTER: [&str; 9] = [
    "build",
    "--profile",
    "wasm",
    "--package",
    "farthing-plugin",
    "--example",
    "bare",
    "--target",
    "wasm32-wasip1",
];

/// The crates with native tests: those the backend is made of, and those around it. Each group is
/// one run of cargo, which then resolves the features of our dependencies as it does for the
/// backend and for xtask alone, and compiles none of them twice.
pub const TEST_GROUPS: [&[&str]; 2] = [
    &[
        "farthing-core",
        "farthing-kernels",
        "farthing-backend",
        "farthing-gpu-tests",
        "farthing-cuda-emulator",
    ],
    &["farthing-host-tests", "xtask"],
];

/// Builds what the stack is made of, the filter with the vocabularies that the options name.
pub fn run(options: &BuildOptions, interrupt: &Interrupt) -> Result<(), XtaskError> {
    if !options.embed.is_empty() {
        fetch::vocabularies(interrupt)?;
        let files = options.embed.iter().map(|name| vocabulary::path(name));
        let list = env::join_paths(files)
            .map_err(|error| XtaskError::Config(format!("--embed: {error}")))?;
        let mut command = cargo_command();
        command.args(FILTER).env("FARTHING_EMBED", list);
        show("the filter", &mut command, interrupt)?;
        return backend(interrupt);
    }
    everything(interrupt)
}

/// Builds what the stack is made of, unless the environment names a build of the user's own.
pub fn everything(interrupt: &Interrupt) -> Result<(), XtaskError> {
    backend(interrupt)?;
    filter(interrupt)
}

fn backend(interrupt: &Interrupt) -> Result<(), XtaskError> {
    if env::var_os("FARTHING_BIN").is_some() {
        return Ok(());
    }
    let arguments = ["build", "--release", "--package", "farthing-backend"];
    cargo("the backend", &arguments, interrupt)
}

/// Builds the tests, and with them the backend, which the tests of its crate start.
pub fn for_tests(interrupt: &Interrupt) -> Result<(), XtaskError> {
    filter(interrupt)?;
    cargo("the filter that traps", &POISONED_FILTER, interrupt)?;
    for group in TEST_GROUPS {
        let mut arguments = test_arguments(group);
        arguments.push("--no-run");
        cargo(
            &format!("the tests of {}", group.join(", ")),
            &arguments,
            interrupt,
        )?;
    }
    paths::require("the backend", paths::backend())?;
    Ok(())
}

/// `cargo` with these tests every crate of a group.
pub fn test_arguments(group: &[&'static str]) -> Vec<&'static str> {
    let packages = group.iter().flat_map(|name| ["--package", *name]);
    ["test", "--release"].into_iter().chain(packages).collect()
}

/// Builds the filter alone, unless the environment names a build of the user's own.
pub fn filter(interrupt: &Interrupt) -> Result<(), XtaskError> {
    if env::var_os("FARTHING_WASM").is_some() {
        return Ok(());
    }
    cargo("the filter", &FILTER, interrupt)
}

/// Builds the filter that decides nothing, which benchmarks show beside ours.
pub fn bare_filter(interrupt: &Interrupt) -> Result<(), XtaskError> {
    cargo("the filter that decides nothing", &BARE_FILTER, interrupt)
}

/// The cargo that runs us, in the workspace. If the CUDA kernels have been compiled as they are
/// now, every build has them inside, so that none undoes another's.
pub fn cargo_command() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::workspace_root());
    if let Some(kernels) = kernels::current() {
        command.env("FARTHING_CUDA_FATBIN", kernels);
    }
    command
}

fn cargo(what: &str, arguments: &[&str], interrupt: &Interrupt) -> Result<(), XtaskError> {
    show(what, cargo_command().args(arguments), interrupt)
}

/// Runs a build and shows that it is alive.
pub fn show(what: &str, command: &mut Command, interrupt: &Interrupt) -> Result<(), XtaskError> {
    let mut activity = Activity::new(what);
    command.env("CARGO_TERM_COLOR", "never");
    let finished = subprocess::run(command, interrupt, |line| activity.look(line))?;
    activity.clear();
    finished.require_success(&format!("building {what}"))?;
    eprintln!(
        "build: {what} ({:.1} s)",
        activity.started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Shows that a build is alive: the crate at hand on a terminal, a line now and then elsewhere.
struct Activity {
    what: String,
    started: Instant,
    reminded: Instant,
    crates: usize,
    on_terminal: bool,
}

impl Activity {
    fn new(what: &str) -> Activity {
        let now = Instant::now();
        Activity {
            what: what.to_string(),
            started: now,
            reminded: now,
            crates: 0,
            on_terminal: stderr().is_terminal(),
        }
    }

    fn look(&mut self, line: Option<&str>) {
        let compiled = line
            .map(str::trim)
            .filter(|line| line.starts_with("Compiling"));
        self.crates += usize::from(compiled.is_some());
        if self.on_terminal {
            if let Some(line) = compiled {
                let short: String = line.chars().take(LINE_CHARS_MAX).collect();
                eprint!("\r\x1b[Kbuild: {}: {short}", self.what);
                let _ = stderr().flush();
            }
        } else if self.reminded.elapsed() >= REMINDER_AFTER {
            self.reminded = Instant::now();
            let seconds = self.started.elapsed().as_secs();
            eprintln!(
                "build: {}: {} crates in {seconds} s so far",
                self.what, self.crates
            );
        }
    }

    fn clear(&self) {
        if self.on_terminal {
            eprint!("\r\x1b[K");
        }
    }
}
