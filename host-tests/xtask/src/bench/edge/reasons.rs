//! Why targets are missed, as far as it is known: a reader of the table must not have to guess.

use crate::bench::report::Metric;

/// Of a metric, what stands between it and its target. From the bare filter beside ours, and from
/// a profile of Envoy's worker under misses (`perf`): of what a miss costs beyond the bare filter
/// less than half is our own code, the rest Envoy's work for calls that the bare one does not make.
const REASONS: [(&str, &str); 8] = [
    (
        "added_p50_us",
        "own code and Envoy's work for our calls (the bare filter is what neither costs); above the \
         filter's own saturation requests queue",
    ),
    ("added_p99_us", "as the p50"),
    (
        "miss_requests_per_s",
        "the bare filter has not two thirds either; as added_p50_us",
    ),
    (
        "hit_requests_per_s",
        "the body is copied and compared, the reply has 11 headers and a ledger line",
    ),
    ("hit_beside_buffer_requests_per_s", "as hit_requests_per_s"),
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
