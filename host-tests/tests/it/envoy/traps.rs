//! Real traps under the shipped failure policy: the filter that `cargo xtask test` builds with the
//! feature `poison` panics where a request says so. Whoever meets the trap gets a reply before the
//! idle timeout has long passed, everybody else hardly notices, and no budget forgets anything.

use super::bodies::{chat, completion};
use super::edge::{Edge, PATIENCE, SMALL, wait_until, yaml};
use farthing_core::vocabulary::loading::VOCABULARIES_PATH;
use farthing_host_tests::client::{self, Connection, Response};
use farthing_host_tests::envoy::EnvoyConfig;
use farthing_host_tests::paths;
use farthing_host_tests::process::POLL;
use farthing_host_tests::stub::{Answer, Gate, Piece, StubUpstream};
use serde_json::json;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What poisons a request, and the beginning of what poisons the answer to a callout.
const MARK: &str = "x-poison";
/// What the log says of each trap.
const PANIC: &str = "poisoned in ";
/// The shipped idle timeouts are 120 s; a stream that hangs is ended by these.
const IDLE: &str = "2s";
/// Every callback of a request that has an answer.
const CALLBACKS: [&str; 6] = [
    "request_headers",
    "request_body",
    "response_headers",
    "response_body",
    "log",
    "done",
];

/// The shipped demo configuration with the filter that traps, and short idle timeouts.
fn poisoned(workers: u32, change: impl FnOnce(&mut EnvoyConfig)) -> Edge {
    Edge::start(workers, |config| {
        let wasm = paths::require("the filter that traps", paths::poisoned_wasm());
        config
            .set_wasm(&wasm.unwrap_or_else(|error| panic!("{error}")))
            .expect("a plugin");
        let manager = config.http_connection_manager().expect("a manager");
        manager["stream_idle_timeout"] = IDLE.into();
        let route = &mut manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"];
        route["idle_timeout"] = IDLE.into();
        change(config);
    })
}

/// A request that nobody has sent before and that traps in this place.
fn poison(edge: &Edge, place: &str) -> io::Result<Response> {
    let body = chat(SMALL, &format!("a trap in {place}")).to_string();
    let headers = [("authorization", "Bearer poisoner"), (MARK, place)];
    client::post_json(edge.address(), "/v1/chat/completions", &headers, &body)
}

/// The same until it has trapped: a worker whose VM is being replaced refuses everybody at first.
/// Returns what the client got.
#[track_caller]
fn trap(edge: &Edge, place: &str) -> io::Result<u16> {
    let before = traps(edge);
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    wait_until(place, || {
        let started = Instant::now();
        outcome = poison(edge, place).map(|response| response.status);
        let took = started.elapsed();
        assert!(took < PATIENCE, "{place} hangs");
        println!("{place}: {outcome:?} after {took:?}");
        // What follows the answer traps a moment after it.
        let end = Instant::now() + Duration::from_secs(1);
        while traps(edge) == before && Instant::now() < end {
            thread::sleep(POLL);
        }
        traps(edge) > before
    });
    outcome
}

/// How often the filter has trapped.
fn traps(edge: &Edge) -> usize {
    edge.envoy.log().matches(PANIC).count()
}

fn nanousd(edge: &Edge, what: &str) -> u64 {
    edge.metric(&format!("farthing_budget_{what}_nanousd_total"))
}

/// Traps before and after the work of every callback, then an account of what was reserved: what a
/// dead VM cannot settle stays set aside until its window ends, and expires then.
#[test]
fn a_trap_is_answered_and_forgets_no_reservation() {
    let edge = poisoned(2, |config| {
        let budget = yaml(json!({"window_s": 5, "usd": 1}));
        config.set_plugin_field("budget", budget).expect("a field");
    });
    let places = CALLBACKS.map(|callback| [callback.to_string(), format!("after {callback}")]);
    for place in places.as_flattened() {
        let outcome = trap(&edge, place);
        let is_over = place.ends_with("log") || place.ends_with("done");
        match outcome {
            Ok(status) => assert_eq!(status < 500, is_over, "{place}: {status}"),
            Err(error) => assert!(!is_over, "{place}: {error}"),
        }
        let innocent = chat(SMALL, &format!("after a trap in {place}"));
        wait_until("others are served again", || {
            edge.ask("innocent", &innocent).status == 200
        });
    }
    let flow = |what| nanousd(&edge, what);
    let lost = flow("reserved") - flow("settled") - flow("refunded");
    assert!(lost > 0, "no trap left a reservation open");
    assert!(flow("expired") <= lost);
    // The next window's first reservations of the two tenants find what the traps left.
    wait_until("what the traps left has expired", || {
        for tenant in ["poisoner", "innocent"] {
            edge.ask(tenant, &chat(SMALL, &format!("{:?}", Instant::now())));
        }
        flow("expired") >= lost
    });
    wait_until("every reservation is accounted for", || {
        flow("reserved") == flow("settled") + flow("refunded") + flow("expired")
    });
    assert_eq!(flow("expired"), lost);
    println!("{lost} of {} nano-dollars expired", flow("reserved"));
}

