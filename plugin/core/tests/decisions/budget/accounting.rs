//! A long run of whole requests on several workers: whatever goes wrong, the counters and the
//! records agree to the last nano-dollar, and the last token.

use std::collections::BTreeMap;

use crate::edge::{CHAT, CONFIG, NS_PER_S, pairs};
use farthing_core::config::Config;
use farthing_core::exchange::{Effect, EndOfStream, Env, Exchange, Headers, Vm};
use farthing_core::metrics::{self, Metric};
use farthing_core::store::{MemoryStore, SharedStore};
use serde_json::{Value, json};

const REQUESTS: usize = 100_000;
const WORKERS: usize = 4;
/// Requests in flight on one worker.
const IN_FLIGHT_MAX: usize = 16;
const WINDOW_S: u64 = 60;

/// SplitMix64 (Steele, Lea, Flood 2014): the run is the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

struct Worker {
    vm: Vm,
    in_flight: Vec<Exchange>,
}

/// The run's world.
struct Run {
    config: Config,
    store: MemoryStore,
    now_unix_ns: u64,
    random: Random,
    workers: Vec<Worker>,
    counted: BTreeMap<String, u64>,
    /// What the ledger's lines add up to.
    ledger_cost_nanousd: u64,
}

fn config(limit: &Value) -> Config {
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    config["budget"] = json!({"window_s": WINDOW_S, "tenants": {"a": limit}});
    for (field, amount) in limit.as_object().unwrap() {
        config["budget"][field] = amount.clone();
    }
    config["tenant"] = json!({"source": "header", "header": "x-user"});
    config["cache"] = json!({"enabled": false});
    Config::parse(config.to_string().as_bytes()).unwrap()
}

impl Run {
    fn new(limit: &Value) -> Run {
        let config = config(limit);
        let worker = |_| Worker {
            vm: Vm::new(config.clone()),
            in_flight: Vec::new(),
        };
        Run {
            store: MemoryStore::new(),
            now_unix_ns: 1_800_000_000 * NS_PER_S,
            random: Random(7),
            workers: (0..WORKERS).map(worker).collect(),
            counted: BTreeMap::new(),
            ledger_cost_nanousd: 0,
            config,
        }
    }

    /// One request arrives, and so many others end that few are left.
    fn step(&mut self) {
        self.now_unix_ns += self.random.below(NS_PER_S / 50);
        let worker = self.random.below(WORKERS as u64) as usize;
        match self.random.below(500) {
            // The VM traps: all that it knew of its requests is gone, and a new one starts.
            0 => {
                let vm = Vm::new(self.config.clone());
                self.workers[worker].vm = vm;
                self.workers[worker].in_flight.clear();
            }
            _ => self.ask(worker),
        }
        while self.workers[worker].in_flight.len() > IN_FLIGHT_MAX
            || (self.random.below(2) == 0 && !self.workers[worker].in_flight.is_empty())
        {
            let open = self.workers[worker].in_flight.len() as u64;
            let which = self.random.below(open) as usize;
            let exchange = self.workers[worker].in_flight.swap_remove(which);
            self.end(worker, exchange);
        }
    }

    fn ask(&mut self, worker: usize) {
        // One tenant with a name, some without, and some nobody.
        let user = self.random.below(40);
        let stream = self.random.below(2) == 0;
        let max_tokens = 1 + self.random.below(60);
        let body = json!({"model": "auto", "max_tokens": max_tokens, "stream": stream,
            "messages": [{"role": "user", "content": "Why does copper conduct?"}]});
        let name = match user {
            0..5 => "a".to_owned(),
            user => format!("stranger-{user}"),
        };
        let mut headers = vec![(":method", "POST"), (":path", CHAT)];
        if user < 38 {
            headers.push(("x-user", &name));
        }
        let headers = pairs(&headers);
        let mut exchange = Exchange::new();
        let env = Env {
            store: &self.store,
            now_unix_ns: self.now_unix_ns,
        };
        let vm = &mut self.workers[worker].vm;
        let headers = Headers::new(&headers);
        let first = exchange.on_request_headers(vm, &env, &headers, EndOfStream::No);
        let body = body.to_string();
        let second = exchange.on_request_body(vm, &env, body.as_bytes());
        self.workers[worker].in_flight.push(exchange);
        self.count(&first.effects);
        self.count(&second.effects);
    }

