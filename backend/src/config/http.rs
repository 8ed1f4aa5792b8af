//! Limits and timeouts of the HTTP server.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use farthing_core::limits;
use serde::{Deserialize, Serialize};

use super::{at_most, nonzero_u32};
use crate::error::BackendError;

/// Limits and timeouts of the HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Connections open at once; further ones wait in the kernel's backlog.
    pub connections_max: NonZeroU32,
    /// From the first moment a request may come until its headers are complete. It bounds idle
    /// keep-alive too, so a proxy's own idle timeout should be shorter.
    pub header_timeout_ms: NonZeroU64,
    /// From complete headers to complete body.
    pub body_timeout_ms: NonZeroU64,
    /// A client that takes nothing for this long while an answer waits is dropped.
    pub write_stall_ms: NonZeroU64,
    /// Time that running answers get to end after SIGTERM.
    pub drain_timeout_ms: NonZeroU64,
}

impl HttpConfig {
    /// Refuses what is over its limit, by its path.
    pub(super) fn check_bounds(&self) -> Result<(), BackendError> {
        let connections = self.connections_max.get();
        at_most(
            "http.connections_max",
            connections.into(),
            limits::HTTP_CONNECTIONS_MAX.into(),
        )?;
        for (path, timeout_ms) in [
            ("http.header_timeout_ms", self.header_timeout_ms),
            ("http.body_timeout_ms", self.body_timeout_ms),
            ("http.write_stall_ms", self.write_stall_ms),
            ("http.drain_timeout_ms", self.drain_timeout_ms),
        ] {
            at_most(path, timeout_ms.get(), limits::HTTP_TIMEOUT_MS_MAX)?;
        }
        Ok(())
    }

    /// Bound on reading the headers of one request.
    pub fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms.get())
    }

    /// Bound on reading the body of one request.
    pub fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms.get())
    }

    /// Longest time in which a client may take nothing of a waiting answer.
    pub fn write_stall(&self) -> Duration {
        Duration::from_millis(self.write_stall_ms.get())
    }

    /// Bound on draining after a signal.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms.get())
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            connections_max: nonzero_u32(1_024),
            header_timeout_ms: nonzero_u64(30_000),
            body_timeout_ms: nonzero_u64(30_000),
            write_stall_ms: nonzero_u64(30_000),
            drain_timeout_ms: nonzero_u64(30_000),
        }
    }
}

const fn nonzero_u64(value: u64) -> NonZeroU64 {
    NonZeroU64::new(value).expect("defaults are not zero")
}
