//! pip as everything here calls it.

use std::process::Command;

/// `python3 -m pip COMMAND`, which asks nobody anything and does not look for a newer pip.
pub fn command(command: &str) -> Command {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--disable-pip-version-check", "--no-input"]);
    pip.arg(command);
    pip
}
