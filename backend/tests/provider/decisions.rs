//! Retries, their budget and the circuit breaker, without a clock.

use std::time::Duration;

use farthing_backend::provider::breaker::{
    Admission, Breaker, BreakerPolicy, BreakerState, Outcome, Ticket,
};
use farthing_backend::provider::failure::{Failure, FailureKind};
use farthing_backend::provider::retry::{
    Attempted, BudgetPolicy, Fallback, RetryBudget, RetryPolicy, Step, Withdrawal,
};
use farthing_core::limits::RETRY_BURST;
use farthing_core::wire::provider::{Fault, FaultKind};
use proptest::prelude::*;

const POLICY: RetryPolicy = RetryPolicy {
    attempts: 3,
    base: Duration::from_millis(100),
    max: Duration::from_millis(1_000),
    wait_max: Duration::from_millis(5_000),
};

fn full_budget() -> RetryBudget {
    RetryBudget::new(BudgetPolicy {
        percent: 20,
        per_second: 0,
    })
}

fn said(kind: FaultKind) -> Failure {
    Fault::of_kind(kind).into()
}

fn asking(kind: FaultKind, ms: u64) -> Failure {
    Failure {
        retry_after: Some(Duration::from_millis(ms)),
        ..said(kind)
    }
}

fn step(failure: &Failure, before: u32, fallback: Fallback, seed: u64) -> Step {
    let attempted = Attempted {
        failure,
        before,
        fallback,
        seed,
    };
    POLICY.step(attempted, &mut full_budget(), Duration::ZERO)
}

#[test]
fn what_passes_by_itself_is_tried_again() {
    let again = |failure: &Failure| step(failure, 0, Fallback::None, 7) != Step::On;
    for (kind, expected) in [
        (FaultKind::Request, false),
        (FaultKind::ContextLength, false),
        (FaultKind::Credentials, false),
        (FaultKind::UnknownModel, false),
        (FaultKind::Quota, false),
        (FaultKind::Malformed, false),
        (FaultKind::RateLimited, true),
        (FaultKind::Overloaded, true),
        (FaultKind::Failed, true),
    ] {
        assert_eq!(again(&said(kind)), expected, "{kind:?}");
    }
    for (kind, expected) in [
        (FailureKind::Connect, true),
        (FailureKind::Cut, true),
        (FailureKind::TimedOut, false),
        (FailureKind::TooLarge, false),
        (FailureKind::BreakerOpen, false),
        (FailureKind::Resting, false),
    ] {
        assert_eq!(again(&Failure::new(kind.clone())), expected, "{kind:?}");
    }
}

#[test]
fn what_the_provider_asks_is_honoured_within_bounds() {
    let wait = |ms, fallback| step(&asking(FaultKind::RateLimited, ms), 0, fallback, 7);
    let at_least = |step: Step, ms| {
        let Step::Again(wait) = step else {
            panic!("{step:?} after {ms}")
        };
        assert!(wait >= Duration::from_millis(ms), "{wait:?} for {ms}");
        assert!(wait <= Duration::from_millis(ms + 25), "{wait:?} for {ms}");
    };
    at_least(wait(0, Fallback::None), 0);
    at_least(wait(900, Fallback::Ready), 900);
    at_least(wait(4_000, Fallback::None), 4_000);
    // Another one is at hand, so nobody waits for long.
    assert_eq!(wait(1_001, Fallback::Ready), Step::On);
    assert_eq!(wait(5_001, Fallback::None), Step::On);
}

