//! What is counted of providers. Label values are fixed at start, so no answer can grow the table.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::breaker::BreakerState;
use super::failure::Failure;
use super::model::ProviderModel;
use crate::metrics::{Histogram, Page, escape_label};

/// How questions end: as failures are named, and two more.
const OUTCOMES: [&str; 17] = [
    "completed",
    "client_left",
    "refused",
    "context_length",
    "credentials",
    "unknown_model",
    "quota",
    "rate_limited",
    "overloaded",
    "failed",
    "malformed",
    "no_connection",
    "timed_out",
    "cut",
    "too_large",
    "breaker_open",
    "resting",
];

/// The counters of one model.
#[derive(Debug, Default)]
pub(super) struct Counters {
    outcomes: [AtomicU64; OUTCOMES.len()],
    retries: AtomicU64,
    fallbacks: AtomicU64,
    first_byte: Histogram,
}

// === impl Counters ===

impl Counters {
    pub(super) fn count_completed(&self) {
        self.count("completed");
    }

    pub(super) fn count_abandoned(&self) {
        self.count("client_left");
    }

    pub(super) fn count_failure(&self, failure: &Failure) {
        self.count(failure.as_str());
    }

    pub(super) fn count_retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// From the attempt that succeeded to the beginning of its answer.
    pub(super) fn observe_first_byte(&self, took: Duration) {
        self.first_byte.observe(took);
    }

    fn count(&self, outcome: &str) {
        if let Some(index) = OUTCOMES.iter().position(|known| *known == outcome) {
            self.outcomes[index].fetch_add(1, Relaxed);
        }
    }
}

impl ProviderModel {
    /// Another model is asked in its place.
    pub fn count_fallback(&self) {
        self.counters.fallbacks.fetch_add(1, Relaxed);
    }
}

/// Writes the page's part.
pub(super) fn write(models: &[Arc<ProviderModel>], page: &mut Page) {
    if models.is_empty() {
        return;
    }
    let labelled: Vec<(String, &ProviderModel)> = models
        .iter()
        .map(|model| {
            let (provider, id) = (escape_label(&model.provider.name), escape_label(&model.id));
            (format!("provider=\"{provider}\",model=\"{id}\""), &**model)
        })
        .collect();
    let name = "farthing_provider_requests_total";
    page.family(name, "counter", "Requests to providers by how they ended.");
    for (labels, model) in &labelled {
        for (outcome, count) in OUTCOMES.iter().zip(&model.counters.outcomes) {
            let labels = format!("{labels},outcome=\"{outcome}\"");
            page.sample(name, &labels, count.load(Relaxed));
        }
    }
    let name = "farthing_provider_retries_total";
    page.family(name, "counter", "Attempts after the first one.");
    for (labels, model) in &labelled {
        page.sample(name, labels, model.counters.retries.load(Relaxed));
    }
    let name = "farthing_provider_fallbacks_total";
    page.family(name, "counter", "Requests that went on to another model.");
    for (labels, model) in &labelled {
        page.sample(name, labels, model.counters.fallbacks.load(Relaxed));
    }
    let name = "farthing_provider_breaker_state";
    page.family(name, "gauge", "0 closed, 1 half open, 2 open.");
    for (labels, model) in &labelled {
        let state = match model.breaker_state() {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        page.sample(name, labels, state);
    }
    let name = "farthing_provider_time_to_first_byte_seconds";
    page.family(name, "histogram", "Time to the beginning of an answer.");
    for (labels, model) in &labelled {
        model.counters.first_byte.write(page, name, labels);
    }
}
