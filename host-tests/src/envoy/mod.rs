//! Real Envoy as a running process.

mod config;

pub use config::EnvoyConfig;

use crate::process::{Leashed, run_folder};
use crate::{HarnessError, client, paths};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// From start to ready takes 0.5 to 1.3 s on two busy cores; a loaded machine gets much more.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Envoy ends at once when asked; the rest is for a loaded machine.
const STOP_GRACE_S: u32 = 10;

/// How to start Envoy.
#[derive(Clone, Debug)]
pub struct EnvoyOptions {
    /// Worker threads, each with its own VM of the filter.
    pub concurrency: u32,
    /// `trace` to `critical`, or `off`.
    pub log_level: String,
}

impl EnvoyOptions {
    /// `concurrency` workers that say what they warn of, and what the filter tells.
    pub fn new(concurrency: u32) -> EnvoyOptions {
        EnvoyOptions {
            concurrency,
            log_level: "info".to_string(),
        }
    }
}

/// An Envoy that serves. It is killed on drop.
pub struct Envoy {
    /// Where clients send requests.
    pub port: u16,
    /// The admin interface.
    pub admin_port: u16,
    process: Leashed,
}

impl Envoy {
    /// Writes the configuration into a folder of this run, starts Envoy and waits until its admin
    /// interface says `LIVE` and the listener is bound.
    pub fn start(config: &EnvoyConfig, options: &EnvoyOptions) -> Result<Envoy, HarnessError> {
        let folder = run_folder("envoy")?;
        let admin_file = folder.join("admin.txt");
        let mut process = spawn(config, options, &folder, &admin_file)?;
        let admin = process.wait_for("an admin address", READY_WITHIN, |_| {
            fs::read_to_string(&admin_file)
                .ok()?
                .trim()
                .parse::<SocketAddr>()
                .ok()
        })?;
        let port = process.wait_for("a live listener", READY_WITHIN, |_| listener_port(admin))?;
        Ok(Envoy {
            port,
            admin_port: admin.port(),
            process,
        })
    }

    /// Starts Envoy on a configuration that it must refuse, and returns its log.
    pub fn refusal(config: &EnvoyConfig) -> Result<String, HarnessError> {
        let folder = run_folder("envoy")?;
        let options = EnvoyOptions::new(1);
        let mut process = spawn(config, &options, &folder, &folder.join("admin.txt"))?;
        let status = process.wait_for_exit(READY_WITHIN)?;
        if status.success() {
            return Err(HarnessError::Config("Envoy did not refuse it".to_string()));
        }
        Ok(process.log())
    }

    /// What `envoy --mode validate` says against a configuration, if anything.
    pub fn validate(config: &EnvoyConfig) -> Result<(), HarnessError> {
        let file = write_config(config, &run_folder("envoy")?)?;
        let output = Command::new(paths::require("Envoy", paths::envoy())?)
            .args(["--mode", "validate", "--log-level", "warn", "-c"])
            .arg(&file)
            .current_dir(paths::workspace_root())
            .output()
            .map_err(HarnessError::io("cannot start Envoy"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(HarnessError::NotReady {
            what: "envoy --mode validate".to_string(),
            reason: format!("refused {} ({})", file.display(), output.status),
            log_tail: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The address of the listener.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The address of the admin interface.
    pub fn admin_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.admin_port).into()
    }

    /// Envoy's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Everything Envoy and the filter have logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Where that is written.
    pub fn log_path(&self) -> &Path {
        self.process.log_path()
    }

    /// Every counter and gauge in Prometheus' text format.
    pub fn stats(&self) -> Result<String, HarnessError> {
        let response = client::get(self.admin_address(), "/stats/prometheus")
            .map_err(HarnessError::io("cannot read Envoy's metrics"))?;
        Ok(response.text())
    }

    /// The exit status, once Envoy has ended.
    pub fn exit_status(&mut self) -> Option<std::process::ExitStatus> {
        self.process.exit_status()
    }

    /// Waits, within `limit`, for a log that satisfies `found`.
    pub fn wait_for_log<T>(
        &mut self,
        goal: &str,
        limit: Duration,
        found: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, HarnessError> {
        self.process.wait_for(goal, limit, found)
    }

    /// Asks Envoy to end, and waits until it has.
    pub fn stop(self) -> Result<std::process::ExitStatus, HarnessError> {
        self.process.stop()
    }
}

fn spawn(
    config: &EnvoyConfig,
    options: &EnvoyOptions,
    folder: &Path,
    admin_file: &Path,
) -> Result<Leashed, HarnessError> {
    let binary = paths::require("Envoy", paths::envoy())?;
    let arguments = [
        "-c".to_string(),
        write_config(config, folder)?.display().to_string(),
        "--concurrency".to_string(),
        options.concurrency.to_string(),
        "--log-level".to_string(),
        options.log_level.clone(),
        "--admin-address-path".to_string(),
        admin_file.display().to_string(),
        // Without hot restart no two Envoys of one machine can collide on shared memory.
        "--disable-hot-restart".to_string(),
        "--file-flush-interval-msec".to_string(),
        "100".to_string(),
    ];
    Leashed::start(
        "envoy",
        &binary,
        &arguments,
        folder.join("envoy.log"),
        STOP_GRACE_S,
    )
}

fn write_config(config: &EnvoyConfig, folder: &Path) -> Result<PathBuf, HarnessError> {
    let file = folder.join("envoy.yaml");
    fs::write(&file, config.to_yaml()?)
        .map_err(HarnessError::io(format!("cannot write {}", file.display())))?;
    Ok(file)
}

/// The port that the first listener took, once Envoy is live.
fn listener_port(admin: SocketAddr) -> Option<u16> {
    let ready = client::get(admin, "/ready").ok()?;
    if ready.status != 200 {
        return None;
    }
    let listeners = client::get(admin, "/listeners?format=json").ok()?;
    let json: serde_json::Value = serde_json::from_slice(&listeners.body).ok()?;
    let port = json.pointer("/listener_statuses/0/local_address/socket_address/port_value")?;
    u16::try_from(port.as_u64()?).ok()
}
