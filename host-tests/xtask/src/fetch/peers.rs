//! Other programs, for the benchmarks. For the edge: LiteLLM's proxy from PyPI with every wheel
//! pinned by its hash, Portkey's gateway from npm by its lock file, which holds the hash of every
//! package. For the engine: llama.cpp's server, built here from a pinned source package.

use super::{pinned, pip, python};
use crate::error::XtaskError;
use crate::signals::Interrupt;
use farthing_host_tests::paths;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the pins lie.
const PINS: &str = "host-tests/peers";

/// Installs LiteLLM's proxy, unless it is there; answers what `PYTHONPATH` must be.
pub fn litellm(interrupt: &Interrupt) -> Result<PathBuf, XtaskError> {
    let pins = paths::workspace_root().join(PINS).join("requirements.txt");
    let python = python::version(interrupt)?;
    let folder = paths::peers_dir().join(format!("litellm-python-{python}"));
    let install = || Ok(pip::install(&folder, &pins));
    pinned::folder("LiteLLM's proxy", &folder, &pins, install, interrupt)?;
    Ok(folder)
}

/// Installs Portkey's gateway, unless it is there; answers the script that `node` runs.
pub fn portkey(interrupt: &Interrupt) -> Result<PathBuf, XtaskError> {
    let pins = paths::workspace_root().join(PINS);
    let lock = pins.join("package-lock.json");
    let folder = paths::peers_dir().join("portkey");
    let install = || npm(&pins, &folder);
    pinned::folder("Portkey's gateway", &folder, &lock, install, interrupt)?;
    Ok(folder.join("node_modules/@portkey-ai/gateway/build/start-server.js"))
}

/// Builds llama.cpp's server for this processor, unless it is there; answers the program.
pub fn llama_cpp(interrupt: &Interrupt) -> Result<PathBuf, XtaskError> {
    let pins = paths::workspace_root().join(PINS);
    let folder = paths::peers_dir().join("llama.cpp");
    let build = || {
        let mut build = Command::new("bash");
        build.arg(pins.join("build-llama-cpp.sh"));
        build.args([&pins, &folder]);
        Ok(build)
    };
    let what = "llama.cpp's server (some ten minutes)";
    pinned::folder(what, &folder, &pins.join("llama-cpp.txt"), build, interrupt)?;
    Ok(folder.join("llama-server"))
}

/// `npm ci`, which installs what the lock file names or nothing. No package gets to run a script.
fn npm(pins: &Path, folder: &Path) -> Result<Command, XtaskError> {
    for name in ["package.json", "package-lock.json"] {
        let to = folder.join(name);
        fs::copy(pins.join(name), &to).map_err(XtaskError::file("write", &to))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    npm.current_dir(folder);
    Ok(npm)
}
