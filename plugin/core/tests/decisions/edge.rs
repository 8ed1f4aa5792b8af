//! One worker with its store and its clock, driven the way the shell does it.

use farthing_core::budget::{self, Account, Limit, Unit, Window};
use farthing_core::config::Config;
use farthing_core::exchange::{
    BodyNeed, Effect, EndOfStream, Env, Exchange, Flow, Headers, LocalReply, Vm,
};
use farthing_core::metrics::Metric;
use farthing_core::store::MemoryStore;
use farthing_core::tenant::TenantId;
use farthing_core::vocabulary::loading::{Progress, VOCABULARIES_PATH};
use serde_json::Value;
use std::path::Path;

pub const NS_PER_S: u64 = 1_000_000_000;

/// A list of headers as a test writes it.
pub type Pairs = Vec<(String, Vec<u8>)>;

pub fn pairs(headers: &[(&str, &str)]) -> Pairs {
    headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
        .collect()
}

/// A worker.
pub struct Edge {
    pub vm: Vm,
    pub store: MemoryStore,
    pub now_unix_ns: u64,
    /// Every effect so far that is no header, body or reply.
    pub record: Vec<Effect>,
}

/// A stream that this worker has seen the request of.
pub struct Sent {
    pub exchange: Exchange,
    pub effects: Vec<Effect>,
    pub flow: Flow,
}

impl Edge {
    pub fn new(config: &str) -> Edge {
        let config = Config::parse(config.as_bytes()).expect("the configuration of the test");
        Edge {
            vm: Vm::new(config),
            store: MemoryStore::new(),
            now_unix_ns: 1_800_000_000 * NS_PER_S,
            record: Vec::new(),
        }
    }

    /// Gives the worker the vocabularies that its configuration names.
    pub fn fetch_vocabularies(&mut self) {
        loop {
            match self.vm.vocabularies.step(self.now_unix_ns) {
                Progress::Fetch(fetch) => {
                    let name = fetch
                        .path
                        .strip_prefix(VOCABULARIES_PATH)
                        .expect("its path");
                    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.farthing");
                    let file = folder.join(format!("vocabularies/{name}.vocabulary"));
                    let bytes = std::fs::read(file).expect("`cargo xtask vocabulary` makes it");
                    self.vm.vocabularies.arrived(fetch.entry, bytes);
                }
                Progress::Nothing => break,
                _ => {}
            }
        }
    }

    pub fn later(&mut self, seconds: u64) {
        self.now_unix_ns += seconds * NS_PER_S;
    }

    /// A request with its whole body.
    pub fn send(&mut self, headers: &Pairs, body: &[u8]) -> Sent {
        let mut exchange = Exchange::new();
        let env = Env {
            store: &self.store,
            now_unix_ns: self.now_unix_ns,
        };
        let headers = Headers::new(headers);
        let first = exchange.on_request_headers(&mut self.vm, &env, &headers, EndOfStream::No);
        let (mut effects, mut flow) = (first.effects, first.flow);
        if flow == Flow::Pause && reply(&effects).is_none() {
            let second = exchange.on_request_body(&mut self.vm, &env, body);
            effects.extend(second.effects);
            flow = second.flow;
        }
        self.keep(&effects);
        Sent {
            exchange,
            effects,
            flow,
        }
    }

    /// A chat or completion of the credential `key-a`.
    pub fn post(&mut self, path: &str, body: &str) -> Sent {
        self.post_with(path, &[("authorization", "Bearer key-a")], body)
    }

    pub fn post_with(&mut self, path: &str, headers: &[(&str, &str)], body: &str) -> Sent {
        let mut all = pairs(&[(":method", "POST"), (":path", path)]);
        all.extend(pairs(headers));
        self.send(&all, body.as_bytes())
    }

    /// Answers a request that went upstream, in chunks that arrive one by one, and ends the stream.
    /// Returns what the client sees: headers by name, and body.
    pub fn answer(&mut self, sent: &mut Sent, headers: &[(&str, &str)], chunks: &[&[u8]]) -> Seen {
        let mut seen = self.begin_answer(sent, headers);
        let mut held: Vec<u8> = Vec::new();
        for (index, chunk) in chunks.iter().enumerate() {
            let end = if index + 1 == chunks.len() {
                EndOfStream::Yes
            } else {
                EndOfStream::No
            };
            held.extend_from_slice(chunk);
            self.body(sent, &mut held, end, &mut seen);
        }
        assert!(held.is_empty(), "the end of a stream leaves nothing held");
        self.done(sent);
        seen
    }

    pub fn begin_answer(&mut self, sent: &mut Sent, headers: &[(&str, &str)]) -> Seen {
        let env = Env {
            store: &self.store,
            now_unix_ns: self.now_unix_ns,
        };
        let headers = pairs(headers);
        let step = sent.exchange.on_response_headers(
            &mut self.vm,
            &env,
            &Headers::new(&headers),
            EndOfStream::No,
        );
        let mut seen = Seen {
            headers,
            body: Vec::new(),
        };
        seen.apply(&step.effects);
        self.keep(&step.effects);
        seen
    }

