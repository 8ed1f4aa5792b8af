//! `cargo xtask test`: every test there is. The Rust tests, the kernels for the architecture that
//! this machine has not, the CUDA kernels in both compilers, the official `openai` package as a
//! client of the whole stack, and the demo, which checks itself.

use crate::build::{self, TEST_GROUPS, cargo_command};
use crate::cli::{DemoOptions, FUZZ_SECONDS, FuzzOptions};
use crate::error::XtaskError;
use crate::signals::Interrupt;
use crate::stack::{Stack, StackOptions};
use crate::{demo, embedded, fetch, fuzz, kernels, subprocess};
use farthing_host_tests::paths;
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// A tenant that `envoy/demo.yaml` names, and the credential by which it is known.
const LIMITED_TENANT: &str = "small-budget";
const LIMITED_KEY: &str = "demo-small-budget";
/// Less than any answer costs.
const LIMITED_USD: &str = "0.000001";

/// Counts of a suite or of all.
#[derive(Clone, Copy, Default)]
struct Tally {
    passed: u64,
    failed: u64,
}

/// Runs everything, even after a failure, and ends with one line of counts.
pub fn run(interrupt: &Interrupt) -> Result<(), XtaskError> {
    fetch::for_tests(interrupt)?;
    let packages = fetch::client_packages(interrupt)?;
    // Before the builds, which have the kernels inside.
    kernels::run(interrupt)?;
    build::for_tests(interrupt)?;
    let started = Instant::now();
    let suites = [
        ("rust tests", tally(rust_tests(interrupt))?),
        ("kernels for 64-bit ARM", tally(arm_check(interrupt))?),
        ("kernels in NVRTC", tally(compiler_run(interrupt))?),
        ("openai client", tally(client_tests(&packages, interrupt))?),
        ("embedded vocabulary", tally(embedded_run(interrupt))?),
        ("demo", tally(demo_run(interrupt))?),
        ("fuzz targets", tally(fuzz_run(interrupt))?),
    ];
    println!();
    let mut total = Tally::default();
    for (name, tally) in suites {
        println!("{name}: {} passed, {} failed", tally.passed, tally.failed);
        total.passed += tally.passed;
        total.failed += tally.failed;
    }
    eprintln!(
        "test: {:.0} s without building the parts",
        started.elapsed().as_secs_f64()
    );
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed > 0 || total.passed == 0 {
        return Err(XtaskError::Unexpected("not every test passed".to_string()));
    }
    Ok(())
}

/// `cargo test` over the native crates, with the filter and the backend that were just built.
fn rust_tests(interrupt: &Interrupt) -> Result<Tally, XtaskError> {
    let mut tally = Tally::default();
    for group in TEST_GROUPS {
        eprintln!("test: rust tests of {}", group.join(", "));
        let mut command = cargo_command();
        command
            .args(build::test_arguments(group))
            .arg("--no-fail-fast")
            .env("FARTHING_WASM", paths::wasm())
            .env("FARTHING_BIN", paths::backend());
        let finished = subprocess::run(&mut command, interrupt, |line| {
            let Some(line) = line else { return };
            println!("{line}");
            tally.add_cargo_result(line);
        })?;
        tally.count_a_failure_unless(finished.status.success());
    }
    Ok(tally)
}

/// Whether the kernels compile for ARM. Nothing is linked or run: that would take a linker and an
/// emulator of another architecture.
fn arm_check(interrupt: &Interrupt) -> Result<Tally, XtaskError> {
    eprintln!("test: the kernels compile for 64-bit ARM");
    let target = fetch::arm_target(interrupt)?;
    let mut command = cargo_command();
    command.args([
        "clippy",
        "--release",
        "--locked",
        "--package",
        "farthing-kernels",
    ]);
    command.args(["--target", target, "--", "-D", "warnings"]);
    build::show("the kernels for 64-bit ARM", &mut command, interrupt)?;
    Ok(Tally {
        passed: 1,
        failed: 0,
    })
}

/// The kernels in the compiler of machines whose build has none inside. nvcc has compiled them
/// before; the rest of the two is the same.
fn compiler_run(interrupt: &Interrupt) -> Result<Tally, XtaskError> {
    eprintln!("test: the CUDA kernels in NVRTC");
    let toolkit = fetch::cuda_toolkit(interrupt)?;
    let program = paths::require("the program for cards", paths::gpu_program())?;
    let mut command = Command::new(program);
    command
        .args(["compile", "--syntax"])
        .env("LD_LIBRARY_PATH", toolkit.libraries());
    plain_tests(&mut command, interrupt)
}

