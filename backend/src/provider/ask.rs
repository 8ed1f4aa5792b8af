//! Asking one model until it answers or is not worth asking again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use farthing_core::wire::provider::FaultKind;

use super::answered::Answer;
use super::attempt::attempt;
pub use super::attempt::{AnswerForm, Question};
use super::breaker::Outcome;
use super::failure::{Failure, FailureKind};
use super::key::Reread;
use super::model::ProviderModel;
use super::retry::{Attempted, Fallback, Step};

/// A question on its way.
#[derive(Debug)]
pub struct Asked<'a> {
    pub question: Question<'a>,
    /// Is there another model to ask?
    pub fallback: Fallback,
    /// Draws the waits.
    pub seed: u64,
}

/// Asks, and again while that makes sense. `failed` is told of every attempt that failed.
///
/// # Errors
/// The last failure.
pub async fn ask(
    model: &Arc<ProviderModel>,
    asked: &Asked<'_>,
    failed: impl Fn(&Failure, u32),
) -> Result<Answer, Failure> {
    let counting = Counting::new(model);
    let result = ask_counted(model, asked, failed).await;
    counting.ended(&result);
    result
}

async fn ask_counted(
    model: &Arc<ProviderModel>,
    asked: &Asked<'_>,
    failed: impl Fn(&Failure, u32),
) -> Result<Answer, Failure> {
    let provider = &model.provider;
    provider.budget().deposit();
    let mut before = 0;
    let mut may_reread = true;
    loop {
        if let Some(key) = &provider.key {
            key.look_after(provider.now());
        }
        let admitted = model
            .admit()
            .inspect_err(|failure| failed(failure, before))?;
        let begun = Instant::now();
        let failure = match attempt(model, &asked.question).await {
            Ok(answer) => {
                admitted.record(Outcome::Success);
                model.counters.observe_first_byte(begun.elapsed());
                return Ok(answer);
            }
            Err(failure) => failure,
        };
        admitted.record(failure.outcome());
        failed(&failure, before);
        if let (Some(wait), true) = (failure.retry_after, limits_rate(&failure)) {
            model.rest(wait);
        }
        // A key that was replaced while we held the one before is no failure of anybody.
        if may_reread && is_refused_key(&failure) {
            may_reread = false;
            if reread(model) {
                continue;
            }
        }
        let attempted = Attempted {
            failure: &failure,
            before,
            fallback: asked.fallback,
            seed: asked.seed.wrapping_add(u64::from(before)),
        };
        let now = provider.now();
        let step = provider.policy.step(attempted, &mut provider.budget(), now);
        match step {
            Step::On => return Err(failure),
            Step::Again(wait) => {
                model.counters.count_retry();
                wait_out(wait).await;
            }
        }
        before += 1;
    }
}

async fn wait_out(wait: Duration) {
    // Timers count in milliseconds: one that fires early would find the model still resting.
    tokio::time::sleep(wait + Duration::from_millis(1)).await;
}

fn limits_rate(failure: &Failure) -> bool {
    matches!(&failure.kind, FailureKind::Fault(fault)
        if matches!(fault.kind, FaultKind::RateLimited | FaultKind::Overloaded))
}

fn is_refused_key(failure: &Failure) -> bool {
    matches!(&failure.kind, FailureKind::Fault(fault) if fault.kind == FaultKind::Credentials)
}

fn reread(model: &ProviderModel) -> bool {
    let key = model.provider.key.as_ref();
    key.is_some_and(|key| key.reread() == Reread::Changed)
}

/// Counts how a question ended, also where nobody waited for the end.
struct Counting<'a> {
    model: &'a ProviderModel,
    is_open: bool,
}

impl<'a> Counting<'a> {
    fn new(model: &'a ProviderModel) -> Counting<'a> {
        let is_open = true;
        Counting { model, is_open }
    }

    /// A stream that began is counted when it ends.
    fn ended(mut self, result: &Result<Answer, Failure>) {
        self.is_open = false;
        match result {
            Ok(Answer::Whole(_)) => self.model.counters.count_completed(),
            Ok(Answer::Streamed(_)) => {}
            Err(failure) => self.model.counters.count_failure(failure),
        }
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.model.counters.count_abandoned();
        }
    }
}
