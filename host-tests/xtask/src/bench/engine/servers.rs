//! The backend and llama.cpp's server as running processes.

use super::{Bench, THREADS};
use crate::error::XtaskError;
use crate::fetch;
use crate::signals::Interrupt;
use farthing_host_tests::backend::{Backend, BackendOptions};
use farthing_host_tests::process::{Leashed, run_folder};
use farthing_host_tests::{client, paths, ports};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Loading a model on two busy cores takes seconds.
const READY_WITHIN: Duration = Duration::from_secs(120);
const STOP_GRACE_S: u32 = 5;
/// Sequences that llama.cpp keeps places for, and tokens for each: as many as the benchmark sends.
const SLOTS: usize = 16;
const SLOT_TOKENS: usize = 1_024;

/// Something that serves completions; it is killed on drop.
pub struct Server {
    pub address: SocketAddr,
    _process: Process,
}

enum Process {
    Backend { _backend: Box<Backend> },
    Peer { _peer: Box<Leashed> },
}

/// The peer guesses no tokens ahead, and made-up prompts repeat themselves: what would be guessed
/// of them says nothing of others.
const CONFIG: &str = "speculative: {lookup: false}\n";

/// The backend with every model.
pub fn backend(bench: &Bench<'_>) -> Result<Server, XtaskError> {
    backend_with(bench, "backend", CONFIG)
}

/// The backend with a configuration, which goes into a file of this name.
pub fn backend_with(bench: &Bench<'_>, name: &str, yaml: &str) -> Result<Server, XtaskError> {
    let config = run_folder("bench")?.join(format!("{name}.yaml"));
    fs::write(&config, yaml).map_err(XtaskError::file("write", &config))?;
    let mut options = BackendOptions::new();
    options.config = Some(config);
    options.arguments = vec!["--threads".to_string(), THREADS.to_string()];
    let backend = bench.interrupt.race(move || Backend::start(&options))??;
    Ok(Server {
        address: backend.address(),
        _process: Process::Backend {
            _backend: Box::new(backend),
        },
    })
}

/// llama.cpp's server with one model.
pub fn llama_cpp(interrupt: &Interrupt, model: &str, threads: usize) -> Result<Server, XtaskError> {
    let program = fetch::llama_cpp(interrupt)?;
    let port = ports::free_port().map_err(XtaskError::io("cannot take a port"))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let file = paths::models().join(format!("{model}.gguf"));
    let arguments = [
        "--model".to_string(),
        file.display().to_string(),
        "--host".to_string(),
        address.ip().to_string(),
        "--port".to_string(),
        port.to_string(),
        "--threads".to_string(),
        threads.to_string(),
        "--threads-batch".to_string(),
        threads.to_string(),
        "--parallel".to_string(),
        SLOTS.to_string(),
        "--ctx-size".to_string(),
        (SLOTS * SLOT_TOKENS).to_string(),
    ];
    let log = run_folder("llama.cpp")?.join("server.log");
    let mut process = Leashed::start("llama.cpp", &program, &arguments, log, STOP_GRACE_S)?;
    process.wait_for("a healthy answer", READY_WITHIN, |_| {
        let response = client::get(address, "/health").ok()?;
        (response.status == 200).then_some(())
    })?;
    Ok(Server {
        address,
        _process: Process::Peer {
            _peer: Box::new(process),
        },
    })
}
