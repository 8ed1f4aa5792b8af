//! `cargo xtask up`: the stack in the foreground. Standard output is one line, when it serves.

use crate::cli::UpOptions;
use crate::error::XtaskError;
use crate::signals::Interrupt;
use crate::stack::{Stack, StackOptions};
use crate::{build, fetch};
use serde::Deserialize;
use serde_yaml_ng::Value;
use std::fs;
use std::io::{Write, stdout};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How often a signal and the two processes are looked at.
const POLL: Duration = Duration::from_millis(50);

/// The user's configuration file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpConfig {
    /// What stands under the plugin's `configuration` in Envoy.
    filter: Option<Value>,
    /// What `farthing serve --config` reads.
    backend: Option<Value>,
}

/// Serves until a signal arrives or a part ends.
pub fn run(options: &UpOptions, interrupt: &Interrupt) -> Result<(), XtaskError> {
    match serve(options, interrupt) {
        Err(XtaskError::Interrupted { name, .. }) => {
            eprintln!("up: stopped by {name}");
            Ok(())
        }
        outcome => outcome,
    }
}

fn serve(options: &UpOptions, interrupt: &Interrupt) -> Result<(), XtaskError> {
    let config = match &options.config {
        Some(path) => read_config(path)?,
        None => UpConfig::default(),
    };
    match options.models {
        Some(_) => fetch::without_models(interrupt)?,
        None => fetch::everything(interrupt)?,
    }
    build::everything(interrupt)?;
    let mut stack_options = StackOptions::new();
    stack_options.port = options.port.unwrap_or(0);
    stack_options.admin_port = options.admin_port.unwrap_or(0);
    stack_options.backend_port = options.backend_port.unwrap_or(0);
    if let Some(models) = &options.models {
        stack_options.models = absolute(models)?;
    }
    stack_options.filter = config.filter;
    stack_options.backend = config.backend;
    let mut stack = Stack::start(stack_options, interrupt)?;
    announce(&stack)?;
    loop {
        if let Err(interrupted) = interrupt.check() {
            stack.stop()?;
            return Err(interrupted);
        }
        if let Some(failure) = stack.failure() {
            return Err(failure);
        }
        thread::sleep(POLL);
    }
}

fn announce(stack: &Stack) -> Result<(), XtaskError> {
    eprintln!("up: backend on http://{}", stack.backend.address());
    eprintln!(
        "up: Envoy's admin interface on http://{}",
        stack.envoy.admin_address()
    );
    eprintln!("up: Envoy's log is {}", stack.envoy.log_path().display());
    let mut out = stdout();
    writeln!(out, "ready http://{}", stack.address())
        .and_then(|()| out.flush())
        .map_err(XtaskError::io("cannot write to standard output"))
}

fn read_config(path: &Path) -> Result<UpConfig, XtaskError> {
    let text = fs::read_to_string(path).map_err(XtaskError::file("read", path))?;
    if text.trim().is_empty() {
        return Ok(UpConfig::default());
    }
    let config: UpConfig = serde_yaml_ng::from_str(&text)
        .map_err(|error| XtaskError::Config(format!("{}: {error}", path.display())))?;
    for (name, section) in [("filter", &config.filter), ("backend", &config.backend)] {
        if section
            .as_ref()
            .is_some_and(|section| !section.is_mapping())
        {
            return Err(XtaskError::Config(format!(
                "{}: {name}: not a mapping",
                path.display()
            )));
        }
    }
    Ok(config)
}

/// Cargo runs us in the workspace; a relative path is the user's, from where they stand.
fn absolute(path: &Path) -> Result<std::path::PathBuf, XtaskError> {
    fs::canonicalize(path).map_err(XtaskError::file("open", path))
}