/// A program that ends with its counts.
fn plain_tests(command: &mut Command, interrupt: &Interrupt) -> Result<Tally, XtaskError> {
    let mut tally = Tally::default();
    let finished = subprocess::run(command, interrupt, |line| {
        let Some(line) = line else { return };
        println!("{line}");
        tally.add_plain_result(line);
    })?;
    tally.count_a_failure_unless(finished.status.success());
    Ok(tally)
}

/// The official client against Envoy.
fn client_tests(packages: &Path, interrupt: &Interrupt) -> Result<Tally, XtaskError> {
    eprintln!("test: the openai package as a client");
    let mut options = StackOptions::new();
    let tenants = json!({LIMITED_TENANT: LIMITED_USD});
    let budget = json!({"window_s": 3_600, "usd": "100", "tenants": tenants});
    let budget = serde_yaml_ng::to_value(budget)
        .map_err(|error| XtaskError::Unexpected(format!("client tests: {error}")))?;
    options.filter_fields.push(("budget".to_string(), budget));
    let stack = Stack::start(options, interrupt)?;
    let mut command = Command::new("python3");
    command
        .arg(paths::workspace_root().join("host-tests/python/openai_client.py"))
        .env("PYTHONPATH", packages)
        .env("FARTHING_URL", format!("http://{}", stack.address()))
        .env("FARTHING_LIMITED_KEY", LIMITED_KEY);
    let tally = plain_tests(&mut command, interrupt)?;
    stack.stop()?;
    Ok(tally)
}

/// A filter with a vocabulary inside.
fn embedded_run(interrupt: &Interrupt) -> Result<Tally, XtaskError> {
    eprintln!("test: a filter with {} inside", embedded::VOCABULARY);
    embedded::check(interrupt)?;
    Ok(Tally {
        passed: 1,
        failed: 0,
    })
}

/// The demo, whose rows say what must come of them.
fn demo_run(interrupt: &Interrupt) -> Result<Tally, XtaskError> {
    eprintln!("test: the demo");
    demo::send(&DemoOptions { json: None }, interrupt)?;
    Ok(Tally {
        passed: 1,
        failed: 0,
    })
}

/// Every fuzz target for a while; a finding fails all of them.
fn fuzz_run(interrupt: &Interrupt) -> Result<Tally, XtaskError> {
    eprintln!("test: the fuzz targets");
    let options = FuzzOptions {
        seconds: FUZZ_SECONDS,
        target: None,
    };
    let tried = fuzz::run(&options, interrupt)?;
    Ok(Tally {
        passed: tried.len() as u64,
        failed: 0,
    })
}

/// A suite that could not run to its end has failed; only a signal ends the others too.
fn tally(outcome: Result<Tally, XtaskError>) -> Result<Tally, XtaskError> {
    match outcome {
        Err(error) if !matches!(error, XtaskError::Interrupted { .. }) => {
            println!("error: {error}");
            Ok(Tally {
                passed: 0,
                failed: 1,
            })
        }
        outcome => outcome,
    }
}

impl Tally {
    /// `test result: ok. 3 passed; 0 failed; …`, which is printed once a test binary.
    fn add_cargo_result(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else {
            return;
        };
        let (_, counts) = rest.split_once(". ").unwrap_or_default();
        for part in counts.split("; ") {
            self.add_count(part);
        }
    }

    /// `3 passed, 0 failed`, alone on its line.
    fn add_plain_result(&mut self, line: &str) {
        let parts: Vec<&str> = line.split(", ").collect();
        if parts.len() == 2 && parts[0].ends_with(" passed") && parts[1].ends_with(" failed") {
            parts.iter().for_each(|part| self.add_count(part));
        }
    }

    fn add_count(&mut self, part: &str) {
        let Some((number, what)) = part.trim().split_once(' ') else {
            return;
        };
        let Ok(number) = number.parse::<u64>() else {
            return;
        };
        match what {
            "passed" => self.passed += number,
            "failed" => self.failed += number,
            _ => {}
        }
    }

    /// A suite that fails without naming a test, because it does not compile or was killed, failed.
    fn count_a_failure_unless(&mut self, success: bool) {
        if !success && self.failed == 0 {
            self.failed = 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn results_are_counted_from_the_lines_that_runners_print() {
        let mut tally = Tally::default();
        tally.add_cargo_result("test result: ok. 12 passed; 1 failed; 2 ignored; 0 measured");
        tally.add_cargo_result("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured");
        tally.add_cargo_result("test module::passed ... ok");
        tally.add_plain_result("7 passed, 1 failed");
        tally.add_plain_result("in all 7 passed, 1 failed, more");
        assert_eq!((tally.passed, tally.failed), (22, 4));
    }
}