proptest! {
    #[test]
    fn waits_stay_within_a_bound_that_doubles(seed in any::<u64>(), before in 0..3u32) {
        let Step::Again(wait) = step(&said(FaultKind::Failed), before, Fallback::None, seed) else {
            return Err(TestCaseError::fail("it passes"));
        };
        prop_assert!(wait <= POLICY.base * (1 << before));
        prop_assert_eq!(step(&said(FaultKind::Failed), 3, Fallback::None, seed), Step::On);
    }

    /// However requests and failures come, retries are a share of requests, and a few a second.
    #[test]
    fn retries_never_exceed_their_share(
        percent in 0..=100u32,
        per_second in 0..4u32,
        moves in prop::collection::vec((0..200u64, any::<bool>()), 1..400),
    ) {
        let mut budget = RetryBudget::new(BudgetPolicy { percent, per_second });
        let (mut now, mut requests, mut retries) = (Duration::ZERO, 0u64, 0u64);
        for (ms, is_request) in moves {
            now += Duration::from_millis(ms);
            if is_request {
                budget.deposit();
                requests += 1;
            }
            retries += u64::from(budget.withdraw(now) == Withdrawal::Granted);
            let earned = requests * u64::from(percent) * 10;
            let passed = now.as_millis() as u64 * u64::from(per_second);
            let allowed = u64::from(RETRY_BURST) * 1_000 + earned + passed;
            prop_assert!(retries * 1_000 <= allowed, "{} after {} in {:?}", retries, requests, now);
        }
    }

    /// What is asked of a breaker in any order: it never lets two probes pass at once, and it can
    /// always be closed again.
    #[test]
    fn a_breaker_never_sticks(moves in prop::collection::vec((0..3_000u64, 0..4u8), 1..300)) {
        let mut breaker = Breaker::new(BREAKER);
        let mut now = Duration::ZERO;
        let mut open: Vec<Ticket> = Vec::new();
        for (ms, what) in moves {
            now += Duration::from_millis(ms);
            let outcome = match what {
                0 => {
                    if let Admission::Admitted(ticket) = breaker.admit(now) {
                        open.push(ticket);
                    }
                    continue;
                }
                1 => Outcome::Success,
                2 => Outcome::Failure,
                _ => Outcome::Neutral,
            };
            if let Some(ticket) = open.pop() {
                breaker.record(ticket, outcome, now);
            }
        }
        now += BREAKER.open_max * 2;
        let Admission::Admitted(ticket) = breaker.admit(now) else {
            return Err(TestCaseError::fail("long enough has passed"));
        };
        if breaker.state(now) == BreakerState::HalfOpen {
            prop_assert!(matches!(breaker.admit(now), Admission::Refused(_)));
        }
        breaker.record(ticket, Outcome::Success, now);
        prop_assert_eq!(breaker.state(now), BreakerState::Closed);
    }
}

const BREAKER: BreakerPolicy = BreakerPolicy {
    window: Duration::from_secs(10),
    requests_min: 4,
    failures_percent: 50,
    open: Duration::from_secs(1),
    open_max: Duration::from_secs(3),
};

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[track_caller]
fn admitted(breaker: &mut Breaker, now: f64) -> Ticket {
    match breaker.admit(seconds(now)) {
        Admission::Admitted(ticket) => ticket,
        Admission::Refused(wait) => panic!("refused at {now} for {wait:?}"),
    }
}

/// Lets requests pass and end, one after the other.
#[track_caller]
fn play(breaker: &mut Breaker, now: f64, outcomes: &[Outcome]) {
    for outcome in outcomes {
        let ticket = admitted(breaker, now);
        breaker.record(ticket, *outcome, seconds(now));
    }
}

use Outcome::{Failure as F, Neutral as N, Success as S};

#[test]
fn it_opens_at_its_share_and_not_before() {
    let mut breaker = Breaker::new(BREAKER);
    play(&mut breaker, 0.0, &[F, F, F]);
    assert_eq!(breaker.state(seconds(0.0)), BreakerState::Closed, "too few");
    // Those are too old by now; neutral ones never count.
    play(&mut breaker, 10.0, &[S, S, S, F, N, F, N]);
    assert_eq!(breaker.state(seconds(10.0)), BreakerState::Closed, "2 of 5");
    play(&mut breaker, 10.5, &[F]);
    assert_eq!(breaker.state(seconds(10.5)), BreakerState::Open, "3 of 6");
    assert_eq!(
        breaker.admit(seconds(10.75)),
        Admission::Refused(seconds(0.75))
    );
}

#[test]
fn half_open_one_request_decides() {
    let mut breaker = Breaker::new(BREAKER);
    let old = admitted(&mut breaker, 0.0);
    play(&mut breaker, 0.0, &[F, F, F, F]);
    let probe = admitted(&mut breaker, 1.0);
    assert!(matches!(breaker.admit(seconds(1.1)), Admission::Refused(_)));
    // One from before says nothing now.
    breaker.record(old, S, seconds(1.2));
    assert_eq!(breaker.state(seconds(1.2)), BreakerState::HalfOpen);
    breaker.record(probe, F, seconds(1.5));
    assert_eq!(
        breaker.state(seconds(3.4)),
        BreakerState::Open,
        "twice as long"
    );
    // Whose client leaves gives the place back.
    let probe = admitted(&mut breaker, 3.5);
    breaker.record(probe, N, seconds(3.6));
    let probe = admitted(&mut breaker, 3.7);
    breaker.record(probe, F, seconds(3.8));
    assert_eq!(
        breaker.state(seconds(6.7)),
        BreakerState::Open,
        "at most three"
    );
    let lost = admitted(&mut breaker, 6.8);
    let probe = admitted(&mut breaker, 9.9);
    breaker.record(lost, N, seconds(9.9));
    let probe = match breaker.admit(seconds(9.95)) {
        Admission::Admitted(probe) => probe,
        Admission::Refused(_) => probe,
    };
    breaker.record(probe, S, seconds(10.0));
    assert_eq!(breaker.state(seconds(10.0)), BreakerState::Closed);
    play(&mut breaker, 10.0, &[F, F, F]);
    assert_eq!(
        breaker.state(seconds(10.0)),
        BreakerState::Closed,
        "it starts anew"
    );
}
