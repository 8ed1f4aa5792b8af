//! The way to a Redis that several backends share. A thread of its own keeps one connection, so
//! that whoever looks something up waits for an answer or for the deadline and for nothing else: a
//! Redis that is gone costs nothing, and one that hangs costs one deadline, after which nobody asks
//! until it has answered the thread's own ping.

mod backoff;
mod connection;
mod link;
mod look_up;
mod standing;

pub use link::Link;
pub use look_up::LookUps;
pub use standing::LinkRow;

use ::redis::{Pipeline, RedisError};

/// Why there is no answer. None of them repeats what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no connection, or it broke.
    #[error("there is no connection")]
    Away,
    /// Nothing came in time.
    #[error("it did not answer in time")]
    Late,
    /// It has no such command.
    #[error("it has no such command")]
    NoSuchCommand,
    /// It refuses, with this word.
    #[error("it refuses: {0}")]
    Refused(String),
}

impl Failure {
    fn of(error: &RedisError) -> Failure {
        if error.is_io_error() || error.is_connection_dropped() {
            return Failure::Away;
        }
        let errors = error.clone().into_server_errors();
        let Some((_, first)) = errors.as_ref().and_then(|errors| errors.first()) else {
            return Failure::Refused(error.category().to_owned());
        };
        // The text of an unknown command's refusal repeats its arguments.
        let text = first.details().unwrap_or_default();
        if text.starts_with("unknown command") {
            return Failure::NoSuchCommand;
        }
        Failure::Refused(first.code().to_owned())
    }
}

/// One command, as it is sent.
pub fn command(name: &str, arguments: &[&[u8]]) -> Pipeline {
    let mut commands = Pipeline::new();
    add(&mut commands, name, arguments);
    commands
}

/// Adds a command to others, which go together.
pub fn add(commands: &mut Pipeline, name: &str, arguments: &[&[u8]]) {
    let command = commands.cmd(name);
    for argument in arguments {
        command.arg(*argument);
    }
}
