//! The virtual environment that holds the official client package, for the client tests.

use super::stamp;
use crate::error::XtaskError;
use crate::signals::Interrupt;
use crate::subprocess;
use farthing_host_tests::paths;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Makes the environment from the pinned requirements, unless it is there; answers its Python.
pub fn client_environment(interrupt: &Interrupt) -> Result<PathBuf, XtaskError> {
    let requirements = paths::workspace_root().join("host-tests/python/requirements.txt");
    let pinned = stamp::sha256_of(&requirements)?;
    let python = paths::python();
    let folder = paths::farthing_dir().join("python");
    let made_from = folder.join("requirements.sha256");
    if python.exists() && fs::read_to_string(&made_from).is_ok_and(|text| text == pinned) {
        return Ok(python);
    }
    eprintln!("fetch: the openai package and what it needs");
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    subprocess::run(&mut make, interrupt, |_| {})?.require_success("python3 -m venv")?;
    let mut install = Command::new(&python);
    install.args([
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "install",
    ]);
    install.args([
        "--quiet",
        "--require-hashes",
        "--only-binary=:all:",
        "--requirement",
    ]);
    install.arg(&requirements);
    subprocess::run(&mut install, interrupt, |_| {})?.require_success("pip install")?;
    fs::write(&made_from, pinned).map_err(XtaskError::file("write", &made_from))?;
    Ok(python)
}