    /// A request ends: well, without usage, with an error, before or in the middle of its answer.
    fn end(&mut self, worker: usize, mut exchange: Exchange) {
        let how = self.random.below(6);
        let status = if how == 0 { "500" } else { "200" };
        let generated = self.random.below(80);
        let mut answer = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": "four words are here"}}]});
        if how > 1 {
            answer["usage"] = json!({"prompt_tokens": 9, "completion_tokens": generated});
        }
        let answer = answer.to_string();
        let headers = pairs(&[(":status", status), ("content-type", "application/json")]);
        let env = Env {
            store: &self.store,
            now_unix_ns: self.now_unix_ns,
        };
        let vm = &mut self.workers[worker].vm;
        let mut effects = Vec::new();
        if how != 2 {
            let headers = Headers::new(&headers);
            let step = exchange.on_response_headers(vm, &env, &headers, EndOfStream::No);
            effects.extend(step.effects);
        }
        if how > 3 {
            let end = EndOfStream::Yes;
            let step = exchange.on_response_body(vm, &env, answer.as_bytes(), end);
            effects.extend(step.effects);
        }
        effects.extend(exchange.on_done(vm, &env));
        // Told twice, as a host may: nothing is settled again.
        assert_eq!(exchange.on_done(vm, &env), Vec::new());
        self.count(&effects);
    }

    fn count(&mut self, effects: &[Effect]) {
        let names = metrics::definitions(&self.config);
        let name = |metric: &Metric| names[metric.index()].name.clone();
        for effect in effects {
            match effect {
                Effect::Count { metric, amount } => {
                    *self.counted.entry(name(metric)).or_default() += amount;
                }
                Effect::Ledger(line) => {
                    let line: Value = serde_json::from_str(line).unwrap();
                    self.ledger_cost_nanousd += line["cost_nanousd"].as_u64().unwrap();
                }
                _ => {}
            }
        }
    }

    fn counted(&self, name: &str) -> u64 {
        self.counted.get(name).copied().unwrap_or(0)
    }

    /// What all records hold as reserved, read as the bytes that they are.
    fn still_reserved(&self) -> u64 {
        let reserved = |key: &String| {
            let (sealed, _) = self.store.get(key).unwrap();
            // Magic and checksum around records: tenant, unit, window, reserved, spent.
            let records = sealed[4..sealed.len() - 8].chunks(57).map(|record| {
                let number: [u8; 8] = record[41..49].try_into().unwrap();
                u64::from_le_bytes(number)
            });
            records.sum::<u64>()
        };
        let keys = self.store.keys();
        let budgets = keys.iter().filter(|key| key.contains("/budget/"));
        budgets.map(reserved).sum()
    }

    #[track_caller]
    fn check(&self, unit: &str) {
        let flow = |what: &str| self.counted(&format!("farthing_budget_{what}_{unit}_total"));
        let ended = flow("settled") + flow("refunded") + flow("expired");
        assert_eq!(flow("reserved"), ended + self.still_reserved());
    }
}

fn simulate(limit: &Value, unit: &str) -> Run {
    let mut run = Run::new(limit);
    for number in 0..REQUESTS {
        run.step();
        if number % 1_000 == 0 {
            run.check(unit);
        }
    }
    // Everybody who is still there ends; then a later window clears the orphans away.
    for worker in 0..WORKERS {
        for exchange in std::mem::take(&mut run.workers[worker].in_flight) {
            run.end(worker, exchange);
        }
    }
    run.check(unit);
    run.now_unix_ns += 2 * WINDOW_S * NS_PER_S;
    for _ in 0..2_000 {
        run.ask(0);
        let exchange = run.workers[0].in_flight.pop().unwrap();
        run.end(0, exchange);
    }
    run.check(unit);
    assert_eq!(run.still_reserved(), 0);
    assert!(run.counted("farthing_requests_total") > REQUESTS as u64 / 2);
    let happened = [
        "farthing_aborts_total",
        "farthing_upstream_errors_total",
        "farthing_usage_estimated_total",
        "farthing_budget_exhausted_total",
    ];
    for name in happened {
        assert!(run.counted(name) > 1_000, "{name}: {}", run.counted(name));
    }
    let flow = |what: &str| run.counted(&format!("farthing_budget_{what}_{unit}_total"));
    for what in ["settled", "refunded", "expired", "overrun"] {
        assert!(flow(what) > 0, "{what}");
    }
    run
}

#[test]
fn dollars_add_up_over_a_hundred_thousand_requests() {
    let run = simulate(&json!({"usd": "0.00005"}), "nanousd");
    let flow = |what: &str| run.counted(&format!("farthing_budget_{what}_nanousd_total"));
    // What was settled late, into no record, is in the ledger alone.
    assert!(flow("settled") + flow("overrun") <= run.ledger_cost_nanousd);
    assert_eq!(run.counted("farthing_budget_reserved_tokens_total"), 0);
}

#[test]
fn tokens_add_up_over_a_hundred_thousand_requests() {
    simulate(&json!({"tokens": 500}), "tokens");
}
