//! How long to leave a Redis alone that cannot be reached.

use std::time::Duration;

use farthing_core::limits::{REDIS_BACKOFF_MS_MAX, REDIS_BACKOFF_MS_MIN};

/// The pause after so many attempts in vain: twice as long each time, and of that a share between a
/// half and all, so that backends that lost it together do not come back together. `drawn` is a
/// random number.
pub(super) fn pause(attempts: u32, drawn: u64) -> Duration {
    let doubled = REDIS_BACKOFF_MS_MIN.saturating_mul(1 << attempts.min(20));
    let longest = doubled.min(REDIS_BACKOFF_MS_MAX);
    Duration::from_millis(longest / 2 + drawn % (longest / 2 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_its_bound_and_differs_between_backends() {
        let ms = |attempts, drawn| pause(attempts, drawn).as_millis() as u64;
        for attempts in 0..40 {
            let longest = (REDIS_BACKOFF_MS_MIN << attempts.min(20)).min(REDIS_BACKOFF_MS_MAX);
            for drawn in [0, 1, 77, u64::MAX] {
                let pause = ms(attempts, drawn);
                assert!(
                    (longest / 2..=longest).contains(&pause),
                    "{attempts}: {pause}"
                );
            }
        }
        assert_ne!(ms(6, 3), ms(6, 4));
    }
}
