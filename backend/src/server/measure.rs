//! What one generation took and used, counted and logged once, however it ends.

use std::sync::Arc;
use std::time::Instant;

use farthing_core::wire::Usage;

use super::log;
use crate::metrics::{Metrics, ModelOperation, Operation};

/// How a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Completed,
    Failed,
    /// Nobody said otherwise before it was dropped.
    ClientLeft,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Outcome::Completed => "completed",
            Outcome::Failed => "failed",
            Outcome::ClientLeft => "client_left",
        }
    }
}

/// What is being measured.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What was asked for.
    pub operation: Operation,
    /// The model that answers.
    pub model: String,
    /// The request's name in the log.
    pub request_id: String,
    /// Answers that are generated side by side.
    pub choices: usize,
}

/// Watches one request from its arrival; dropping it counts it.
pub struct Measure {
    metrics: Arc<Metrics>,
    subject: Subject,
    arrived: Instant,
    first_token: Option<Instant>,
    usage: Usage,
    outcome: Outcome,
}

impl Measure {
    /// Starts watching a request that arrived at `arrived`.
    pub fn new(metrics: &Arc<Metrics>, subject: Subject, arrived: Instant) -> Measure {
        Measure {
            metrics: Arc::clone(metrics),
            subject,
            arrived,
            first_token: None,
            usage: Usage::default(),
            outcome: Outcome::ClientLeft,
        }
    }

    /// A token arrived; only the first of the request is noted.
    pub fn token(&mut self) {
        if self.first_token.is_none() {
            let now = Instant::now();
            self.first_token = Some(now);
            if let Some(counters) = self.counters() {
                counters.time_to_first_token.observe(now - self.arrived);
            }
        }
    }

    /// The answer is complete.
    pub fn completed(&mut self, usage: Usage) {
        self.usage = usage;
        self.outcome = Outcome::Completed;
        let choices = self.subject.choices.max(1) as u64;
        let later_tokens = (usage.completion_tokens / choices).saturating_sub(1);
        if let (Some(first), 1..) = (self.first_token, later_tokens)
            && let Some(counters) = self.counters()
        {
            let mean = first.elapsed().as_secs_f64() / later_tokens as f64;
            let mean = std::time::Duration::from_secs_f64(mean);
            counters.time_per_output_token.observe(mean);
        }
    }

    /// It failed, and the client has been told.
    pub fn failed(&mut self) {
        self.outcome = Outcome::Failed;
    }

    fn counters(&self) -> Option<&ModelOperation> {
        self.metrics
            .model(&self.subject.model, self.subject.operation)
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        let elapsed = self.arrived.elapsed();
        if let Some(counters) = self.counters() {
            counters.request_duration.observe(elapsed);
            counters.add_usage(self.usage);
        }
        log::event(
            "request",
            &[
                ("request_id", &self.subject.request_id),
                ("operation", &self.subject.operation.as_str()),
                ("model", &self.subject.model),
                ("outcome", &self.outcome.as_str()),
                ("prompt_tokens", &self.usage.prompt_tokens),
                ("cached_tokens", &self.usage.cached_tokens),
                ("completion_tokens", &self.usage.completion_tokens),
                ("elapsed_ms", &elapsed.as_millis()),
            ],
        );
    }
}
