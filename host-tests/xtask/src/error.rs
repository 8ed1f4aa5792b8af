//! What ends a command, in words that say what to do about it.

use farthing_host_tests::HarnessError;
use std::io;
use std::path::Path;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum XtaskError {
    /// A file, a socket or a process could not be used.
    #[error("{action}: {source}")]
    Io { action: String, source: io::Error },
    /// Envoy, the backend or the client around them failed.
    #[error(transparent)]
    Harness(#[from] HarnessError),
    /// Every source of an artifact failed; `reasons` has one line a source.
    #[error("cannot fetch {artifact}:\n{reasons}")]
    Fetch { artifact: String, reasons: String },
    /// A command that we ran ended badly; `output` is what it said.
    #[error("{step} failed ({status})\n{output}")]
    Step {
        step: String,
        status: String,
        output: String,
    },
    /// The user's configuration file is wrong; the message names the field.
    #[error("configuration: {0}")]
    Config(String),
    /// Something was observed that must not be.
    #[error("{0}")]
    Unexpected(String),
    /// A signal asked us to end; everything we started has been stopped.
    #[error("interrupted by {name}")]
    Interrupted { name: &'static str, number: u8 },
}

impl XtaskError {
    /// Wraps an I/O error with what was being done.
    pub fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> XtaskError {
        let action = action.into();
        move |source| XtaskError::Io { action, source }
    }

    /// Wraps an I/O error on a file.
    pub fn file(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> XtaskError {
        XtaskError::io(format!("cannot {verb} {}", path.display()))
    }

    /// The exit status of the process; for a signal, what a shell would report.
    pub fn exit_code(&self) -> u8 {
        match self {
            XtaskError::Interrupted { number, .. } => 128 + number,
            XtaskError::Config(_) => 2,
            _ => 1,
        }
    }
}
