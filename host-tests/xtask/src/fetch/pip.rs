//! pip as everything here calls it.

use std::path::Path;
use std::process::Command;

/// `python3 -m pip COMMAND`, which asks nobody anything and does not look for a newer pip.
pub fn command(command: &str) -> Command {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--disable-pip-version-check", "--no-input"]);
    pip.arg(command);
    pip
}

/// Installs into `folder` what `requirements` names, wheels with the hashes there only.
pub fn install(folder: &Path, requirements: &Path) -> Command {
    let mut install = command("install");
    install.args(["--quiet", "--no-deps", "--only-binary=:all:"]);
    install.arg("--target").arg(folder);
    install.args(["--require-hashes", "--requirement"]);
    install.arg(requirements);
    install
}
