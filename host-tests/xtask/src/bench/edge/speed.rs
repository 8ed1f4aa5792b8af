//! Throughput of the arms, and their latencies at half of what Envoy alone can do.

use super::lab::{Arm, CONNECTIONS, Lab, ROUNDS, repeated_chat, unique_chat};
use crate::bench::load::Load;
use crate::bench::report::{Metric, median};
use crate::demo::quantile;
use crate::error::XtaskError;
use farthing_host_tests::resources;
use std::time::Duration;

const THROUGHPUT_TIME: Duration = Duration::from_millis(700);
/// The p99 of one turn at 5,000 a second has 60 requests above it.
const LATENCY_TIME: Duration = Duration::from_millis(1_200);
const IDLE_REQUESTS: u64 = 500;

/// One turn of a throughput measurement.
struct Throughput {
    per_s: f64,
    /// Time that the proxy's threads ran for one request.
    cpu_us: f64,
}

/// The quantiles of one turn of a latency measurement.
struct Latency {
    p50_us: f64,
    p99_us: f64,
}

/// Measures all arms at their limit, then those that can at one rate.
pub fn run(lab: &mut Lab) -> Result<Vec<Metric>, XtaskError> {
    let arms = [
        lab.envoy(unique_chat()),
        lab.misses(unique_chat()),
        lab.bare(unique_chat()),
        lab.hits(repeated_chat()),
        lab.buffered(repeated_chat()),
        lab.direct(repeated_chat()),
    ];
    lab.check(&arms)?;
    let limits = lab.rounds(ROUNDS, &arms, throughput)?;
    let saturation = median_of(&limits[0], |turn| turn.per_s);
    let rate = saturation / 2.0;
    let latencies = lab.rounds(ROUNDS, &arms[..5], |lab, arm| latency(lab, arm, rate))?;
    let idle = lab.rounds(ROUNDS, &arms[..3], latency_when_idle)?;
    let mut metrics = latency_metrics(&latencies, rate);
    let when_idle = |name: &str, ours: &[f64]| {
        let added = added(ours, &idle[0], |p50_us| *p50_us);
        Metric::new("edge", name, "us").beside(added, "envoy", median(&idle[0]))
    };
    metrics.push(when_idle("added_p50_when_idle_us", &idle[1]));
    metrics.push(when_idle("bare_added_p50_when_idle_us", &idle[2]));
    metrics.extend(throughput_metrics(&limits));
    Ok(metrics)
}

fn throughput(lab: &mut Lab, arm: &Arm) -> Result<Throughput, XtaskError> {
    let cpu = |arm: &Arm| arm.pid.and_then(resources::cpu_time).unwrap_or_default();
    let before = cpu(arm);
    let outcome = lab.measure(arm, Load::at_limit(CONNECTIONS, THROUGHPUT_TIME))?;
    let used = cpu(arm).saturating_sub(before);
    Ok(Throughput {
        per_s: outcome.per_s(),
        cpu_us: used.as_secs_f64() * 1e6 / outcome.sent as f64,
    })
}

fn latency(lab: &mut Lab, arm: &Arm, rate: f64) -> Result<Latency, XtaskError> {
    let outcome = lab.measure(arm, Load::steady(CONNECTIONS, rate, LATENCY_TIME))?;
    Ok(Latency {
        p50_us: quantile(&outcome.latencies_us, 0.50),
        p99_us: quantile(&outcome.latencies_us, 0.99),
    })
}

/// The p50 of one request after the other: nobody waits for anybody.
fn latency_when_idle(lab: &mut Lab, arm: &Arm) -> Result<f64, XtaskError> {
    let outcome = lab.measure(arm, Load::one_by_one(IDLE_REQUESTS))?;
    Ok(quantile(&outcome.latencies_us, 0.50))
}

fn latency_metrics(turns: &[Vec<Latency>], rate: f64) -> Vec<Metric> {
    let [envoy, misses, bare, hits, buffered] = turns else {
        return Vec::new();
    };
    let metric = |name: &str| Metric::new("edge", name, "us");
    let at = format!("at {rate:.0} requests a second");
    vec![
        metric("added_p50_us")
            .beside(
                added(misses, envoy, |turn| turn.p50_us),
                "envoy",
                median_of(envoy, |turn| turn.p50_us),
            )
            .at_most(80.0)
            .note(&at),
        metric("added_p99_us")
            .beside(
                added(misses, envoy, |turn| turn.p99_us),
                "envoy",
                median_of(envoy, |turn| turn.p99_us),
            )
            .at_most(400.0)
            .note(&at),
        metric("bare_added_p50_us")
            .beside(
                added(bare, envoy, |turn| turn.p50_us),
                "envoy",
                median_of(envoy, |turn| turn.p50_us),
            )
            .note(&at),
        metric("hit_p50_us").beside(
            median_of(hits, |turn| turn.p50_us),
            "buffer and direct_response",
            median_of(buffered, |turn| turn.p50_us),
        ),
        metric("hit_p99_us").beside(
            median_of(hits, |turn| turn.p99_us),
            "buffer and direct_response",
            median_of(buffered, |turn| turn.p99_us),
        ),
    ]
}

fn throughput_metrics(turns: &[Vec<Throughput>]) -> Vec<Metric> {
    let [envoy, misses, bare, hits, buffered, direct] = turns else {
        return Vec::new();
    };
    let per_s = |name: &str, ours: &[Throughput], peer: &'static str, peers: &[Throughput]| {
        let each = ours
            .iter()
            .zip(peers)
            .map(|(ours, peer)| ours.per_s / peer.per_s);
        Metric::new("edge", name, "1/s")
            .beside(
                median_of(ours, |turn| turn.per_s),
                peer,
                median_of(peers, |turn| turn.per_s),
            )
            .with_ratio(median(&each.collect::<Vec<f64>>()))
    };
    let added_cpu = |name: &str, ours: &[Throughput], peer: &'static str, peers: &[Throughput]| {
        Metric::new("edge", name, "us").beside(
            added(ours, peers, |turn| turn.cpu_us),
            peer,
            median_of(peers, |turn| turn.cpu_us),
        )
    };
    vec![
        per_s("miss_requests_per_s", misses, "envoy", envoy).ratio_at_least(0.92),
        per_s("bare_requests_per_s", bare, "envoy", envoy),
        per_s("hit_requests_per_s", hits, "direct_response", direct)
            .ratio_at_least(1.0)
            .note("that closes each connection, as it answers before the request has come"),
        per_s(
            "hit_beside_buffer_requests_per_s",
            hits,
            "buffer and direct_response",
            buffered,
        )
        .ratio_at_least(1.0),
        added_cpu("miss_added_cpu_us", misses, "envoy", envoy),
        added_cpu("bare_added_cpu_us", bare, "envoy", envoy),
        added_cpu(
            "hit_added_cpu_us",
            hits,
            "buffer and direct_response",
            buffered,
        ),
    ]
}

/// The median over the rounds of what `of` reads.
fn median_of<T>(turns: &[T], of: impl Fn(&T) -> f64) -> f64 {
    median(&turns.iter().map(of).collect::<Vec<f64>>())
}

/// The median over the rounds of what ours has more than theirs in the same round.
fn added<T>(ours: &[T], theirs: &[T], of: impl Fn(&T) -> f64) -> f64 {
    let each = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| of(ours) - of(theirs));
    median(&each.collect::<Vec<f64>>())
}
