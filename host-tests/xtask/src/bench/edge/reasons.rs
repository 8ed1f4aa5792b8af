//! Why targets are missed, as far as it is known: a reader of the table must not have to guess.

use crate::bench::report::Metric;

/// Of a metric, what stands between it and its target. From the bare filter beside ours, and from
/// a profile of Envoy's worker under misses (`perf`): of what a miss costs beyond the bare filter
/// half is our own code, a sixth Envoy's work for calls that the bare one does not make, and the
/// rest functions of Envoy's and the kernel's that are slower because other code ran in between.
const REASONS: [(&str, &str); 10] = [
    (
        "added_p50_us",
        "own code, Envoy's work for our calls, and colder caches (the bare filter is what none \
         costs); above the filter's own saturation requests queue",
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
    (
        "miss_requests_per_s_beside_portkey",
        "a miss takes one core 200 us (added_p50_us), and the gateway does more than the 462 a \
         second that the target was made from",
    ),
    (
        "hit_requests_per_s_beside_litellm",
        "one core answers all hits (hit_requests_per_s), and the cache does more than the 75 a \
         second that the target was made from",
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
