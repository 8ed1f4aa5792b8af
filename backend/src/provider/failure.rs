//! Why a provider brought no answer, and what that leads to.

use std::time::Duration;

use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::wire::provider::{Fault, FaultKind};

use super::breaker::Outcome;

/// One failed attempt, or one that was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    /// How long the provider asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureKind {
    /// The provider said so.
    Fault(Fault),
    /// No connection came about: no name, no route, no server, no trusted certificate.
    Connect,
    /// It had the request and was silent for too long.
    TimedOut,
    /// The connection broke before the answer was whole.
    Cut,
    /// The answer is larger than any that we take.
    TooLarge,
    /// It has failed too often lately, so it was not asked.
    BreakerOpen,
    /// It has asked to be left alone, so it was not asked.
    Resting,
}

// === impl Failure ===

impl Failure {
    /// A failure of which the provider said nothing.
    pub fn new(kind: FailureKind) -> Failure {
        Failure {
            kind,
            retry_after: None,
        }
    }

    /// May the same provider answer the same request a moment later, at no cost for the attempt
    /// that failed? One that timed out may still be generating, and another would be paid twice.
    pub fn passes(&self) -> bool {
        match &self.kind {
            FailureKind::Fault(fault) => fault.kind.is_passing(),
            FailureKind::Connect | FailureKind::Cut => true,
            FailureKind::TimedOut
            | FailureKind::TooLarge
            | FailureKind::BreakerOpen
            | FailureKind::Resting => false,
        }
    }

    /// Is the request at fault, so that no other provider need be asked?
    pub fn is_of_request(&self) -> bool {
        matches!(&self.kind, FailureKind::Fault(fault) if fault.kind.is_of_request())
    }

    /// What it says about the provider's health. A refused key or an unknown model is a mistake of
    /// the configuration, and a limited rate is not a failure: it has a wait of its own.
    pub fn outcome(&self) -> Outcome {
        match &self.kind {
            FailureKind::Fault(fault) => match fault.kind {
                FaultKind::Overloaded | FaultKind::Failed | FaultKind::Malformed => {
                    Outcome::Failure
                }
                FaultKind::Request
                | FaultKind::ContextLength
                | FaultKind::Credentials
                | FaultKind::UnknownModel
                | FaultKind::Quota
                | FaultKind::RateLimited => Outcome::Neutral,
            },
            FailureKind::Connect | FailureKind::TimedOut | FailureKind::Cut => Outcome::Failure,
            FailureKind::TooLarge | FailureKind::BreakerOpen | FailureKind::Resting => {
                Outcome::Neutral
            }
        }
    }

    /// Its name in metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match &self.kind {
            FailureKind::Fault(fault) => fault.kind.as_str(),
            FailureKind::Connect => "no_connection",
            FailureKind::TimedOut => "timed_out",
            FailureKind::Cut => "cut",
            FailureKind::TooLarge => "too_large",
            FailureKind::BreakerOpen => "breaker_open",
            FailureKind::Resting => "resting",
        }
    }

    /// What our client is told.
    pub fn error(&self, provider: &str) -> ApiError {
        let (kind, says) = match &self.kind {
            FailureKind::Fault(fault) => {
                let mut fault = fault.clone();
                let asked = self.retry_after.map(|wait| wait.as_millis());
                let asked = asked.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX));
                fault.retry_after_ms = asked.or(fault.retry_after_ms);
                return fault.error(provider);
            }
            FailureKind::Connect => (ErrorKind::ProviderFailed, "cannot be reached"),
            FailureKind::TimedOut => (ErrorKind::ProviderTimeout, "did not answer in time"),
            FailureKind::Cut => (ErrorKind::ProviderFailed, "broke off"),
            FailureKind::TooLarge => (ErrorKind::ProviderFailed, "sent more than we take"),
            FailureKind::BreakerOpen => (
                ErrorKind::Unavailable,
                "has failed too often lately and is left alone",
            ),
            FailureKind::Resting => (ErrorKind::RateLimited, "limits our rate"),
        };
        let error = ApiError::new(kind, format!("the provider {provider} {says}"));
        match self.retry_after {
            Some(wait) => error.retry_after_s(whole_seconds(wait)),
            None => error,
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure {
            retry_after: fault.retry_after_ms.map(Duration::from_millis),
            kind: FailureKind::Fault(fault),
        }
    }
}

/// Rounded up: who waits a second too long is served, who comes a moment early is not.
fn whole_seconds(wait: Duration) -> u32 {
    let seconds = wait.as_millis().div_ceil(1_000).max(1);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
