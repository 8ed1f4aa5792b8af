//! Why targets are missed, as far as it is known: a reader of the table must not have to guess.

use crate::bench::report::Metric;

/// Of a metric, what stands between it and its target. From profiles of Envoy's worker under misses
/// and hits (`perf`, by call chain): about a third of the time that the filter adds is spent in its
/// own code, a fifth in calls into Envoy, mostly for headers, and the rest in Envoy, which holds
/// bodies for it and carries its headers.
const REASONS: [(&str, &str); 7] = [
    (
        "added_p50_us",
        "own code, calls into Envoy, and Envoy's work for it about alike; above the filter's own \
         saturation requests queue",
    ),
    ("added_p99_us", "as the p50"),
    (
        "miss_requests_per_s",
        "Envoy alone takes a third of the processor time; as added_p50_us",
    ),
    (
        "hit_requests_per_s",
        "the body is copied and compared, the reply has 11 headers and a ledger line",
    ),
    (
        "added_p50_256k_us",
        "every byte is read into a tree, counted, and hashed for the cache key",
    ),
    (
        "stream_event_added_us",
        "two switches between Envoy and V8, and the copy of the event",
    ),
    (
        "tokens_worst_to_mean",
        "many pieces are looked for in tables larger than the cache (not proven)",
    ),
];

/// Adds to every metric that missed its target why, unless it says something already.
pub fn explain(metrics: Vec<Metric>) -> Vec<Metric> {
    let explained = |metric: Metric| {
        let reason = REASONS.iter().find(|(name, _)| *name == metric.metric);
        match reason {
            Some((_, reason)) if metric.met == Some(false) => metric.also(reason),
            _ => metric,
        }
    };
    metrics.into_iter().map(explained).collect()
}
