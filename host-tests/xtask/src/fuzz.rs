//! `cargo xtask fuzz`: inputs that a coverage-guided fuzzer makes up, into every reader of what
//! strangers send. LLVM's libFuzzer drives; the counters it needs are a pass of the stable
//! compiler, switched on for this build alone.

use crate::build::{self, cargo_command};
use crate::cli::FuzzOptions;
use crate::error::XtaskError;
use crate::signals::Interrupt;
use crate::subprocess;
use farthing_host_tests::paths;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// The targets of `host-tests/fuzz`, by the names of their programs and of their seeds' folders.
const TARGETS: [&str; 4] = ["request", "sse", "configuration", "cache_entry"];
/// What makes the compiler count edges, and show the fuzzer what is compared with what.
const COUNTERS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Longer inputs find nothing that these do not, and take their time.
const INPUT_BYTES_MAX: u32 = 4_096;
/// An input that takes so long is a finding: the slowest take milliseconds.
const INPUT_SECONDS_MAX: u32 = 10;
/// A target that needs so much is a finding too.
const MEMORY_MIB_MAX: u32 = 1_024;

/// Builds the targets and runs each for a while; a finding is an error that names its input.
/// Answers how many inputs each target was given.
pub fn run(options: &FuzzOptions, interrupt: &Interrupt) -> Result<Vec<u64>, XtaskError> {
    let host = host_triple(interrupt)?;
    let target_dir = paths::target_dir().join("fuzz");
    build(&host, &target_dir, interrupt)?;
    let programs = target_dir.join(&host).join("release");
    let mut tried = Vec::new();
    for target in TARGETS {
        if options.target.as_deref().is_none_or(|only| only == target) {
            tried.push(fuzz(target, &programs, options.seconds, interrupt)?);
        }
    }
    if tried.is_empty() {
        return Err(XtaskError::Unexpected(format!(
            "--target takes one of {}",
            TARGETS.join(", ")
        )));
    }
    Ok(tried)
}

/// Only a build for a named target leaves build scripts and macros without counters.
fn build(host: &str, target_dir: &Path, interrupt: &Interrupt) -> Result<(), XtaskError> {
    let manifest = paths::workspace_root().join("host-tests/fuzz/Cargo.toml");
    let mut command = cargo_command();
    command.args(["build", "--release", "--locked", "--target", host]);
    command.arg("--manifest-path").arg(manifest);
    command.arg("--target-dir").arg(target_dir);
    command.env("RUSTFLAGS", COUNTERS);
    build::show("the fuzz targets", &mut command, interrupt)
}

fn fuzz(
    target: &'static str,
    programs: &Path,
    seconds: u64,
    interrupt: &Interrupt,
) -> Result<u64, XtaskError> {
    let crate_dir = paths::workspace_root().join("host-tests/fuzz");
    let corpus = paths::farthing_dir().join("fuzz").join(target);
    let findings = paths::farthing_dir().join("fuzz/findings");
    for folder in [&corpus, &findings] {
        fs::create_dir_all(folder).map_err(XtaskError::file("make", folder))?;
    }
    let mut command = Command::new(programs.join(target));
    command.args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={INPUT_BYTES_MAX}"),
        format!("-timeout={INPUT_SECONDS_MAX}"),
        format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
        format!("-dict={}", crate_dir.join("json.dict").display()),
        format!("-artifact_prefix={}/{target}-", findings.display()),
        "-print_final_stats=1".to_string(),
        "-verbosity=0".to_string(),
    ]);
    command
        .arg(&corpus)
        .arg(crate_dir.join("seeds").join(target));
    let started = Instant::now();
    let finished = subprocess::run(&mut command, interrupt, |_| {})?;
    let output = finished.require_success(&format!("fuzz target {target}"))?;
    let inputs = inputs(&output).ok_or_else(|| {
        XtaskError::Unexpected(format!("fuzz target {target} does not say what it tried"))
    })?;
    let elapsed_s = started.elapsed().as_secs_f64();
    println!("fuzz: {target}: {inputs} inputs in {elapsed_s:.0} s, no finding");
    Ok(inputs)
}

/// The count that libFuzzer prints at its end.
fn inputs(output: &[String]) -> Option<u64> {
    output
        .iter()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .and_then(|count| count.trim().parse().ok())
}

fn host_triple(interrupt: &Interrupt) -> Result<String, XtaskError> {
    let mut rustc = Command::new("rustc");
    rustc.arg("-vV").current_dir(paths::workspace_root());
    let output = subprocess::run(&mut rustc, interrupt, |_| {})?.require_success("rustc")?;
    let host = output.iter().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_string)
        .ok_or_else(|| XtaskError::Unexpected("rustc does not name its host".to_string()))
}

#[cfg(test)]
mod tests {
    use super::{TARGETS, inputs};
    use farthing_host_tests::paths;

    #[test]
    fn the_count_is_read_from_the_statistics() {
        let said = [
            "Done 7 runs in 1 second(s)",
            "stat::number_of_executed_units: 1234",
        ];
        let lines: Vec<String> = said.iter().map(|line| (*line).to_string()).collect();
        assert_eq!(inputs(&lines), Some(1234));
        assert_eq!(inputs(&lines[..1]), None);
    }

    #[test]
    fn every_target_has_seeds() {
        for target in TARGETS {
            let seeds = paths::workspace_root()
                .join("host-tests/fuzz/seeds")
                .join(target);
            assert!(
                seeds
                    .read_dir()
                    .is_ok_and(|mut files| files.next().is_some()),
                "{target}"
            );
        }
    }
}
