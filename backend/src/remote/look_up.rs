//! Look-ups of one store in Redis, for which requests wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::redis::{Pipeline, Value};
use farthing_core::limits::{
    REDIS_BREAKER_LOOK_UPS_MIN, REDIS_BREAKER_OPEN_MS, REDIS_BREAKER_OPEN_MS_MAX,
    REDIS_BREAKER_WINDOW_MS,
};

use super::{Failure, Link};
use crate::provider::breaker::{Admission, Breaker, BreakerPolicy, Outcome};

/// Half of them, in a hundred.
const FAILURES_PERCENT: u32 = 50;

/// The look-ups of one store. Where most come too late, though Redis answers others, it is left
/// alone for a while: each of them would cost its request the whole deadline.
pub struct LookUps {
    link: Arc<Link>,
    breaker: Mutex<Breaker>,
    began: Instant,
}

impl LookUps {
    pub fn new(link: Arc<Link>) -> LookUps {
        let policy = BreakerPolicy {
            window: Duration::from_millis(REDIS_BREAKER_WINDOW_MS),
            requests_min: REDIS_BREAKER_LOOK_UPS_MIN,
            failures_percent: FAILURES_PERCENT,
            open: Duration::from_millis(REDIS_BREAKER_OPEN_MS),
            open_max: Duration::from_millis(REDIS_BREAKER_OPEN_MS_MAX),
        };
        LookUps {
            link,
            breaker: Mutex::new(Breaker::new(policy)),
            began: Instant::now(),
        }
    }

    /// Asks, and waits for the deadline at most.
    ///
    /// # Errors
    /// There is no answer in time, or a refusal.
    pub fn ask(&self, commands: Pipeline) -> Result<Vec<Value>, Failure> {
        if !self.link.is_up() {
            return Err(Failure::Away);
        }
        let admission = self.breaker().admit(self.began.elapsed());
        let Admission::Admitted(ticket) = admission else {
            return Err(Failure::Away);
        };
        let answer = self.link.ask(commands, self.link.timeout());
        let outcome = match &answer {
            Ok(_) | Err(Failure::Refused(_) | Failure::NoSuchCommand) => Outcome::Success,
            Err(Failure::Late) => Outcome::Failure,
            // It is the link that sees to that.
            Err(Failure::Away) => Outcome::Neutral,
        };
        self.breaker().record(ticket, outcome, self.began.elapsed());
        answer
    }

    /// A breaker is changed in one call, so whoever panicked left it whole.
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
