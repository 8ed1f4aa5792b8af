//! The start-up self-check, seen from the streams of one worker.

use crate::edge::{CHAT, CONFIG, Edge, pairs};
use farthing_core::exchange::{Effect, EndOfStream, Env, Exchange, Flow, Headers};
use farthing_core::limits::{
    SELF_CHECK_PROBE_MS, SELF_CHECK_PROOFS, SELF_CHECK_REPROBE_S, SELF_CHECK_TIMEOUT_MS,
};
use farthing_core::metrics::Metric;
use farthing_core::store::MemoryStore;

const NS_PER_MS: u64 = 1_000_000;
const BODY: &[u8] = br#"{"model":"small","messages":[{"role":"user","content":"x"}]}"#;

/// A request that the worker holds.
fn held(edge: &mut Edge) -> Exchange {
    let (exchange, flow) = begun(edge);
    assert_eq!(flow, Flow::Pause);
    exchange
}

/// A request whose body is still to come.
fn begun(edge: &mut Edge) -> (Exchange, Flow) {
    let mut exchange = Exchange::new();
    let headers = pairs(&[(":method", "POST"), (":path", CHAT)]);
    let env = Env {
        store: &edge.store,
        now_unix_ns: edge.now_unix_ns,
    };
    let step =
        exchange.on_request_headers(&mut edge.vm, &env, &Headers::new(&headers), EndOfStream::No);
    edge.keep(&step.effects);
    (exchange, step.flow)
}

fn tick(edge: &mut Edge, exchange: &mut Exchange, after_ms: u64) -> Flow {
    edge.now_unix_ns += after_ms * NS_PER_MS;
    let env = Env {
        store: &edge.store,
        now_unix_ns: edge.now_unix_ns,
    };
    let step = exchange.on_tick(&mut edge.vm, &env);
    edge.keep(&step.effects);
    let cluster = Effect::SetRequestHeader {
        name: "x-farthing-cluster",
        value: "cheap".into(),
    };
    assert_eq!(step.effects.contains(&cluster), step.flow == Flow::Continue);
    step.flow
}

fn body(edge: &mut Edge, exchange: &mut Exchange, after_ms: u64) -> Flow {
    edge.now_unix_ns += after_ms * NS_PER_MS;
    let env = Env {
        store: &edge.store,
        now_unix_ns: edge.now_unix_ns,
    };
    let step = exchange.on_request_body(&mut edge.vm, &env, BODY);
    edge.keep(&step.effects);
    step.flow
}

/// A stream is let go, and its body comes so long after.
fn released(edge: &mut Edge, body_after_ms: u64) {
    let mut exchange = held(edge);
    assert_eq!(
        tick(edge, &mut exchange, SELF_CHECK_TIMEOUT_MS),
        Flow::Continue
    );
    assert_eq!(body(edge, &mut exchange, body_after_ms), Flow::Continue);
}

fn degraded() -> Edge {
    let mut edge = Edge::new(CONFIG);
    for _ in 0..SELF_CHECK_PROOFS {
        assert_eq!(gauge(&edge), None);
        released(&mut edge, SELF_CHECK_PROBE_MS);
    }
    assert_eq!(gauge(&edge), Some(1));
    edge
}

/// What the gauge was last set to.
fn gauge(edge: &Edge) -> Option<u64> {
    edge.record.iter().rev().find_map(|effect| match effect {
        Effect::Count {
            metric: Metric::SelfCheckFailed,
            amount,
        } => Some(*amount),
        _ => None,
    })
}

/// The store of a host where a worker has verified that bodies arrive.
fn verified() -> MemoryStore {
    let mut other = Edge::new(CONFIG);
    let mut exchange = held(&mut other);
    body(&mut other, &mut exchange, 0);
    other.store
}

#[test]
fn a_stream_is_held_until_the_timeout() {
    let mut edge = Edge::new(CONFIG);
    let mut exchange = held(&mut edge);
    let almost = SELF_CHECK_TIMEOUT_MS - 1;
    assert_eq!(tick(&mut edge, &mut exchange, almost), Flow::Pause);
    assert_eq!(tick(&mut edge, &mut exchange, 1), Flow::Continue);
}

#[test]
fn bodies_that_waited_in_the_host_degrade_the_worker() {
    let mut edge = degraded();
    assert!(edge.record.iter().any(|effect| matches!(
        effect,
        Effect::Log { message, .. } if message.contains("allow_on_headers_stop_iteration")
    )));
    // Nothing is held any more, nothing is judged, and it still routes.
    let passed = edge.counted(Metric::Passthrough);
    let sent = edge.post(CHAT, "not even JSON");
    assert_eq!(
        (sent.flow, sent.header("x-farthing-cluster")),
        (Flow::Continue, Some("cheap"))
    );
    assert_eq!(edge.counted(Metric::Passthrough), passed + 1);
    // What is not listed stays refused: that needs no body.
    assert_eq!(edge.post("/elsewhere", "{}").reply().unwrap().status, 404);
}

