//! What a figure was measured on: without it a figure says nothing.

use farthing_host_tests::paths;
use std::fs;
use std::process::Command;
use std::thread;

/// The machine, the versions and the commit of a run.
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub commit: String,
}

impl Machine {
    /// Looks at this machine and this checkout; what cannot be read is `unknown`.
    pub fn here() -> Machine {
        Machine {
            cpu: cpu_model().unwrap_or_else(|| "unknown".to_string()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            commit: commit().unwrap_or_else(|| "unknown".to_string()),
        }
    }

    /// One line for a report.
    pub fn line(&self) -> String {
        format!(
            "{} · {} cores · Envoy {} · farthing {} at {}",
            self.cpu,
            self.cores,
            paths::ENVOY_VERSION,
            env!("CARGO_PKG_VERSION"),
            self.commit
        )
    }
}

fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude", "*"])
        .current_dir(paths::workspace_root())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_string()).filter(|text| !text.is_empty())
}
