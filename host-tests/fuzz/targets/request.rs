//! A request's body, of any endpoint, through the whole filter: it is answered or it goes upstream,
//! never both, and what goes upstream is a request that any other parser reads as well.

#![no_main]

use farthing_core::config::Config;
use farthing_core::exchange::{Effect, EndOfStream, Env, Exchange, Flow, Headers, Vm};
use farthing_core::store::MemoryStore;
use farthing_core::wire::{self, Endpoint};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::cell::RefCell;

/// Everything that looks at a body is on.
const CONFIG: &[u8] = include_bytes!("config.json");
/// A worker that serves for ever would make an input depend on all before it.
const REQUESTS_A_WORKER: u32 = 1_000;

struct Worker {
    vm: Vm,
    store: MemoryStore,
    requests: u32,
}

impl Worker {
    fn new() -> Worker {
        let config = Config::parse(CONFIG).expect("the configuration of this target");
        Worker {
            vm: Vm::new(config),
            store: MemoryStore::new(),
            requests: 0,
        }
    }
}

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::new(Worker::new());
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, body)) = input.split_first() else {
        return;
    };
    let endpoint = Endpoint::ALL[usize::from(*choice) % Endpoint::ALL.len()];
    WORKER.with_borrow_mut(|worker| {
        if worker.requests == REQUESTS_A_WORKER {
            *worker = Worker::new();
        }
        worker.requests += 1;
        exchange(worker, endpoint, body);
    });
});

fn exchange(worker: &mut Worker, endpoint: Endpoint, body: &[u8]) {
    let env = Env {
        store: &worker.store,
        now_unix_ns: 1_800_000_000_000_000_000 + u64::from(worker.requests),
    };
    let headers = [
        (":method", "POST"),
        (":path", endpoint.path()),
        ("content-type", "application/json"),
        ("authorization", "Bearer fuzz"),
    ]
    .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    let mut exchange = Exchange::new();
    let headers = Headers::new(&headers);
    let first = exchange.on_request_headers(&mut worker.vm, &env, &headers, EndOfStream::No);
    assert_eq!(first.flow, Flow::Pause);
    let step = exchange.on_request_body(&mut worker.vm, &env, body);
    let mut sent = body;
    let mut replied = false;
    for effect in &step.effects {
        match effect {
            Effect::LocalReply(reply) => {
                assert!(!replied, "two replies");
                replied = true;
                let error: Value = serde_json::from_slice(&reply.body).expect("JSON");
                assert!(
                    error.get("error").is_some() || reply.status == 200,
                    "{error}"
                );
            }
            Effect::ReplaceRequestBody(body) => sent = body,
            _ => {}
        }
    }
    assert_eq!(replied, step.flow == Flow::Pause, "answered or sent on");
    if !replied {
        let again = wire::parse(endpoint, sent);
        assert!(again.is_ok(), "what we send on we would refuse: {again:?}");
        serde_json::from_slice::<Value>(sent).expect("what we send on is JSON for others");
    }
    let effects = exchange.on_done(&mut worker.vm, &env);
    for effect in effects.iter().chain(&step.effects) {
        if let Effect::Ledger(line) = effect {
            serde_json::from_str::<Value>(line).expect("a ledger line is JSON");
        }
    }
}