#[test]
fn a_slow_client_passes_untouched_and_decides_nothing() {
    let mut edge = Edge::new(CONFIG);
    for _ in 0..10 * SELF_CHECK_PROOFS {
        released(&mut edge, SELF_CHECK_PROBE_MS + 1);
    }
    assert_eq!(gauge(&edge), None);
    assert!(edge.vm.self_check_pending());
    held(&mut edge);
}

#[test]
fn each_stream_is_measured_from_its_own_release() {
    let mut edge = Edge::new(CONFIG);
    let mut streams: Vec<Exchange> = (0..SELF_CHECK_PROOFS).map(|_| held(&mut edge)).collect();
    edge.now_unix_ns += SELF_CHECK_TIMEOUT_MS * NS_PER_MS;
    for exchange in &mut streams {
        let step = SELF_CHECK_PROBE_MS + 1;
        assert_eq!(tick(&mut edge, exchange, step), Flow::Continue);
    }
    // Only the body of the last one came at once.
    for exchange in &mut streams {
        assert_eq!(body(&mut edge, exchange, 0), Flow::Continue);
    }
    assert_eq!(gauge(&edge), None);
}

#[test]
fn a_body_while_held_ends_the_check() {
    let mut edge = Edge::new(CONFIG);
    let (mut slow, mut quick) = (held(&mut edge), held(&mut edge));
    assert_eq!(body(&mut edge, &mut quick, 0), Flow::Continue);
    assert!(!edge.vm.self_check_pending());
    assert_eq!(
        tick(&mut edge, &mut slow, 10 * SELF_CHECK_TIMEOUT_MS),
        Flow::Pause
    );
    assert_eq!(body(&mut edge, &mut slow, 0), Flow::Continue);
    assert_eq!(gauge(&edge), None);
}

#[test]
fn what_another_worker_verified_is_believed_before_any_judgement() {
    let mut edge = Edge::new(CONFIG);
    let (mut released, mut waiting) = (held(&mut edge), held(&mut edge));
    let timeout = SELF_CHECK_TIMEOUT_MS;
    assert_eq!(tick(&mut edge, &mut released, timeout), Flow::Continue);
    edge.store = verified();
    assert_eq!(tick(&mut edge, &mut waiting, timeout), Flow::Pause);
    assert!(!edge.vm.self_check_pending());
    assert_eq!(body(&mut edge, &mut released, 0), Flow::Continue);
    assert_eq!(gauge(&edge), None);
}

#[test]
fn a_proof_does_not_count_once_another_worker_verified() {
    let mut edge = Edge::new(CONFIG);
    let mut streams: Vec<Exchange> = (0..SELF_CHECK_PROOFS).map(|_| held(&mut edge)).collect();
    edge.now_unix_ns += SELF_CHECK_TIMEOUT_MS * NS_PER_MS;
    for exchange in &mut streams {
        assert_eq!(tick(&mut edge, exchange, 0), Flow::Continue);
    }
    edge.store = verified();
    for exchange in &mut streams {
        assert_eq!(body(&mut edge, exchange, 0), Flow::Continue);
    }
    assert_eq!(gauge(&edge), None);
    assert!(!edge.vm.self_check_pending());
}

#[test]
fn a_degraded_worker_recovers_when_another_one_verified() {
    let mut edge = degraded();
    edge.store = verified();
    held(&mut edge);
    assert_eq!(gauge(&edge), Some(0));
    assert!(!edge.vm.self_check_pending());
}

#[test]
fn a_degraded_worker_probes_now_and_then_and_heals() {
    let mut edge = degraded();
    edge.later(SELF_CHECK_REPROBE_S - 1);
    assert_eq!(begun(&mut edge).1, Flow::Continue);
    edge.later(1);
    // What brings no body proves nothing, so it is no probe.
    let listed = crate::edge::pairs(&[(":method", "GET"), (":path", "/v1/models")]);
    assert_eq!(edge.send(&listed, b"").flow, Flow::Continue);
    let mut probe = held(&mut edge);
    assert_eq!(begun(&mut edge).1, Flow::Continue, "one at a time");
    assert!(edge.vm.self_check_pending());
    // Without a body it is let go as ever, and the verdict stands.
    let timeout = SELF_CHECK_TIMEOUT_MS;
    assert_eq!(tick(&mut edge, &mut probe, timeout), Flow::Continue);
    assert_eq!(body(&mut edge, &mut probe, 0), Flow::Continue);
    assert_eq!(edge.counted(Metric::SelfCheckFailed), 1, "said once");
    assert_eq!(begun(&mut edge).1, Flow::Continue);
    // The next probe's body comes while it is held: the verdict was wrong.
    edge.later(SELF_CHECK_REPROBE_S);
    let mut probe = held(&mut edge);
    assert_eq!(body(&mut edge, &mut probe, 0), Flow::Continue);
    assert_eq!(gauge(&edge), Some(0));
    assert_eq!(begun(&mut edge).1, Flow::Pause);
}
