//! `cargo xtask bench cache`: what the exact cache's admission and eviction are worth. The filter's
//! own code (one worker and the shared ring) serves traces of requests, beside plain LRU of as many
//! entries and the optimum that knows the future.

mod lru;
mod optimum;
mod replay;
mod trace;

use super::report::Metric;
use crate::error::XtaskError;
use crate::signals::Interrupt;
use optimum::Optimum;
use trace::{Popularity, Trace};

const BENCH: &str = "cache";
/// Entries, of 10,000 different requests.
const CAPACITIES: [usize; 3] = [64, 256, 1_024];

/// Shares of requests answered, and of their cost saved, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rates {
    hits: f64,
    saved: f64,
}

impl Rates {
    /// Of requests that were answered from the cache or not, by their positions in the trace.
    fn of(trace: &Trace, hit: impl Fn(usize) -> bool) -> Rates {
        let mut hits = Sums::default();
        let mut all = Sums::default();
        for (position, request) in trace.requests.iter().enumerate() {
            let cost = trace.answers[*request].cost_nanousd;
            all.add(cost);
            if hit(position) {
                hits.add(cost);
            }
        }
        Rates {
            hits: 100.0 * hits.count as f64 / all.count.max(1) as f64,
            saved: 100.0 * hits.cost_nanousd as f64 / all.cost_nanousd.max(1) as f64,
        }
    }
}

#[derive(Default)]
struct Sums {
    count: u64,
    cost_nanousd: u64,
}

impl Sums {
    fn add(&mut self, cost_nanousd: u64) {
        self.count += 1;
        self.cost_nanousd += cost_nanousd;
    }
}

/// Every trace at every capacity.
pub fn run(interrupt: &Interrupt) -> Result<Vec<Metric>, XtaskError> {
    let mut metrics = Vec::new();
    for popularity in Popularity::ALL {
        interrupt.check()?;
        eprintln!("cache: requests {}", popularity.describe());
        let trace = Trace::new(popularity);
        let most_hits = Optimum::of(&trace, &CAPACITIES, |_| 1);
        interrupt.check()?;
        let most_saved = Optimum::of(&trace, &CAPACITIES, |answer| answer.cost_nanousd);
        for (capacity, (hits, saved)) in CAPACITIES.into_iter().zip(most_hits.zip(most_saved)) {
            let ours = Rates::of(&trace, replay::hits(&trace, capacity));
            let lru = Rates::of(&trace, lru::hits(&trace, capacity));
            let best = Rates {
                hits: 100.0 * hits as f64 / trace.requests.len() as f64,
                saved: 100.0 * saved as f64 / trace.cost_nanousd() as f64,
            };
            let name = |what: &str| format!("{}_{capacity}_{what}", popularity.name());
            metrics.extend([
                Metric::new(BENCH, name("hit_rate"), "%")
                    .beside(ours.hits, "LRU", lru.hits)
                    .ratio_at_least(1.0),
                Metric::new(BENCH, name("hit_rate"), "%").beside(ours.hits, "optimum", best.hits),
                Metric::new(BENCH, name("saved_cost"), "%")
                    .beside(ours.saved, "LRU", lru.saved)
                    .ratio_at_least(1.0),
                Metric::new(BENCH, name("saved_cost"), "%")
                    .beside(ours.saved, "optimum", best.saved),
            ]);
        }
    }
    Ok(metrics)
}
