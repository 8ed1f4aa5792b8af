//! The start-up self-check, seen from the streams of one worker.

use crate::edge::{CHAT, CONFIG, Edge, pairs};
use farthing_core::exchange::{Effect, EndOfStream, Env, Exchange, Flow, Headers};
use farthing_core::limits::{SELF_CHECK_PROBE_MS, SELF_CHECK_TIMEOUT_MS};
use farthing_core::metrics::Metric;

const NS_PER_MS: u64 = 1_000_000;
const BODY: &[u8] = br#"{"model":"small","messages":[{"role":"user","content":"x"}]}"#;

fn held(edge: &mut Edge) -> Exchange {
    let mut exchange = Exchange::new();
    let headers = pairs(&[(":method", "POST"), (":path", CHAT)]);
    let env = Env {
        store: &edge.store,
        now_unix_ns: edge.now_unix_ns,
    };
    let step =
        exchange.on_request_headers(&mut edge.vm, &env, &Headers::new(&headers), EndOfStream::No);
    assert_eq!(step.flow, Flow::Pause);
    exchange
}

fn tick(edge: &mut Edge, exchange: &mut Exchange, after_ms: u64) -> Flow {
    edge.now_unix_ns += after_ms * NS_PER_MS;
    let env = Env {
        store: &edge.store,
        now_unix_ns: edge.now_unix_ns,
    };
    let step = exchange.on_tick(&mut edge.vm, &env);
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

#[test]
fn a_body_that_waited_in_the_host_degrades_the_worker_for_good() {
    let mut edge = Edge::new(CONFIG);
    let mut exchange = held(&mut edge);
    assert_eq!(
        tick(&mut edge, &mut exchange, SELF_CHECK_TIMEOUT_MS - 1),
        Flow::Pause
    );
    assert_eq!(tick(&mut edge, &mut exchange, 1), Flow::Continue);
    assert_eq!(body(&mut edge, &mut exchange, 1), Flow::Continue);
    assert_eq!(edge.counted(Metric::SelfCheckFailed), 1);
    assert!(edge.record.iter().any(|effect| matches!(
        effect,
        Effect::Log { message, .. } if message.contains("allow_on_headers_stop_iteration")
    )));
    assert!(!edge.vm.self_check_pending());
    // Nothing is held any more, nothing is judged, and it still routes.
    let sent = edge.post(CHAT, "not even JSON");
    assert_eq!(
        (sent.flow, sent.header("x-farthing-cluster")),
        (Flow::Continue, Some("cheap"))
    );
    assert_eq!(edge.counted(Metric::Passthrough), 1);
}

#[test]
fn a_slow_client_passes_untouched_and_decides_nothing() {
    let mut edge = Edge::new(CONFIG);
    let mut exchange = held(&mut edge);
    assert_eq!(
        tick(&mut edge, &mut exchange, SELF_CHECK_TIMEOUT_MS),
        Flow::Continue
    );
    assert_eq!(
        body(&mut edge, &mut exchange, SELF_CHECK_PROBE_MS + 1),
        Flow::Continue
    );
    assert!(edge.vm.self_check_pending());
    assert_eq!(edge.counted(Metric::SelfCheckFailed), 0);
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
    assert_eq!(edge.counted(Metric::SelfCheckFailed), 0);
}