    pub fn body(&mut self, sent: &mut Sent, held: &mut Vec<u8>, end: EndOfStream, seen: &mut Seen) {
        let flow = match sent.exchange.response_body_need(held.len(), end) {
            BodyNeed::Nothing(flow) => flow,
            BodyNeed::Bytes => {
                let env = Env {
                    store: &self.store,
                    now_unix_ns: self.now_unix_ns,
                };
                let step = sent
                    .exchange
                    .on_response_body(&mut self.vm, &env, held, end);
                for effect in &step.effects {
                    if let Effect::ReplaceResponseBody(bytes) = effect {
                        *held = bytes.clone();
                    }
                }
                seen.apply(&step.effects);
                self.keep(&step.effects);
                step.flow
            }
        };
        if flow == Flow::Continue {
            seen.body.append(held);
        }
    }

    pub fn done(&mut self, sent: &mut Sent) {
        let env = Env {
            store: &self.store,
            now_unix_ns: self.now_unix_ns,
        };
        let effects = sent.exchange.on_done(&mut self.vm, &env);
        let again = sent.exchange.on_done(&mut self.vm, &env);
        self.keep(&effects);
        assert_eq!(
            again,
            Vec::new(),
            "the second on_done has nothing left to do"
        );
    }

    pub fn keep(&mut self, effects: &[Effect]) {
        let kept = effects.iter().filter(|effect| {
            matches!(
                effect,
                Effect::Count { .. } | Effect::Ledger(_) | Effect::Log { .. }
            )
        });
        self.record.extend(kept.cloned());
    }

    /// What the tenant of a request has reserved and spent, in an hour's budget of dollars.
    pub fn sums(&self, sent: &Sent) -> (u64, u64) {
        let hex = sent.header("x-farthing-tenant").expect("a tenant");
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let id: Vec<u8> = (0..64).step_by(2).map(byte).collect();
        let account = Account::Table(TenantId(id.try_into().unwrap()));
        let window = Window::at(self.now_unix_ns / NS_PER_S, 3600);
        let limit = Limit {
            unit: Unit::Nanousd,
            amount: 0,
        };
        let record = budget::read(&self.store, window, account, limit).record();
        record.map_or((0, 0), |record| (record.reserved, record.spent))
    }

    /// Sum of a counter.
    pub fn counted(&self, metric: Metric) -> u64 {
        let amounts = self.record.iter().filter_map(|effect| match effect {
            Effect::Count {
                metric: counted,
                amount,
            } if *counted == metric => Some(amount),
            _ => None,
        });
        amounts.sum()
    }

    pub fn ledger(&self) -> Vec<Value> {
        let lines = self.record.iter().filter_map(|effect| match effect {
            Effect::Ledger(line) => Some(serde_json::from_str(line).expect("a ledger line")),
            _ => None,
        });
        lines.collect()
    }

    pub fn last_line(&self) -> Value {
        self.ledger().pop().expect("a ledger line")
    }
}

/// What the client sees.
pub struct Seen {
    pub headers: Pairs,
    pub body: Vec<u8>,
}

impl Seen {
    fn apply(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::SetResponseHeader { name, value } => {
                    self.headers.retain(|(known, _)| known != name);
                    self.headers
                        .push(((*name).to_owned(), value.as_bytes().to_vec()));
                }
                Effect::RemoveResponseHeader { name } => {
                    self.headers.retain(|(known, _)| known != name);
                }
                _ => {}
            }
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        Headers::new(&self.headers).text(name)
    }
}

impl Sent {
    pub fn reply(&self) -> Option<&LocalReply> {
        reply(&self.effects)
    }

    /// The value of a request header that goes upstream, as far as we set it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.effects.iter().rev().find_map(|effect| match effect {
            Effect::SetRequestHeader { name: set, value } if *set == name => Some(value.as_str()),
            _ => None,
        })
    }

    /// The body that goes upstream, if it is another than the client's.
    pub fn replaced_body(&self) -> Option<&[u8]> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::ReplaceRequestBody(body) => Some(body.as_slice()),
            _ => None,
        })
    }
}

fn reply(effects: &[Effect]) -> Option<&LocalReply> {
    effects.iter().find_map(|effect| match effect {
        Effect::LocalReply(reply) => Some(reply),
        _ => None,
    })
}

pub fn reply_header<'a>(reply: &'a LocalReply, name: &str) -> Option<&'a str> {
    let header = reply.headers.iter().find(|(known, _)| *known == name);
    header.map(|(_, value)| value.as_str())
}

/// Two models and a virtual one, a tenant with a name, everything on.
pub const CONFIG: &str = r#"{
  "models": [
    {"id": "small", "tier": "small", "cluster": "cheap", "context_tokens": 2048,
     "price": {"input_usd_per_mtok": 0.02, "output_usd_per_mtok": 0.04}},
    {"id": "large", "upstream_model": "large-v2", "tier": "large", "cluster": "dear",
     "context_tokens": 8192, "tools": true,
     "price": {"input_usd_per_mtok": 0.15, "output_usd_per_mtok": 0.60}}
  ],
  "virtual_models": {"auto": ["small", "large"]},
  "secret": "a secret of the tests",
  "max_tokens": {"default": 100, "cap": 1000}
}"#;

pub const CHAT: &str = "/v1/chat/completions";
pub const COMPLETIONS: &str = "/v1/completions";
