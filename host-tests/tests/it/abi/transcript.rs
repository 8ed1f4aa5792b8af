//! What a case looked like from outside: what reached the upstream, what reached the client, what
//! was counted and what was logged. Nothing here names a function of the filter.

use super::proxy::{Passed, Proxy};
use crate::wasm_host::{Event, HeaderMap};
use std::collections::BTreeMap;
use std::fmt::Write;

const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "critical"];

/// Writes one step's outcome after another.
#[derive(Default)]
pub struct Transcript {
    text: String,
    /// Streams whose message was already written.
    upstream_written: Vec<String>,
    client_written: Vec<String>,
}

impl Transcript {
    pub fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Writes what has become visible since the last step.
    pub fn step(&mut self, proxy: &mut Proxy) {
        for (id, stream) in &proxy.streams {
            if let Some(passed) = &stream.to_upstream
                && !self.upstream_written.contains(id)
            {
                self.upstream_written.push(id.clone());
                self.line(&format!("  {id} -> upstream"));
                self.message(&stream.request_received, passed);
            }
        }
        for (id, stream) in &proxy.streams {
            let complete = stream.replied || !stream.response_received.body.is_empty();
            if let Some(passed) = stream.to_client.as_ref().filter(|_| complete)
                && !self.client_written.contains(id)
            {
                self.client_written.push(id.clone());
                self.line(&format!("  {id} -> client"));
                self.message(&stream.response_received, passed);
            }
        }
        self.events(std::mem::take(&mut proxy.events));
    }

    /// A stream of this name may come again.
    pub fn forget(&mut self, id: &str) {
        self.upstream_written.retain(|written| written != id);
        self.client_written.retain(|written| written != id);
    }

    pub fn finish(self) -> String {
        self.text
    }

    fn message(&mut self, received: &Passed, passed: &Passed) {
        for (name, value) in &passed.headers {
            if !received.headers.contains(&(name.clone(), value.clone())) {
                self.line(&format!("    + {name}: {}", String::from_utf8_lossy(value)));
            }
        }
        let gone = |name: &String, headers: &HeaderMap| !headers.iter().any(|(n, _)| n == name);
        for (name, _) in &received.headers {
            if gone(name, &passed.headers) {
                self.line(&format!("    - {name}"));
            }
        }
        if received.body == passed.body {
            self.line("    body unchanged");
            return;
        }
        for line in String::from_utf8_lossy(&passed.body).lines() {
            self.line(&format!("    | {line}"));
        }
    }

    fn events(&mut self, events: Vec<Event>) {
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for event in events {
            match event {
                Event::Log { level, message } => {
                    let level = LEVELS.get(level as usize).unwrap_or(&"?");
                    self.line(&format!("  log {level}: {message}"));
                }
                Event::Property { path, value } => {
                    self.line(&format!("  property {path}: {value}"))
                }
                Event::Gauge { name, value } => self.line(&format!("  gauge {name} = {value}")),
                Event::Count { name, amount } => *counts.entry(name).or_default() += amount,
                Event::Callout {
                    cluster,
                    path,
                    timeout_ms,
                    ..
                } => self.line(&format!("  call {cluster} {path} within {timeout_ms} ms")),
                Event::Reply { .. } | Event::Resume { .. } | Event::TickPeriod { .. } => {}
            }
        }
        for (name, amount) in counts.iter().filter(|(_, amount)| **amount != 0) {
            let _ = writeln!(self.text, "  count {name} +{amount}");
        }
    }
}
