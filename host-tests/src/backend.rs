//! The backend as a running process.

use crate::process::{Leashed, run_folder};
use crate::{HarnessError, paths};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Loading and repacking two models on two busy cores takes seconds, not minutes.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// The backend ends by itself once its own bound on draining, 30 s by default, has passed. Killing
/// it at that very moment would hide how it ends.
const STOP_GRACE_S: u32 = 40;

/// How to start the backend.
#[derive(Clone, Debug)]
pub struct BackendOptions {
    /// The folder of the model files.
    pub models: PathBuf,
    /// Port 0 takes a free one.
    pub port: u16,
    /// The backend's own configuration file.
    pub config: Option<PathBuf>,
    /// Further arguments of `farthing serve`.
    pub arguments: Vec<String>,
}

impl BackendOptions {
    /// The models of the workspace, on a free port, with every default.
    pub fn new() -> BackendOptions {
        BackendOptions {
            models: paths::models(),
            port: 0,
            config: None,
            arguments: Vec::new(),
        }
    }
}

impl Default for BackendOptions {
    fn default() -> BackendOptions {
        BackendOptions::new()
    }
}

/// A backend that serves. It is killed on drop.
pub struct Backend {
    process: Leashed,
    address: SocketAddr,
}

impl Backend {
    /// Starts `farthing serve` and waits for its `ready http://ADDR` line.
    pub fn start(options: &BackendOptions) -> Result<Backend, HarnessError> {
        let binary = paths::require("the backend", paths::backend())?;
        let mut arguments = vec![
            "serve".to_string(),
            "--models".to_string(),
            options.models.display().to_string(),
            "--listen".to_string(),
            format!("127.0.0.1:{}", options.port),
        ];
        if let Some(config) = &options.config {
            arguments.extend(["--config".to_string(), config.display().to_string()]);
        }
        arguments.extend(options.arguments.iter().cloned());
        let log = run_folder("backend")?.join("backend.log");
        let mut process = Leashed::start("backend", &binary, &arguments, log, STOP_GRACE_S)?;
        let address = process.wait_for("its `ready` line", READY_WITHIN, ready_address)?;
        Ok(Backend { process, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything it has said so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The exit status, once it has ended.
    pub fn exit_status(&mut self) -> Option<std::process::ExitStatus> {
        self.process.exit_status()
    }

    /// Asks it to finish its streams and end, and waits until it has.
    pub fn stop(self) -> Result<std::process::ExitStatus, HarnessError> {
        self.process.stop()
    }
}

fn ready_address(log: &str) -> Option<SocketAddr> {
    // Only a whole line counts: the log may be read while the line is being written.
    log.split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
        .find_map(|line| line.strip_prefix("ready http://")?.trim().parse().ok())
}
