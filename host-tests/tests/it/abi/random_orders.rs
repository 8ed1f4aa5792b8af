//! Callbacks in orders that Envoy would hardly make: the filter may answer anything and must not
//! trap, hold a stream after its own reply, or keep what belongs to a stream that is gone.

use super::random_parts::{
    Parts, Random, Talk, damaged, parts, request_headers, response_headers, text,
};
use crate::wasm_host::{CalloutAnswer, End, Event, SharedData, Vm};
use std::collections::BTreeSet;
use std::thread;

/// Orders tried, each of this many callbacks over a few streams.
const ORDERS: u64 = 100_000;
const CALLBACKS: u64 = 24;
const STREAMS_MAX: usize = 3;
/// Each has a host of its own, so that an order is repeated by its seed and those before it.
const HOSTS: u64 = 4;
/// A fixed start keeps a failure repeatable; the seed of a failing order is in the panic message.
const FIRST_SEED: u64 = 0x00FA_2714;
/// Orders that share one VM, so that state left over by one meets the next.
const ORDERS_A_VM: u64 = 2_500;
/// Streams of 1 MiB bodies never run here, so a VM that grows beyond this leaks.
const MEMORY_BYTES_MAX: usize = 32 << 20;

/// What the orders of one host came to.
#[derive(Default)]
struct Reached {
    statuses: BTreeSet<u32>,
    callouts: u64,
}

/// Says which order it was, if that panics.
struct SeedOfAFailure(u64);

impl Drop for SeedOfAFailure {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("seed {}", self.0);
        }
    }
}

#[test]
fn no_order_of_callbacks_traps() {
    let parts = &parts();
    let reached: Vec<Reached> = thread::scope(|scope| {
        let hosts: Vec<_> = (0..HOSTS)
            .map(|host| scope.spawn(move || orders_of_a_host(host, parts)))
            .collect();
        let joined = hosts.into_iter().map(|host| host.join());
        joined.map(|reached| reached.expect("no trap")).collect()
    });
    let callouts: u64 = reached.iter().map(|host| host.callouts).sum();
    let statuses: BTreeSet<u32> = reached.into_iter().flat_map(|host| host.statuses).collect();
    println!("{ORDERS} orders, {callouts} callouts answered, replies {statuses:?}");
    assert!(callouts > ORDERS / 100, "hardly a callout was made");
    // Orders that never get beyond the head of a request would show little.
    for status in [200, 400, 404, 405, 415, 429] {
        assert!(statuses.contains(&status), "no order leads to {status}");
    }
}

fn orders_of_a_host(host: u64, parts: &Parts) -> Reached {
    let mut reached = Reached::default();
    let mut now_unix_ns = super::proxy::START_UNIX_NS;
    let shared = SharedData::default();
    let orders = ORDERS / HOSTS;
    for first in (host * orders..(host + 1) * orders).step_by(ORDERS_A_VM as usize) {
        let mut vm = Vm::start(&shared, now_unix_ns);
        assert!(vm.configure(parts.configuration.as_bytes()));
        for order in first..first + ORDERS_A_VM {
            let seed = FIRST_SEED + order;
            let _naming = SeedOfAFailure(seed);
            // Enough for a wait or a window to be over now and then.
            now_unix_ns += seed % 4_000 * 1_000_000;
            vm.set_now_unix_ns(now_unix_ns);
            one_order(&mut vm, &mut Random(seed), parts, &mut reached);
        }
        assert!(
            vm.memory_bytes() <= MEMORY_BYTES_MAX,
            "{} bytes",
            vm.memory_bytes()
        );
    }
    reached
}

fn one_order(vm: &mut Vm, random: &mut Random, parts: &Parts, reached: &mut Reached) {
    // Most of an order is about one conversation, so that orders get somewhere.
    let talk = random.pick(&parts.talks);
    let mut streams: Vec<u32> = Vec::new();
    for _ in 0..CALLBACKS {
        if streams.len() < STREAMS_MAX && (streams.is_empty() || random.below(4) == 0) {
            streams.push(vm.create_stream());
        }
        let id = *random.pick(&streams);
        callback(vm, id, talk, random, parts);
        if random.below(11) == 0 {
            vm.on_tick();
        }
        if random.below(11) == 0 {
            reached.callouts += answer_callout(vm, random, parts);
        }
        for event in vm.take_events() {
            if let Event::Reply { status, .. } = event {
                reached.statuses.insert(status);
            }
        }
        streams.retain(|id| vm.has_stream(*id));
    }
    for id in streams {
        vm.on_done(id);
        vm.delete(id);
    }
}

fn callback(vm: &mut Vm, id: u32, talk: &Talk, random: &mut Random, parts: &Parts) {
    let end = if random.below(3) == 0 {
        End::Yes
    } else {
        End::No
    };
    match random.below(11) {
        0..=2 => {
            vm.stream(id).request_headers = Some(request_headers(random, talk.path));
            vm.on_request_headers(id, end);
        }
        3 | 4 => {
            vm.stream(id).request_headers.get_or_insert_default();
            vm.stream(id).request_body = Some(text(random, &talk.request, parts));
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
            vm.stream(id).response_body = Some(text(random, &talk.answer, parts));
            vm.on_response_body(id, end);
        }
        9 => {
            vm.stream(id).response_headers.get_or_insert_default();
            vm.on_response_trailers(id);
        }
        _ => end_stream(vm, id, random),
    }
}

/// Something comes of the oldest callout, if there is one; returns how many there were.
fn answer_callout(vm: &mut Vm, random: &mut Random, parts: &Parts) -> u64 {
    vm.refuse_callouts(random.below(2) as u32);
    let Some(callout) = vm.open_callouts().first().copied() else {
        return 0;
    };
    let headers = || vec![(":status".to_string(), b"200".to_vec())];
    let answer = match random.below(64) {
        0..=19 => CalloutAnswer::default(),
        20..=39 => CalloutAnswer {
            headers: response_headers(random),
            body: text(random, b"", parts),
        },
        40..=62 => {
            let mut body = damaged(random, parts.vocabulary.clone());
            if body == parts.vocabulary {
                body.pop();
            }
            let headers = headers();
            CalloutAnswer { headers, body }
        }
        _ => CalloutAnswer {
            headers: headers(),
            body: parts.vocabulary.clone(),
        },
    };
    vm.on_http_call_response(callout, Some(answer));
    1
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
