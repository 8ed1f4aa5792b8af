//! Callbacks in orders that Envoy would hardly make: the filter may answer anything and must not
//! trap, hold a stream after its own reply, or keep what belongs to a stream that is gone.

use super::fixtures;
use crate::wasm_host::{End, HeaderMap, SharedData, Vm};
use serde_json::Value;

/// Orders tried, each of this many callbacks over a few streams.
const ORDERS: u64 = 10_000;
const CALLBACKS: u64 = 24;
const STREAMS_MAX: usize = 3;
/// A fixed start keeps a failure repeatable; the seed of a failing order is in the panic message.
const FIRST_SEED: u64 = 0x00FA_2714;
/// Orders that share one VM, so that state left over by one meets the next.
const ORDERS_A_VM: u64 = 2_500;
/// Streams of 1 MiB bodies never run here, so a VM that grows beyond this leaks.
const MEMORY_BYTES_MAX: usize = 32 << 20;

#[test]
fn no_order_of_callbacks_traps() {
    let fixtures = fixtures();
    let mut configuration = fixtures["config"].clone();
    configuration["budget"] = serde_json::json!({"window_s": 60, "usd": 0.01});
    let texts: Vec<Vec<u8>> = fixtures
        .as_object()
        .expect("fixtures are an object")
        .values()
        .map(|value| match value {
            Value::String(text) => text.clone().into_bytes(),
            json => json.to_string().into_bytes(),
        })
        .collect();
    let shared = SharedData::default();
    for first in (0..ORDERS).step_by(ORDERS_A_VM as usize) {
        let mut vm = Vm::start(&shared, super::proxy::START_UNIX_NS);
        assert!(vm.configure(configuration.to_string().as_bytes()));
        for order in first..first + ORDERS_A_VM {
            let seed = FIRST_SEED + order;
            // Printed by the test harness only when this order fails.
            println!("seed {seed}");
            one_order(&mut vm, &mut Random(seed), &texts);
        }
        assert!(
            vm.memory_bytes() <= MEMORY_BYTES_MAX,
            "{} bytes",
            vm.memory_bytes()
        );
    }
}

fn one_order(vm: &mut Vm, random: &mut Random, texts: &[Vec<u8>]) {
    let mut streams: Vec<u32> = Vec::new();
    for _ in 0..CALLBACKS {
        if streams.len() < STREAMS_MAX && (streams.is_empty() || random.below(4) == 0) {
            streams.push(vm.create_stream());
        }
        let position = random.below(streams.len() as u64) as usize;
        let id = streams[position];
        let end = if random.below(3) == 0 {
            End::Yes
        } else {
            End::No
        };
        match random.below(11) {
            0..=2 => {
                vm.stream(id).request_headers = Some(request_headers(random));
                vm.on_request_headers(id, end);
            }
            3 | 4 => {
                vm.stream(id).request_headers.get_or_insert_default();
                vm.stream(id).request_body = Some(text(random, texts));
                vm.on_request_body(id, end);
            }
            5 => {
                vm.stream(id).request_headers.get_or_insert_default();
                vm.on_request_trailers(id);
            }
            6 | 7 => {
                vm.stream(id).response_headers = Some(response_headers(random));
                vm.on_response_headers(id, end);
            }
            8 => {
                vm.stream(id).response_headers.get_or_insert_default();
                vm.stream(id).response_body = Some(text(random, texts));
                vm.on_response_body(id, end);
            }
            9 => {
                vm.stream(id).response_headers.get_or_insert_default();
                vm.on_response_trailers(id);
            }
            _ => end_stream(vm, id, random),
        }
        if random.below(11) == 0 {
            vm.on_tick();
        }
        vm.take_events();
        streams.retain(|id| vm.has_stream(*id));
    }
    for id in streams {
        vm.on_done(id);
        vm.delete(id);
    }
}

fn end_stream(vm: &mut Vm, id: u32, random: &mut Random) {
    if random.below(2) == 0 {
        vm.on_log(id);
    }
    vm.on_done(id);
    if random.below(2) == 0 {
        vm.on_log(id);
    }
    vm.delete(id);
}

fn request_headers(random: &mut Random) -> HeaderMap {
    let paths = [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/models",
        "/",
        "/v1/embeddings",
    ];
    let pairs = [
        (":method", "POST"),
        (":method", "GET"),
        ("authorization", "Bearer a"),
        ("authorization", "\u{fffd}"),
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
        ("content-length", "99999999999999999999"),
        ("cache-control", "max-age=0, no-store"),
        ("x-farthing-tenant", "spoofed"),
    ];
    let path = paths[random.below(paths.len() as u64) as usize];
    let mut headers = vec![(":path".to_string(), path.as_bytes().to_vec())];
    for (name, value) in pairs {
        if random.below(3) > 0 {
            headers.push((name.to_string(), value.as_bytes().to_vec()));
        }
    }
    if random.below(8) == 0 {
        headers.push(("authorization".to_string(), vec![0xff, 0xfe]));
    }
    headers
}

fn response_headers(random: &mut Random) -> HeaderMap {
    let statuses = ["200", "204", "429", "500", "999", "x"];
    let types = ["application/json", "text/event-stream", "text/plain"];
    let pick = |list: &[&str], at: u64| list[at as usize].as_bytes().to_vec();
    vec![
        (":status".to_string(), pick(&statuses, random.below(6))),
        ("content-type".to_string(), pick(&types, random.below(3))),
    ]
}

/// One of the fixtures, often cut or damaged.
fn text(random: &mut Random, texts: &[Vec<u8>]) -> Vec<u8> {
    let mut text = texts[random.below(texts.len() as u64) as usize].clone();
    if random.below(3) == 0 {
        text.truncate(random.below(text.len() as u64 + 1) as usize);
    }
    if random.below(3) == 0 && !text.is_empty() {
        let at = random.below(text.len() as u64) as usize;
        text[at] = random.below(256) as u8;
    }
    text
}

/// SplitMix64 (Steele, Lea, Flood): small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}
