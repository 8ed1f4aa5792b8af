//! The semantic cache of a running backend: a store, the bounds of all routes, and what has been
//! counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use farthing_core::limits::SEMANTIC_ROUTES_MAX;

use super::bound::{RouteBound, Sample, Verdict};
use super::lookup::{Judged, NEIGHBOURS, Question};
use super::scope::{RouteKey, Scope};
use super::score::Level;
use super::store::{Record, Row, SemanticStore};
use super::words::Knows;

/// What a look-up leads to.
#[derive(Debug, Clone)]
pub enum Found {
    /// It may be answered with this.
    Served(Judged),
    /// It may not: this is the likeliest answer, if any is likely at all.
    Below(Option<Judged>),
}

/// A store with the bounds that say what may be answered from it.
pub struct SemanticCache {
    /// What a route begins with.
    begun: RouteBound,
    store: Arc<dyn SemanticStore>,
    routes: Mutex<HashMap<RouteKey, RouteBound>>,
    draws: AtomicU64,
    counts: Counts,
}

/// Counters of look-ups and samples.
#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    verified: AtomicU64,
    resampled: AtomicU64,
    right: AtomicU64,
    wrong: AtomicU64,
}

// === impl SemanticCache ===

impl SemanticCache {
    /// `begun` is what a route begins with; `seed` decides which answers are asked for again.
    pub fn new(begun: RouteBound, store: Arc<dyn SemanticStore>, seed: u64) -> SemanticCache {
        SemanticCache {
            begun,
            store,
            routes: Mutex::new(HashMap::new()),
            draws: AtomicU64::new(seed),
            counts: Counts::default(),
        }
    }

    pub fn store(&self) -> &Arc<dyn SemanticStore> {
        &self.store
    }

    /// Looks a question up. It may wait for the store: not to be called on a thread that moves
    /// bytes.
    pub fn look_up(
        &self,
        (scope, route): (&Scope, &RouteKey),
        question: &Question,
        is_known: Knows<'_>,
        now_unix_s: u64,
    ) -> Found {
        let near = self
            .store
            .nearest(scope, &question.vector, NEIGHBOURS, now_unix_s);
        let judged = question.judge(&near, is_known);
        let level = judged.as_ref().map(|judged| judged.level);
        let serves = self.with(route, |bound| {
            bound.looked_up(level);
            level.is_some_and(|level| bound.serves(level))
        });
        match judged {
            Some(judged) if serves => Found::Served(judged),
            judged => Found::Below(judged),
        }
    }

    /// The lowest score that is served on a route.
    pub fn threshold(&self, route: &RouteKey) -> Option<Level> {
        self.with(route, |bound| bound.threshold())
    }

    /// How likely an answer that is served on a route is wrong, at most.
    pub fn risk(&self, route: &RouteKey) -> f64 {
        self.with(route, |bound| bound.risk())
    }

    /// Counts a hit and says whether the model is to be asked for it as well.
    pub fn served(&self, route: &RouteKey, record: &Record) -> Resample {
        self.counts.hits.fetch_add(1, Relaxed);
        self.store.served(record);
        let per_mille = self.with(route, |bound| bound.resampled_per_mille());
        let mut drawn = self
            .draws
            .fetch_add(1, Relaxed)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        if (drawn >> 32) % 1_000 < u64::from(per_mille) {
            self.counts.resampled.fetch_add(1, Relaxed);
            Resample::Yes
        } else {
            Resample::No
        }
    }

    pub fn missed(&self) {
        self.counts.misses.fetch_add(1, Relaxed);
    }

    /// Counts a question that the verifier held to be the same as another.
    pub fn verified(&self) {
        self.counts.verified.fetch_add(1, Relaxed);
    }

    /// Learns whether an answer was right, and keeps that.
    pub fn learn(&self, route: &RouteKey, sample: Sample) {
        let counter = match sample.verdict {
            Verdict::Right => &self.counts.right,
            Verdict::Wrong => &self.counts.wrong,
        };
        counter.fetch_add(1, Relaxed);
        let samples = self.with(route, |bound| {
            bound.learn(sample);
            bound.to_bytes()
        });
        self.store.keep_samples(route, samples);
    }

    /// Runs with the bound of a route, which begins with the samples that were kept of it. When
    /// there are too many routes all begin anew from those. While the store does not say whether it
    /// has any, nothing is remembered that could take their place there.
    fn with<T>(&self, route: &RouteKey, run: impl FnOnce(&mut RouteBound) -> T) -> T {
        let is_known = lock(&self.routes).contains_key(route);
        // Asked for without the lock: the store may take its time, and others need not.
        let begun = match is_known {
            true => None,
            false => self.store.samples(route).ok().map(|samples| {
                let samples = samples.unwrap_or_default();
                self.begun.clone().with_samples(&samples)
            }),
        };
        let mut routes = lock(&self.routes);
        if let Some(begun) = begun
            && !routes.contains_key(route)
        {
            if routes.len() >= SEMANTIC_ROUTES_MAX {
                routes.clear();
            }
            routes.insert(*route, begun);
        }
        match routes.get_mut(route) {
            Some(bound) => run(bound),
            None => run(&mut self.begun.clone()),
        }
    }

    /// Everything that is counted.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = self.counts.rows();
        rows.extend(self.store.counts().rows());
        rows
    }
}

impl Counts {
    fn rows(&self) -> Vec<Row> {
        let total = |name, help, value: &AtomicU64| (name, "counter", help, value.load(Relaxed));
        vec![
            total(
                "farthing_semantic_hits_total",
                "Requests answered from the semantic cache.",
                &self.hits,
            ),
            total(
                "farthing_semantic_misses_total",
                "Requests looked up there in vain.",
                &self.misses,
            ),
            total(
                "farthing_semantic_verified_total",
                "Questions that the verifier held to be the same.",
                &self.verified,
            ),
            total(
                "farthing_semantic_resampled_total",
                "Hits that the model was asked for as well.",
                &self.resampled,
            ),
            total(
                "farthing_semantic_right_total",
                "Samples in which the cached answer was right.",
                &self.right,
            ),
            total(
                "farthing_semantic_wrong_total",
                "Samples in which it was wrong.",
                &self.wrong,
            ),
        ]
    }
}

/// Whether a served answer is generated again, to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resample {
    Yes,
    No,
}

/// A holder that panicked has left a bound that is whole: it is changed in one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