/// One trap a second, in one callback after another, under load on both workers.
#[test]
fn others_lose_hardly_anything_to_a_trap_a_second() {
    const TRAPS: usize = 8;
    const CLIENTS: usize = 4;
    /// The promise: 0.3 %.
    const SERVED_FOR_ONE_LOST_MIN: u64 = 333;
    let edge = &poisoned(2, |_| {});
    edge.script("asked again and again", completion("known"));
    let over = &AtomicBool::new(false);
    let (served, lost) = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || innocent(edge, client, over)))
            .collect();
        for place in CALLBACKS.iter().cycle().take(TRAPS) {
            thread::sleep(Duration::from_secs(1));
            // What becomes of it is another test's matter.
            let _ = poison(edge, place);
        }
        over.store(true, Ordering::Relaxed);
        let counts = clients
            .into_iter()
            .map(|client| client.join().expect("a client"));
        counts.fold((0, 0), |(served, lost), (s, l)| (served + s, lost + l))
    });
    wait_until("every poison has trapped", || traps(edge) == TRAPS);
    println!("{served} served and {lost} lost to {TRAPS} traps");
    assert!(served > 1_000, "only {served} were served: too few to tell");
    assert!(
        lost * SERVED_FOR_ONE_LOST_MIN <= served,
        "{lost} lost, {served} served"
    );
}

/// Asks until it is over, three times in four what the cache knows; returns how many requests were
/// served and how many were lost.
fn innocent(edge: &Edge, client: usize, over: &AtomicBool) -> (u64, u64) {
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer innocent"),
    ];
    let (mut served, mut lost) = (0, 0);
    let mut connection = None;
    while !over.load(Ordering::Relaxed) {
        let number = served + lost;
        let prompt = match number % 4 {
            0 => format!("new to everybody: {client}, {number}"),
            _ => "asked again and again".to_string(),
        };
        let body = chat(SMALL, &prompt).to_string();
        let asked = connection
            .take()
            .map_or_else(|| Connection::open(edge.address()), Ok)
            .and_then(|mut open: Connection| {
                let path = "/v1/chat/completions";
                let response = open.request("POST", path, &headers, body.as_bytes())?;
                connection = Some(open);
                Ok(response.status)
            });
        match asked {
            Ok(200) => served += 1,
            _ => lost += 1,
        }
    }
    (served, lost)
}

/// A trap in the callback of a callout, which no stream is about, ends no stream by itself: what
/// the dead VM held would hang for ever, were it not for the idle timeout. The main thread of Envoy
/// has a VM too, which asks for vocabularies like that of the one worker.
#[test]
fn a_trap_in_a_callout_ends_within_the_idle_timeout() {
    const VMS: u32 = 2;
    let (asked, answered) = (Gate::default(), Gate::default());
    let vocabulary = answered.clone();
    let told = AtomicU32::new(0);
    let source = StubUpstream::start(move |request| {
        assert!(request.path.starts_with(VOCABULARIES_PATH));
        // A VM that takes the place of a dead one must live.
        if told.fetch_add(1, Ordering::Relaxed) >= VMS {
            return Answer::json(404, "{}");
        }
        let mut answer = Answer::json(200, MARK);
        answer.pieces.insert(0, Piece::Gate(vocabulary.clone()));
        answer
    });
    let source = source.expect("a free port");
    let edge = poisoned(1, |config| {
        config
            .set_upstream("large", source.address())
            .expect("cluster large");
        let vocabularies = yaml(json!({"cluster": "large", "timeout_ms": 60_000}));
        config
            .set_plugin_field("vocabularies", vocabularies)
            .expect("a field");
        let plugin = config.plugin_configuration().expect("a configuration");
        plugin["models"][0]["vocabulary"] = SMALL.into();
    });
    let mut held = completion("never sent");
    held.pieces.insert(0, Piece::Gate(asked.clone()));
    edge.script("held", held);
    let leader = begin(&edge, "held");
    wait_until("the leader is upstream", || edge.seen("held").len() == 1);
    let follower = begin(&edge, "held");
    edge.wait_for_metric("farthing_single_flight_waits_total", 1);
    answered.open();
    wait_until("both have trapped", || traps(&edge) == VMS as usize);
    let trapped = Instant::now();
    for (who, mut connection) in [("leader", leader), ("follower", follower)] {
        let outcome = connection.receive().map(|response| response.status);
        println!("{who}: {outcome:?} after {:?}", trapped.elapsed());
        assert!(outcome.is_err() || outcome.is_ok_and(|status| status >= 500));
        assert!(trapped.elapsed() < PATIENCE, "the {who} hangs");
    }
    edge.script("next", completion("served"));
    wait_until("the next request is served", || {
        edge.ask("a", &chat(SMALL, "next")).status == 200
    });
    asked.open();
}

/// Sends a request and reads nothing yet.
fn begin(edge: &Edge, prompt: &str) -> Connection {
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer a"),
    ];
    let body = chat(SMALL, prompt).to_string();
    let mut connection = Connection::open(edge.address()).expect("Envoy listens");
    connection
        .send("POST", "/v1/chat/completions", &headers, body.as_bytes())
        .expect("sent");
    connection
}

/// The mark itself is compared as a number, so the word of its panic stands for it.
#[test]
fn what_is_shipped_cannot_be_poisoned() {
    let has_poison = |path| {
        let module = std::fs::read(path).expect("a module");
        let mut windows = module.windows(PANIC.len());
        windows.any(|window| window == PANIC.as_bytes())
    };
    assert!(!has_poison(paths::wasm()));
    assert!(has_poison(paths::poisoned_wasm()), "this test sees nothing");
    let edge = Edge::shared();
    for callback in CALLBACKS {
        let headers = [(MARK, callback)];
        let served = edge.ask_with("poisoner", &chat(SMALL, callback), &headers);
        assert_eq!(served.status, 200, "{callback}");
    }
}
