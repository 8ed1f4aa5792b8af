//! Start-up self-check: do body callbacks arrive while request headers are held? They do only if
//! Envoy's plugin configuration says `allow_on_headers_stop_iteration: true` (Envoy 1.35 and later;
//! Istio's WasmPlugin cannot say it). Without it every request with a body would hang.
//!
//! A body callback on a held stream proves that they do. A held stream without one proves nothing,
//! because its client may be slow; so it is let go, and if its body then arrives at once, it had
//! been waiting in the host all along. A client can chance to send its body in just that moment, so
//! one such arrival is no verdict, and the verdict is no end: a degraded worker holds one request
//! now and then to look again.

use super::effect::{Effect, Level};
use crate::limits::{
    SELF_CHECK_PROBE_MS, SELF_CHECK_PROOFS, SELF_CHECK_REPROBE_S, SELF_CHECK_TIMEOUT_MS,
};
use crate::metrics::Metric;
use crate::store::{self, SharedStore};

const KEY: &str = "farthing/1/self-check";
const MAGIC: [u8; 4] = *b"FSC1";
const NS_PER_MS: u64 = 1_000_000;
const NS_PER_S: u64 = 1_000_000_000;

/// What is known about the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SelfCheck {
    /// Not known; `proofs` bodies arrived at once after their streams were let go.
    Unverified { proofs: u32 },
    /// Bodies arrive while headers are held.
    Verified,
    /// They do not. Nothing is held but a probe now and then, the last one at `probed_ns`, so
    /// nothing is decided: traffic passes through.
    Degraded { probed_ns: u64 },
}

impl Default for SelfCheck {
    fn default() -> Self {
        SelfCheck::Unverified { proofs: 0 }
    }
}

impl SelfCheck {
    /// A body callback came while the headers were held.
    pub(super) fn body_while_held(&mut self, store: &dyn SharedStore) -> Vec<Effect> {
        if *self == SelfCheck::Verified {
            return Vec::new();
        }
        // The other workers need not find out for themselves. A lost write costs nothing.
        let _ = store.set(KEY, &store::seal(MAGIC, &[]), None);
        self.verify()
    }

    /// Did another worker verify it meanwhile?
    pub(super) fn refresh(&mut self, store: &dyn SharedStore) -> Vec<Effect> {
        let verified = *self != SelfCheck::Verified
            && store
                .get(KEY)
                .is_some_and(|(sealed, _)| store::open(MAGIC, &sealed).is_some());
        if verified { self.verify() } else { Vec::new() }
    }

    /// May a request whose body is still to come be held? While degraded only one in
    /// `SELF_CHECK_REPROBE_S` may: the probe that can prove the verdict wrong.
    pub(super) fn may_hold(&mut self, now_unix_ns: u64) -> bool {
        let SelfCheck::Degraded { probed_ns } = self else {
            return true;
        };
        let due = now_unix_ns.saturating_sub(*probed_ns) >= SELF_CHECK_REPROBE_S * NS_PER_S;
        if due {
            *probed_ns = now_unix_ns;
        }
        due
    }

    pub(super) fn is_degraded(self) -> bool {
        matches!(self, SelfCheck::Degraded { .. })
    }

    /// Must a stream held since then be let go?
    pub(super) fn must_release(self, held_since_ns: u64, now_unix_ns: u64) -> bool {
        let held_ns = now_unix_ns.saturating_sub(held_since_ns);
        self != SelfCheck::Verified && held_ns >= SELF_CHECK_TIMEOUT_MS * NS_PER_MS
    }

    /// The body of a stream that was let go has arrived. If it came at once, it had waited in the
    /// host; enough of those degrade the worker.
    pub(super) fn body_after_release(
        &mut self,
        store: &dyn SharedStore,
        released_ns: u64,
        now_unix_ns: u64,
    ) -> Vec<Effect> {
        let effects = self.refresh(store);
        let waited_ns = now_unix_ns.saturating_sub(released_ns);
        let SelfCheck::Unverified { proofs } = self else {
            return effects;
        };
        if waited_ns > SELF_CHECK_PROBE_MS * NS_PER_MS {
            return effects;
        }
        *proofs = proofs.saturating_add(1);
        if *proofs < SELF_CHECK_PROOFS {
            return effects;
        }
        *self = SelfCheck::Degraded {
            probed_ns: now_unix_ns,
        };
        alarm()
    }

    /// Takes a degraded worker back to work.
    fn verify(&mut self) -> Vec<Effect> {
        match std::mem::replace(self, SelfCheck::Verified) {
            SelfCheck::Degraded { .. } => all_clear(),
            _ => Vec::new(),
        }
    }
}

/// What a worker says when it degrades.
fn alarm() -> Vec<Effect> {
    let message = "self-check failed: request bodies do not arrive while headers are held. Set \
        allow_on_headers_stop_iteration: true in the wasm plugin configuration (Envoy 1.35 or \
        later; on Istio by an EnvoyFilter). Until then all traffic passes through: no cache, no \
        budgets, no routing";
    said(Level::Error, message, 1)
}

/// What it says when that turns out to be wrong.
fn all_clear() -> Vec<Effect> {
    let message = "self-check passed after it had failed: requests are judged again";
    said(Level::Info, message, 0)
}

fn said(level: Level, message: &str, gauge: u64) -> Vec<Effect> {
    vec![
        Effect::Log {
            level,
            message: message.to_owned(),
        },
        Effect::Count {
            metric: Metric::SelfCheckFailed,
            amount: gauge,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[test]
    fn a_foreign_value_under_our_key_is_not_believed() {
        let store = MemoryStore::new();
        assert_eq!(store.set(KEY, b"FSC1 something else", None), Ok(()));
        let mut check = SelfCheck::default();
        assert_eq!(check.refresh(&store), Vec::new());
        assert_eq!(check, SelfCheck::default());
    }

    #[test]
    fn a_clock_that_goes_back_neither_releases_nor_proves_otherwise() {
        let store = MemoryStore::new();
        let mut check = SelfCheck::default();
        assert!(!check.must_release(u64::MAX, 0));
        assert_eq!(check.body_after_release(&store, u64::MAX, 0), Vec::new());
        assert_eq!(check, SelfCheck::Unverified { proofs: 1 });
    }
}
