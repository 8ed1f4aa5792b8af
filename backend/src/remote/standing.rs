//! How it stands with the connection: what those who ask see of it, and what is counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// May it be asked?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Away,
    Up,
    /// Somebody waited in vain. It is asked nothing until it has answered a ping.
    Suspect,
}

/// Shared by the link's thread and all who ask.
#[derive(Debug, Default)]
pub(super) struct Standing {
    now: Mutex<Now>,
    /// Wakes the thread when it is to ping.
    pub(super) doubted: Notify,
    connections: AtomicU64,
    late: AtomicU64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Now {
    phase: Phase,
    /// Which connection it is, from 1.
    connection: u64,
}

/// One number for `/metrics`: name, type, help, value.
pub type LinkRow = (&'static str, &'static str, &'static str, u64);

// === impl Standing ===

impl Standing {
    pub(super) fn is_up(&self) -> bool {
        self.now().phase == Phase::Up
    }

    /// The number of the connection that is there.
    pub(super) fn connection(&self) -> Option<u64> {
        let now = *self.now();
        (now.phase != Phase::Away).then_some(now.connection)
    }

    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
        let mut now = self.now();
        now.phase = Phase::Up;
        now.connection += 1;
    }

    pub(super) fn lost(&self) {
        self.now().phase = Phase::Away;
    }

    /// It did not answer in time.
    pub(super) fn doubt(&self) {
        self.late.fetch_add(1, Relaxed);
        let mut now = self.now();
        if now.phase == Phase::Up {
            now.phase = Phase::Suspect;
            self.doubted.notify_one();
        }
    }

    /// It has answered a ping.
    pub(super) fn trust(&self) {
        let mut now = self.now();
        if now.phase == Phase::Suspect {
            now.phase = Phase::Up;
        }
    }

    pub(super) fn rows(&self) -> [LinkRow; 3] {
        [
            (
                "farthing_redis_up",
                "gauge",
                "1 while Redis may be asked.",
                u64::from(self.is_up()),
            ),
            (
                "farthing_redis_connections_total",
                "counter",
                "Connections to Redis so far.",
                self.connections.load(Relaxed),
            ),
            (
                "farthing_redis_late_total",
                "counter",
                "Commands that Redis did not answer in time.",
                self.late.load(Relaxed),
            ),
        ]
    }

    /// What is in there is changed in one step, so whoever panicked left it whole.
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
