//! Applies what was decided, in order.

use crate::held_headers::HeldHeaders;
use crate::host::{self, Message};
use farthing_core::config::{Config, LedgerTransport};
use farthing_core::exchange::{Effect, Level};
use farthing_core::metrics::{self, Kind, Metric};
use proxy_wasm::types::LogLevel;

/// What the host holds of the message whose callback this is: it refuses changes to anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// No body. Headers can be changed in their own callback.
    NoBody,
    /// This many bytes of a body whose headers have already been passed on.
    Body(usize),
    /// The headers and this many bytes of the body.
    HeadersAndBody(usize),
}

/// Did a reply of ours end the stream?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Applied,
    Replied,
}

/// What we tell the operator by: the ledger, and the host's ids of our metrics in the order of
/// their definitions.
pub struct Telemetry {
    ids: Vec<(Kind, Option<u32>)>,
    ledger: LedgerTransport,
}

impl Telemetry {
    /// Registers every metric of the configuration.
    pub fn define(config: &Config) -> Telemetry {
        let define = |definition: metrics::Definition| {
            (
                definition.kind,
                host::define_metric(definition.kind, &definition.name),
            )
        };
        Telemetry {
            ledger: config.ledger,
            ids: metrics::definitions(config)
                .into_iter()
                .map(define)
                .collect(),
        }
    }

    /// Adds to a counter or sets a gauge.
    pub fn count(&self, metric: Metric, amount: u64) {
        match self.ids.get(metric.index()) {
            Some((Kind::Counter, Some(id))) => host::increment_metric(*id, amount),
            Some((Kind::Gauge, Some(id))) => host::record_metric(*id, amount),
            _ => {}
        }
    }

    /// Writes one line of the ledger. A stream has at most one: a later one would replace it.
    fn record(&self, line: &str) {
        match self.ledger {
            LedgerTransport::AccessLog => host::set_filter_state(LEDGER_PROPERTY, line),
            LedgerTransport::Log => host::log(LogLevel::Info, &format!("ledger {line}")),
        }
    }
}

/// Access logs know it as `wasm.farthing_ledger`.
const LEDGER_PROPERTY: &str = "farthing_ledger";

/// Applies `effects` in order. Changes of headers wait in `headers`, those of the message whose
/// callback this is; without it they are made at once.
pub fn apply(
    effects: Vec<Effect>,
    held: Held,
    telemetry: &Telemetry,
    mut headers: Option<&mut HeldHeaders>,
) -> Outcome {
    let mut outcome = Outcome::Applied;
    for effect in effects {
        let headers = headers.as_deref_mut();
        match effect {
            Effect::SetRequestHeader { name, value } => {
                set_header(Message::Request, headers, name, value);
            }
            Effect::RemoveRequestHeader { name } => {
                remove_header(Message::Request, headers, name);
            }
            Effect::ReplaceRequestBody(body) => {
                replace_body(Message::Request, held, headers, &body);
            }
            Effect::SetResponseHeader { name, value } => {
                set_header(Message::Response, headers, name, value);
            }
            Effect::RemoveResponseHeader { name } => {
                remove_header(Message::Response, headers, name);
            }
            Effect::ReplaceResponseBody(body) => {
                replace_body(Message::Response, held, headers, &body);
            }
            Effect::LocalReply(reply) if outcome == Outcome::Applied => {
                host::reply(&reply);
                outcome = Outcome::Replied;
            }
            Effect::LocalReply(_) => {}
            Effect::Count { metric, amount } => telemetry.count(metric, amount),
            Effect::Ledger(line) => telemetry.record(&line),
            Effect::Log { level, message } => host::log(log_level(level), &message),
        }
    }
    outcome
}

fn set_header(
    message: Message,
    headers: Option<&mut HeldHeaders>,
    name: &'static str,
    value: String,
) {
    match headers {
        Some(headers) => headers.set(name, value),
        None => host::set_header(message, name, &value),
    }
}

fn remove_header(message: Message, headers: Option<&mut HeldHeaders>, name: String) {
    match headers {
        Some(headers) => headers.remove(name),
        None => host::remove_header(message, &name),
    }
}

fn replace_body(message: Message, held: Held, headers: Option<&mut HeldHeaders>, body: &[u8]) {
    match held {
        Held::NoBody => {}
        Held::Body(size) => host::replace_body(message, size, body),
        Held::HeadersAndBody(size) => {
            host::replace_body(message, size, body);
            // The old length would make the receiver wait or cut the body.
            set_header(message, headers, "content-length", body.len().to_string());
        }
    }
}

fn log_level(level: Level) -> LogLevel {
    match level {
        Level::Info => LogLevel::Info,
        Level::Warn => LogLevel::Warn,
        Level::Error => LogLevel::Error,
    }
}
