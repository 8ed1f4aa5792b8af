//! A circuit breaker: a provider that fails is left alone for a while, then tried with one request.
//!
//! Closed, it counts outcomes of the last window; with enough of them and too large a share of
//! failures it opens. Open, it refuses at once. After its time it is half open: one request at a
//! time passes, and decides. Each failure there doubles the time until the next.

use std::collections::VecDeque;
use std::time::Duration;

use farthing_core::limits::BREAKER_OUTCOMES_MAX;

/// When it opens and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Outcomes that count are younger than this.
    pub window: Duration,
    /// So many of them are needed before it may open.
    pub requests_min: u32,
    /// And so many in a hundred have failed.
    pub failures_percent: u32,
    /// How long it stays open at first.
    pub open: Duration,
    /// How long at most.
    pub open_max: Duration,
}

/// How a request ended, as far as the provider's health goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    /// It says nothing about the provider: the client left, or the request itself was at fault.
    Neutral,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    HalfOpen,
    Open,
}

/// May a request pass?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may, and is to be [recorded](Breaker::record) under this ticket.
    Admitted(Ticket),
    /// Not before this much time has passed.
    Refused(Duration),
}

/// One admitted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The breaker's life when it was admitted. What began before it opened, or closed again, does
    /// not decide about it now.
    generation: u64,
    is_probe: bool,
}

/// One breaker. Time is what has passed since a moment of its owner's choice.
#[derive(Debug, Clone)]
pub struct Breaker {
    policy: BreakerPolicy,
    generation: u64,
    phase: Phase,
    /// When a request ended, and whether it failed.
    outcomes: VecDeque<(Duration, bool)>,
    failures: u32,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open {
        since: Duration,
        lasts: Duration,
    },
    HalfOpen {
        /// How long it was open before.
        lasted: Duration,
        /// When the request that decides began, if it has.
        probing_since: Option<Duration>,
    },
}

// === impl Breaker ===

impl Breaker {
    /// A closed one.
    pub fn new(policy: BreakerPolicy) -> Breaker {
        Breaker {
            policy,
            generation: 0,
            phase: Phase::Closed,
            outcomes: VecDeque::new(),
            failures: 0,
        }
    }

    /// Asks whether a request may pass.
    pub fn admit(&mut self, now: Duration) -> Admission {
        if let Phase::Open { since, lasts } = self.phase {
            let open_for = now.saturating_sub(since);
            if open_for < lasts {
                return Admission::Refused(lasts - open_for);
            }
            self.enter(Phase::HalfOpen {
                lasted: lasts,
                probing_since: None,
            });
        }
        let mut is_probe = false;
        if let Phase::HalfOpen {
            lasted,
            probing_since,
        } = &mut self.phase
        {
            // One that never ends does not keep the breaker from finding out.
            let lost = |since: Duration| now.saturating_sub(since) >= *lasted;
            if probing_since.is_some_and(|since| !lost(since)) {
                return Admission::Refused(self.policy.open);
            }
            *probing_since = Some(now);
            is_probe = true;
        }
        Admission::Admitted(Ticket {
            generation: self.generation,
            is_probe,
        })
    }

    /// Says how an admitted request ended.
    pub fn record(&mut self, ticket: Ticket, outcome: Outcome, now: Duration) {
        if ticket.generation != self.generation {
            return;
        }
        match (self.phase, outcome) {
            (Phase::Closed, Outcome::Neutral) | (Phase::Open { .. }, _) => {}
            (Phase::Closed, outcome) => self.count(outcome == Outcome::Failure, now),
            (Phase::HalfOpen { .. }, _) if !ticket.is_probe => {}
            (Phase::HalfOpen { .. }, Outcome::Success) => self.enter(Phase::Closed),
            (Phase::HalfOpen { lasted, .. }, Outcome::Failure) => {
                let lasts = lasted.saturating_mul(2).min(self.policy.open_max);
                self.enter(Phase::Open { since: now, lasts });
            }
            (Phase::HalfOpen { lasted, .. }, Outcome::Neutral) => {
                self.phase = Phase::HalfOpen {
                    lasted,
                    probing_since: None,
                };
            }
        }
    }

    /// Where it stands.
    pub fn state(&self, now: Duration) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { since, lasts } if now.saturating_sub(since) < lasts => BreakerState::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    fn count(&mut self, failed: bool, now: Duration) {
        while let Some((at, failed)) = self.outcomes.front().copied() {
            let is_old = now.saturating_sub(at) >= self.policy.window;
            if !is_old && self.outcomes.len() < BREAKER_OUTCOMES_MAX {
                break;
            }
            self.outcomes.pop_front();
            self.failures -= u32::from(failed);
        }
        self.outcomes.push_back((now, failed));
        self.failures += u32::from(failed);
        let total = self.outcomes.len() as u64;
        let is_enough = total >= u64::from(self.policy.requests_min);
        let share = u64::from(self.failures) * 100;
        if failed && is_enough && share >= u64::from(self.policy.failures_percent) * total {
            self.enter(Phase::Open {
                since: now,
                lasts: self.policy.open,
            });
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
        self.outcomes.clear();
        self.failures = 0;
    }
}
