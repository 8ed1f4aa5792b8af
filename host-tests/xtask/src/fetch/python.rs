//! The official client package and what it needs, in a folder of their own, for the client tests.
//! A virtual environment would need `ensurepip`, which some systems package apart from pip.

use super::{pinned, pip};
use crate::error::XtaskError;
use crate::signals::Interrupt;
use crate::subprocess;
use farthing_host_tests::paths;
use std::path::PathBuf;
use std::process::Command;

/// The versions of Python that the compiled wheels in `requirements.txt` are pinned for.
const OLDEST: Version = Version(3, 11);
const NEWEST: Version = Version(3, 14);

/// Major and minor version of Python.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

/// Installs the pinned requirements, unless they are there; answers what `PYTHONPATH` must be.
pub fn client_packages(interrupt: &Interrupt) -> Result<PathBuf, XtaskError> {
    let requirements = paths::workspace_root().join("host-tests/python/requirements.txt");
    let folder = paths::python_packages(&version(interrupt)?);
    let install = || Ok(pip::install(&folder, &requirements));
    let what = "the openai package and what it needs";
    pinned::folder(what, &folder, &requirements, install, interrupt)?;
    Ok(folder)
}

/// The version of `python3`, which must be one that the requirements are pinned for.
pub fn version(interrupt: &Interrupt) -> Result<String, XtaskError> {
    let mut ask = Command::new("python3");
    ask.args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]);
    let output = subprocess::run(&mut ask, interrupt, |_| {})?.require_success("python3")?;
    let text = output.last().map_or("", |line| line.trim());
    require_supported(text)?;
    Ok(text.to_string())
}

fn require_supported(text: &str) -> Result<(), XtaskError> {
    let version = text
        .split_once('.')
        .and_then(|(major, minor)| Some(Version(major.parse().ok()?, minor.parse().ok()?)));
    if version.is_some_and(|version| (OLDEST..=NEWEST).contains(&version)) {
        return Ok(());
    }
    Err(XtaskError::Unexpected(format!(
        "the packages are pinned for Python {}.{} to {}.{}; python3 is {text:?}",
        OLDEST.0, OLDEST.1, NEWEST.0, NEWEST.1
    )))
}

#[cfg(test)]
mod tests {
    use super::require_supported;

    #[test]
    fn only_versions_with_pinned_wheels_are_taken() {
        for version in ["3.11", "3.12", "3.14"] {
            assert!(require_supported(version).is_ok(), "{version}");
        }
        for version in ["2.7", "3.9", "3.10", "3.15", "4.0", "3", ""] {
            let message = require_supported(version).unwrap_err().to_string();
            assert!(message.contains("Python 3.11 to 3.14"), "{message}");
        }
    }
}
