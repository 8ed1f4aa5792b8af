//! The backend and Envoy with the filter, as one thing that starts, serves and stops. Dropping it
//! ends both; so does the end of this process, however it comes.

use crate::error::XtaskError;
use crate::signals::Interrupt;
use farthing_host_tests::backend::{Backend, BackendOptions};
use farthing_host_tests::envoy::{Envoy, EnvoyConfig, EnvoyOptions};
use farthing_host_tests::process::{POLL, run_folder};
use farthing_host_tests::{HarnessError, client, paths};
use serde_yaml_ng::Value;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// The configuration that `up` and `demo` run.
pub const ENVOY_CONFIG: &str = "demo.yaml";
/// The cluster of that configuration which our backend is.
const BACKEND_CLUSTER: &str = "backend";
/// Both parts are ready when this starts; it is about the path between them.
const REACHABLE_WITHIN: Duration = Duration::from_secs(20);
/// How much of a log an error shows.
const LOG_LINES: usize = 25;
/// Envoy repeats whole configurations in one line.
const LINE_CHARS_MAX: usize = 400;
/// What stands before the path of a refused field in the log of the filter and of the backend.
const FILTER_REFUSAL: &str = "configuration refused: ";
const BACKEND_REFUSAL: &str = "farthing: configuration, ";

/// What the stack is started with; port 0 takes a free one.
pub struct StackOptions {
    pub port: u16,
    pub admin_port: u16,
    pub backend_port: u16,
    pub models: PathBuf,
    /// Replaces the filter's configuration.
    pub filter: Option<Value>,
    /// Replace single fields of the filter's configuration.
    pub filter_fields: Vec<(String, Value)>,
    /// The backend's configuration file; without one every default, and a response store.
    pub backend: Option<Value>,
    /// Envoy's worker threads.
    pub workers: u32,
}

impl StackOptions {
    /// The shipped configuration on free ports with the fetched models.
    pub fn new() -> StackOptions {
        StackOptions {
            port: 0,
            admin_port: 0,
            backend_port: 0,
            models: paths::models(),
            filter: None,
            filter_fields: Vec::new(),
            backend: None,
            workers: 2,
        }
    }
}

/// Envoy with the filter, and the backend behind it.
pub struct Stack {
    pub envoy: Envoy,
    pub backend: Backend,
}

impl Stack {
    /// Starts both parts and waits until a request gets through.
    pub fn start(options: StackOptions, interrupt: &Interrupt) -> Result<Stack, XtaskError> {
        let backend = start_backend(&options, interrupt)?;
        let mut config = EnvoyConfig::shipped(ENVOY_CONFIG)?;
        config.set_listener_port(options.port)?;
        config.set_admin_port(options.admin_port)?;
        config.set_upstream(BACKEND_CLUSTER, backend.address())?;
        if let Some(filter) = options.filter {
            *config.plugin_configuration()? = filter;
        }
        for (name, value) in options.filter_fields {
            config.set_plugin_field(&name, value)?;
        }
        let envoy_options = EnvoyOptions::new(options.workers);
        let envoy = interrupt
            .race(move || Envoy::start(&config, &envoy_options))?
            .map_err(|error| explain("filter", FILTER_REFUSAL, error))?;
        let mut stack = Stack { envoy, backend };
        stack.wait_until_reachable(interrupt)?;
        Ok(stack)
    }

    /// Where clients send requests.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.envoy.port).into()
    }

    /// Why the stack no longer serves, if a part of it has ended.
    pub fn failure(&mut self) -> Option<XtaskError> {
        let ended = |what: &str, status, log: &str| {
            XtaskError::Unexpected(format!("{what} ended by itself ({status})\n{}", tail(log)))
        };
        if let Some(status) = self.backend.exit_status() {
            return Some(ended("the backend", status, &self.backend.log()));
        }
        let status = self.envoy.exit_status()?;
        Some(ended("Envoy", status, &self.envoy.log()))
    }

    /// Lets both parts finish what they are doing, Envoy first so that nothing new arrives.
    pub fn stop(self) -> Result<(), XtaskError> {
        self.envoy.stop()?;
        self.backend.stop()?;
        Ok(())
    }

    fn wait_until_reachable(&mut self, interrupt: &Interrupt) -> Result<(), XtaskError> {
        let end = Instant::now() + REACHABLE_WITHIN;
        loop {
            interrupt.check()?;
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            let found = client::get(self.address(), "/v1/models");
            if found.is_ok_and(|response| response.status == 200) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(XtaskError::Unexpected(format!(
                    "Envoy does not reach the backend within {REACHABLE_WITHIN:?}\n{}",
                    tail(&self.envoy.log())
                )));
            }
            thread::sleep(POLL);
        }
    }
}

fn start_backend(options: &StackOptions, interrupt: &Interrupt) -> Result<Backend, XtaskError> {
    let mut backend = BackendOptions::new();
    backend.models = options.models.clone();
    backend.port = options.backend_port;
    let folder = run_folder("backend-config")?;
    let with_store = || {
        let store = serde_json::json!({"path": folder.join("responses.redb")});
        serde_yaml_ng::to_value(serde_json::json!({"response_store": store}))
    };
    let config = options.backend.clone().map_or_else(with_store, Ok);
    let text = config.and_then(|config| serde_yaml_ng::to_string(&config));
    let text = text.map_err(|error| XtaskError::Config(format!("backend: {error}")))?;
    let file = folder.join("backend.yaml");
    fs::write(&file, text).map_err(XtaskError::file("write", &file))?;
    backend.config = Some(file);
    interrupt
        .race(move || Backend::start(&backend))?
        .map_err(|error| explain("backend", BACKEND_REFUSAL, error))
}

/// A part says a lot before it gives up. What a user can act on is what it said against its
/// configuration, or else its last line.
fn explain(section: &str, marker: &str, error: HarnessError) -> XtaskError {
    let HarnessError::NotReady {
        what,
        reason,
        log_tail,
    } = &error
    else {
        return error.into();
    };
    let refused = log_tail
        .lines()
        .find_map(|line| Some(line.split_once(marker)?.1.trim()));
    if let Some(field) = refused {
        return XtaskError::Config(format!("{section}.{field}"));
    }
    match log_tail.lines().rfind(|line| !line.trim().is_empty()) {
        Some(last) if reason.starts_with("ended") => {
            let last: String = last.chars().take(LINE_CHARS_MAX).collect();
            XtaskError::Unexpected(format!("{what} {reason}: {last}"))
        }
        _ => error.into(),
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
