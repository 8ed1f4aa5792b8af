//! What can go wrong around the parts under test, in words that say what to do.

use std::path::PathBuf;

/// Why a part could not be found, configured, started or talked to.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// A file that must exist does not; `advice` is the command that makes it.
    #[error("{what} is missing at {}: {advice}", path.display())]
    Missing {
        what: &'static str,
        path: PathBuf,
        advice: &'static str,
    },
    /// A file or a process could not be read, written or started.
    #[error("{action}: {source}")]
    Io {
        action: String,
        source: std::io::Error,
    },
    /// An Envoy configuration lacks a part that the harness wants to change.
    #[error("configuration: {0}")]
    Config(String),
    /// A process ended, or was not ready in time; `log_tail` is the end of what it said.
    #[error("{what}: {reason}\n--- end of its log ---\n{log_tail}")]
    NotReady {
        what: String,
        reason: String,
        log_tail: String,
    },
}

impl HarnessError {
    /// Wraps an I/O error with what was being done.
    pub fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> HarnessError {
        let action = action.into();
        move |source| HarnessError::Io { action, source }
    }
}
