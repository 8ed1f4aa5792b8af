//! What the decisions ask of the shell. The shell applies effects in order and decides nothing.

use crate::metrics::Metric;

/// May the host pass on what it holds (headers or body) once the effects are applied?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Pass it on. In a request after a local reply there is nothing to pass on: see [`Step`].
    Continue,
    /// Keep holding; a later callback of the same stream decides.
    Pause,
}

/// The answer to one callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub effects: Vec<Effect>,
    /// Always [`Flow::Pause`] when the effects contain a [`Effect::LocalReply`]: the stream ends
    /// there and must not reach the upstream.
    pub flow: Flow,
}

impl Step {
    pub fn new(effects: Vec<Effect>, flow: Flow) -> Step {
        Step { effects, flow }
    }

    /// Nothing to do, pass on.
    pub fn pass() -> Step {
        Step::new(Vec::new(), Flow::Continue)
    }

    /// Nothing to do, keep holding.
    pub fn hold() -> Step {
        Step::new(Vec::new(), Flow::Pause)
    }
}

/// One thing for the shell to do. Header names are lower-case; header values never contain control
/// characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Replaces every value of the request header.
    SetRequestHeader {
        name: &'static str,
        value: String,
    },
    RemoveRequestHeader {
        name: String,
    },
    /// Replaces the whole held request body. `content-length` is the shell's to remove.
    ReplaceRequestBody(Vec<u8>),
    /// Answers the client at once; nothing goes upstream.
    LocalReply(LocalReply),
    SetResponseHeader {
        name: &'static str,
        value: String,
    },
    RemoveResponseHeader {
        name: String,
    },
    /// Replaces the bytes that were handed to this `on_response_body` call (may be empty).
    ReplaceResponseBody(Vec<u8>),
    /// Adds to a counter, or sets a gauge.
    Count {
        metric: Metric,
        amount: u64,
    },
    /// One ledger line: a JSON object without a line break.
    Ledger(String),
    Log {
        level: Level,
        message: String,
    },
}

impl Effect {
    /// One more.
    pub(super) fn count(metric: Metric) -> Effect {
        Effect::Count { metric, amount: 1 }
    }
}

/// A reply made by the filter itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    pub status: u16,
    /// Without `content-length`, which the host adds.
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}
