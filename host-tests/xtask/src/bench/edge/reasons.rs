//! Why targets are missed, as far as it is known: a reader of the table must not have to guess.

use crate::bench::report::Metric;

/// Of a metric, what stands between it and its target. From profiles of Envoy's worker under misses
/// (`perf`, by call chain): of the time that the filter adds about 40 % is spent in its own code,
/// 25 % in calls into Envoy, and 35 % in Envoy, which holds bodies for it and carries its headers.
const REASONS: [(&str, &str); 7] = [
    (
        "added_p50_us",
        "40 % own code, 25 % calls into Envoy, 35 % Envoy's work for it; above the filter's own \
         saturation requests queue",
    ),
    ("added_p99_us", "as the p50"),
    (
        "miss_requests_per_s",
        "Envoy alone takes a third of the processor time; as added_p50_us",
    ),
    (
        "hit_requests_per_s",
        "the body is copied and hashed, the reply has 11 headers and a ledger line",
    ),
    (
        "added_p50_256k_us",
        "every byte is read, counted, hashed and written anew",
    ),
    (
        "stream_event_added_us",
        "not found: at full speed an event takes less",
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
