//! A provider, and a model of it: what is known about them and how they fare.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use farthing_core::wire::provider::{ProviderApi, Target};
use sha2::{Digest, Sha256};

use super::breaker::{Admission, Breaker, BreakerState, Outcome, Ticket};
use super::client::{self, Client};
use super::failure::{Failure, FailureKind};
use super::key::Key;
use super::metrics::Counters;
use super::retry::{RetryBudget, RetryPolicy};
use crate::config::{BaseUrl, ProviderConfig, ProviderModelConfig};
use crate::error::BackendError;

/// One provider.
#[derive(Debug)]
pub struct Provider {
    /// Its name in the configuration, and to our clients.
    pub name: String,
    pub api: ProviderApi,
    pub(super) base_url: BaseUrl,
    pub(super) key: Option<Key>,
    pub(super) client: Client,
    pub(super) timeouts: Timeouts,
    pub(super) policy: RetryPolicy,
    budget: Mutex<RetryBudget>,
    breaker: super::breaker::BreakerPolicy,
    /// Where its time begins.
    clock: Instant,
}

/// How long we wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the request to the first event of a stream.
    pub first_byte: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// From the request to the end of an answer that is not streamed.
    pub answer: Duration,
}

/// One model of a provider.
#[derive(Debug)]
pub struct ProviderModel {
    /// Its id here.
    pub id: String,
    pub provider: std::sync::Arc<Provider>,
    /// Its name there, and how it is asked.
    pub config: ProviderModelConfig,
    pub(super) counters: Counters,
    breaker: Mutex<Breaker>,
    /// Until when it has asked to be left alone.
    rests_until: Mutex<Duration>,
}

// === impl Provider ===

impl Provider {
    pub(super) fn load(
        config: &ProviderConfig,
        at: &str,
        clock: Instant,
    ) -> Result<Provider, BackendError> {
        let key = config.key.as_ref();
        let key = key.map(|source| Key::load(source, &format!("{at}.key")));
        Ok(Provider {
            name: config.name.clone(),
            api: config.api.into(),
            base_url: config.base_url(),
            key: key.transpose()?,
            client: client::client(config, at)?,
            timeouts: config.timeouts(),
            policy: config.retries.policy(),
            budget: Mutex::new(RetryBudget::new(config.retries.budget())),
            breaker: config.breaker.policy(),
            clock,
        })
    }

    /// What has passed since the start.
    pub(super) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    pub(super) fn budget(&self) -> MutexGuard<'_, RetryBudget> {
        lock(&self.budget)
    }
}

// === impl ProviderModel ===

impl ProviderModel {
    pub(super) fn new(
        config: &ProviderModelConfig,
        provider: std::sync::Arc<Provider>,
    ) -> ProviderModel {
        ProviderModel {
            id: config.id.clone(),
            breaker: Mutex::new(Breaker::new(provider.breaker)),
            provider,
            config: config.clone(),
            counters: Counters::default(),
            rests_until: Mutex::new(Duration::ZERO),
        }
    }

    /// How a request for it is written.
    pub fn target(&self, max_tokens_default: u32) -> Target<'_> {
        Target {
            model: &self.config.upstream_model,
            max_tokens_field: self.config.max_tokens_field.map(Into::into),
            max_tokens_default,
        }
    }

    /// Tells answers of this model from those of another under the same id, for the store.
    pub fn revision(&self) -> String {
        let parts = [
            env!("CARGO_PKG_VERSION"),
            self.provider.api.as_str(),
            &self.provider.base_url.to_string(),
            &self.config.upstream_model,
        ];
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let hash = digest.finalize();
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Asks whether it may be asked now.
    pub(super) fn admit(&self) -> Result<Admitted<'_>, Failure> {
        let now = self.provider.now();
        let rest = lock(&self.rests_until).saturating_sub(now);
        if !rest.is_zero() {
            let retry_after = Some(rest);
            let kind = FailureKind::Resting;
            return Err(Failure { kind, retry_after });
        }
        match lock(&self.breaker).admit(now) {
            Admission::Admitted(ticket) => Ok(Admitted {
                model: self,
                ticket: Some(ticket),
            }),
            Admission::Refused(wait) => Err(Failure {
                kind: FailureKind::BreakerOpen,
                retry_after: Some(wait),
            }),
        }
    }

    /// It asks to be left alone for so long.
    pub(super) fn rest(&self, wait: Duration) {
        let until = self.provider.now() + wait;
        let mut rests_until = lock(&self.rests_until);
        *rests_until = until.max(*rests_until);
    }

    /// An answer that had begun failed.
    pub(super) fn failed_later(&self, failure: &Failure) {
        let now = self.provider.now();
        let mut breaker = lock(&self.breaker);
        if let Admission::Admitted(ticket) = breaker.admit(now) {
            breaker.record(ticket, failure.outcome(), now);
        }
    }

    pub(super) fn breaker_state(&self) -> BreakerState {
        lock(&self.breaker).state(self.provider.now())
    }
}

/// An attempt that the breaker has let pass. One that is dropped without an outcome says nothing
/// about the provider.
pub(super) struct Admitted<'a> {
    model: &'a ProviderModel,
    ticket: Option<Ticket>,
}

impl Admitted<'_> {
    pub(super) fn record(mut self, outcome: Outcome) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            let now = self.model.provider.now();
            lock(&self.model.breaker).record(ticket, outcome, now);
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.tell(Outcome::Neutral);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
