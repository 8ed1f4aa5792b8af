//! Whether a provider is asked once more, and when. Waits are drawn evenly from zero to a bound
//! that doubles (full jitter: Brooker, "Exponential Backoff And Jitter", AWS 2015), so that clients
//! who failed together do not come back together. A budget bounds retries to a share of requests
//! (as Finagle and linkerd do), so that a provider which is down gets little more than the usual
//! load.

use std::time::Duration;

use farthing_core::limits::RETRY_BURST;

use super::failure::Failure;
use crate::engine::random::SplitMix64;

/// How often and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first one.
    pub attempts: u32,
    /// Bound of the first wait.
    pub base: Duration,
    /// Bound of every wait.
    pub max: Duration,
    /// Longest time that a provider may ask us to wait and still be asked again.
    pub wait_max: Duration,
}

/// What a failed attempt leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The same provider is asked again after this.
    Again(Duration),
    /// The next in order is asked, or the failure told if there is none.
    On,
}

/// Is there another model to ask?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    Ready,
    None,
}

/// What one attempt has led to.
#[derive(Debug, Clone, Copy)]
pub struct Attempted<'a> {
    pub failure: &'a Failure,
    /// How many attempts failed before this one.
    pub before: u32,
    pub fallback: Fallback,
    /// Draws the wait.
    pub seed: u64,
}

// === impl RetryPolicy ===

impl RetryPolicy {
    /// Decides what comes after a failed attempt, and takes a retry from the budget if it is one.
    pub fn step(&self, attempted: Attempted<'_>, budget: &mut RetryBudget, now: Duration) -> Step {
        let failure = attempted.failure;
        if !failure.passes() || attempted.before >= self.attempts {
            return Step::On;
        }
        let jittered = self.backoff(attempted.before, attempted.seed);
        let wait = match failure.retry_after {
            None => jittered,
            // Who waits elsewhere for less than that is better served there.
            Some(asked) if asked > self.max && attempted.fallback == Fallback::Ready => {
                return Step::On;
            }
            Some(asked) if asked > self.wait_max => return Step::On,
            // Not all at the very moment.
            Some(asked) => asked + jittered / 4,
        };
        match budget.withdraw(now) {
            Withdrawal::Granted => Step::Again(wait),
            Withdrawal::Denied => Step::On,
        }
    }

    /// The wait after so many failures before this one.
    fn backoff(&self, before: u32, seed: u64) -> Duration {
        let doubled = self.base.saturating_mul(1 << before.min(16)).min(self.max);
        // 53 bits are what a double holds.
        let share = (SplitMix64::new(seed).next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        doubled.mul_f64(share)
    }
}

/// What one budget gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetPolicy {
    /// Retries for a hundred requests.
    pub percent: u32,
    /// Retries a second beside that, for providers with few requests.
    pub per_second: u32,
}

/// Is there a retry left?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawal {
    Granted,
    Denied,
}

/// Retries that may be made, in hundredths of one. Time is what has passed since a moment of its
/// owner's choice.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    policy: BudgetPolicy,
    balance: u64,
    filled_at: Duration,
}

const HUNDREDTHS: u64 = 100;
const BALANCE_MAX: u64 = RETRY_BURST as u64 * HUNDREDTHS;

// === impl RetryBudget ===

impl RetryBudget {
    /// A full one.
    pub fn new(policy: BudgetPolicy) -> RetryBudget {
        RetryBudget {
            policy,
            balance: BALANCE_MAX,
            filled_at: Duration::ZERO,
        }
    }

    /// A request comes in, which earns a share of a retry.
    pub fn deposit(&mut self) {
        self.balance = (self.balance + u64::from(self.policy.percent)).min(BALANCE_MAX);
    }

    /// Takes one retry.
    pub fn withdraw(&mut self, now: Duration) -> Withdrawal {
        let passed = now.saturating_sub(self.filled_at);
        let earned = passed.as_millis() * u128::from(self.policy.per_second) / 10;
        if earned > 0 {
            self.filled_at = now;
            let earned = u64::try_from(earned).unwrap_or(BALANCE_MAX);
            self.balance = self.balance.saturating_add(earned).min(BALANCE_MAX);
        }
        if self.balance < HUNDREDTHS {
            return Withdrawal::Denied;
        }
        self.balance -= HUNDREDTHS;
        Withdrawal::Granted
    }
}
