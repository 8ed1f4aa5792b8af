//! Start-up self-check: do body callbacks arrive while request headers are held? They do only if
//! Envoy's plugin configuration says `allow_on_headers_stop_iteration: true` (Envoy 1.35 and later;
//! Istio's WasmPlugin cannot say it). Without it every request with a body would hang.
//!
//! A body callback on a held stream proves that they do. A held stream without one proves nothing,
//! because its client may be slow; so it is let go, and if its body then arrives at once, it had
//! been waiting in the host all along.

use super::effect::{Effect, Level};
use crate::limits::{SELF_CHECK_PROBE_MS, SELF_CHECK_TIMEOUT_MS};
use crate::metrics::Metric;
use crate::store::{self, SharedStore};

const KEY: &str = "farthing/1/self-check";
const MAGIC: [u8; 4] = *b"FSC1";
const NS_PER_MS: u64 = 1_000_000;

/// What is known about the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SelfCheck {
    #[default]
    Unverified,
    /// Bodies arrive while headers are held.
    Verified,
    /// They do not. Nothing is held any more, so nothing is decided: all traffic passes through.
    Degraded,
}

impl SelfCheck {
    /// A body callback came while the headers were held.
    pub(super) fn body_while_held(&mut self, store: &dyn SharedStore) {
        if *self == SelfCheck::Unverified {
            *self = SelfCheck::Verified;
            // The other workers need not find out for themselves. A lost write costs nothing.
            let _ = store.set(KEY, &store::seal(MAGIC, &[]), None);
        }
    }

    /// Did another worker verify it meanwhile?
    pub(super) fn refresh(&mut self, store: &dyn SharedStore) {
        if *self == SelfCheck::Unverified
            && store
                .get(KEY)
                .is_some_and(|(sealed, _)| store::open(MAGIC, &sealed).is_some())
        {
            *self = SelfCheck::Verified;
        }
    }

    /// Must a stream held since then be let go?
    pub(super) fn must_release(self, held_since_ns: u64, now_unix_ns: u64) -> bool {
        self == SelfCheck::Unverified
            && elapsed_ms(held_since_ns, now_unix_ns) >= SELF_CHECK_TIMEOUT_MS
    }

    /// The body of a stream that was let go has arrived. True if that settles it: bodies wait in
    /// the host while headers are held.
    pub(super) fn body_after_release(&mut self, released_ns: u64, now_unix_ns: u64) -> bool {
        let at_once = elapsed_ms(released_ns, now_unix_ns) <= SELF_CHECK_PROBE_MS;
        let proven = *self == SelfCheck::Unverified && at_once;
        if proven {
            *self = SelfCheck::Degraded;
        }
        proven
    }
}

/// What a worker says once, when it degrades.
pub(super) fn alarm() -> Vec<Effect> {
    let message = "self-check failed: request bodies do not arrive while headers are held. Set \
        allow_on_headers_stop_iteration: true in the wasm plugin configuration (Envoy 1.35 or \
        later; on Istio by an EnvoyFilter). Until then all traffic passes through: no cache, no \
        budgets, no routing";
    vec![
        Effect::Log {
            level: Level::Error,
            message: message.to_owned(),
        },
        Effect::Count {
            metric: Metric::SelfCheckFailed,
            amount: 1,
        },
    ]
}

fn elapsed_ms(since_ns: u64, now_ns: u64) -> u64 {
    now_ns.saturating_sub(since_ns) / NS_PER_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    const MS: u64 = NS_PER_MS;

    #[test]
    fn a_body_while_held_verifies_every_worker() {
        let store = MemoryStore::new();
        let (mut first, mut second) = (SelfCheck::default(), SelfCheck::default());
        first.body_while_held(&store);
        assert_eq!(first, SelfCheck::Verified);
        assert_eq!(second, SelfCheck::Unverified);
        second.refresh(&store);
        assert_eq!(second, SelfCheck::Verified);
        assert!(!second.must_release(0, u64::MAX));
    }

    #[test]
    fn a_body_that_had_been_waiting_degrades() {
        let mut check = SelfCheck::default();
        assert!(!check.must_release(10 * MS, 509 * MS));
        assert!(check.must_release(10 * MS, 510 * MS));
        assert!(check.body_after_release(510 * MS, 511 * MS));
        assert_eq!(check, SelfCheck::Degraded);
    }

    #[test]
    fn a_slow_client_proves_nothing() {
        let mut check = SelfCheck::default();
        assert!(!check.body_after_release(510 * MS, 600 * MS));
        assert_eq!(check, SelfCheck::Unverified);
    }

    #[test]
    fn what_is_verified_stays_so() {
        let store = MemoryStore::new();
        let mut check = SelfCheck::default();
        check.body_while_held(&store);
        assert!(!check.body_after_release(0, 0));
        assert_eq!(check, SelfCheck::Verified);
    }

    #[test]
    fn a_foreign_value_under_our_key_is_not_believed() {
        let store = MemoryStore::new();
        assert_eq!(store.set(KEY, b"FSC1 something else", None), Ok(()));
        let mut check = SelfCheck::default();
        check.refresh(&store);
        assert_eq!(check, SelfCheck::Unverified);
    }
}
