//! Other gateways as running processes: one worker each, as the filter has, with the benchmark's
//! upstream behind them and everything that costs time beside proxying switched off.

use super::bodies;
use super::lab::{Arm, CHAT_BYTES, PATH};
use crate::bench::load::Request;
use crate::error::XtaskError;
use crate::fetch;
use crate::signals::Interrupt;
use farthing_host_tests::process::{Leashed, run_folder};
use farthing_host_tests::{HarnessError, client, ports};
use serde_json::json;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Importing LiteLLM takes half a minute on a busy core.
const READY_WITHIN: Duration = Duration::from_secs(180);
const STOP_GRACE_S: u32 = 2;
/// LiteLLM does not start without a key that is long enough.
const LITELLM_KEY: &str = "sk-5f0d61c1a29e4b7f8c3d92e46b17a0835d2c6e9f4a1b8c07";

/// Whether a gateway answers repeats from a cache of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnCache {
    On,
    Off,
}

/// A gateway that serves; it is killed on drop.
pub struct Gateway {
    pub arm: Arm,
    _process: Leashed,
}

/// LiteLLM's proxy.
pub fn litellm(
    upstream: SocketAddr,
    cache: OwnCache,
    interrupt: &Interrupt,
) -> Result<Gateway, XtaskError> {
    let packages = fetch::litellm(interrupt)?;
    let mut settings = json!({"telemetry": false, "num_retries": 0});
    if cache == OwnCache::On {
        settings["cache"] = true.into();
        // By itself it caches no conversation of more than four messages.
        settings["cache_params"] = json!({"type": "local", "max_messages": null});
    }
    let parameters = json!({
        "model": "openai/smollm2-135m-instruct",
        "api_base": format!("http://{upstream}/v1"),
        "api_key": "benchmark",
    });
    let config = json!({
        "model_list": [{"model_name": "auto", "litellm_params": parameters}],
        "litellm_settings": settings,
    });
    let folder = run_folder("litellm")?;
    let file = folder.join("litellm.yaml");
    fs::write(&file, config.to_string()).map_err(XtaskError::file("write", &file))?;
    let address = free_address()?;
    let arguments = [
        format!("PYTHONPATH={}", packages.display()),
        format!("LITELLM_MASTER_KEY={LITELLM_KEY}"),
        "LITELLM_LOCAL_MODEL_COST_MAP=True".to_string(),
        "LITELLM_LOG=ERROR".to_string(),
        "LITELLM_MODE=PRODUCTION".to_string(),
        "python3".to_string(),
        "-m".to_string(),
        "litellm.proxy.proxy_cli".to_string(),
        "--config".to_string(),
        file.display().to_string(),
        "--host".to_string(),
        address.ip().to_string(),
        "--port".to_string(),
        address.port().to_string(),
        "--num_workers".to_string(),
        "1".to_string(),
    ];
    let process = start(
        "litellm",
        &arguments,
        &folder,
        address,
        "/health/liveliness",
    )?;
    let authorization = format!("Bearer {LITELLM_KEY}");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", authorization.as_str()),
    ];
    let body = bodies::chat(CHAT_BYTES);
    let (name, request) = match cache {
        OwnCache::On => ("litellm, hits", Request::repeated(PATH, &headers, &body)),
        OwnCache::Off => ("litellm", Request::unique(PATH, &headers, &body)),
    };
    Ok(gateway(name, address, request, process))
}

/// Portkey's gateway.
pub fn portkey(upstream: SocketAddr, interrupt: &Interrupt) -> Result<Gateway, XtaskError> {
    let script = fetch::portkey(interrupt)?;
    let folder = run_folder("portkey")?;
    let address = free_address()?;
    let arguments = [
        "NODE_ENV=production".to_string(),
        // Else it refuses an upstream on the loopback.
        format!("TRUSTED_CUSTOM_HOSTS={},localhost,127.0.0.1", upstream.ip()),
        "node".to_string(),
        script.display().to_string(),
        "--headless".to_string(),
        format!("--port={}", address.port()),
    ];
    let process = start("portkey", &arguments, &folder, address, "/")?;
    let custom_host = format!("http://{upstream}/v1");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer benchmark"),
        ("x-portkey-provider", "openai"),
        ("x-portkey-custom-host", custom_host.as_str()),
    ];
    let request = Request::unique(PATH, &headers, &bodies::chat(CHAT_BYTES));
    Ok(gateway("portkey", address, request, process))
}

fn gateway(name: &'static str, target: SocketAddr, request: Request, process: Leashed) -> Gateway {
    Gateway {
        arm: Arm {
            name,
            target,
            request,
            source: None,
            pid: process.pid(),
        },
        _process: process,
    }
}

fn free_address() -> Result<SocketAddr, XtaskError> {
    let port = ports::free_port().map_err(XtaskError::io("cannot take a port"))?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

/// Starts a gateway by `env`, which sets its environment, and waits until `path` answers.
fn start(
    name: &str,
    arguments: &[String],
    folder: &Path,
    address: SocketAddr,
    path: &str,
) -> Result<Leashed, HarnessError> {
    let log = folder.join("gateway.log");
    let env = Path::new("/usr/bin/env");
    let mut process = Leashed::start(name, env, arguments, log, STOP_GRACE_S)?;
    process.wait_for("an answer", READY_WITHIN, |_| {
        let response = client::get(address, path).ok()?;
        (response.status == 200).then_some(())
    })?;
    Ok(process)
}
