//! Where answers are kept beyond the life of the process.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use farthing_core::limits;
use serde::{Deserialize, Serialize};

use super::{at_most, wrong};
use crate::error::BackendError;

/// The response store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The file; it is made if it is not there.
    pub path: PathBuf,
    /// Bytes that all answers together take in the file; the oldest make room. With what it keeps
    /// free for the next ones the file has up to three times as many.
    #[serde(default = "bytes_max")]
    pub bytes_max: NonZeroU64,
    /// How long an answer is kept.
    #[serde(default = "ttl_s")]
    pub ttl_s: NonZeroU32,
}

impl StoreConfig {
    /// Refuses what is out of its bounds, by its path.
    pub(super) fn check_bounds(&self) -> Result<(), BackendError> {
        if self.path.as_os_str().is_empty() {
            return Err(wrong("response_store.path", "names no file"));
        }
        let min = limits::RESPONSE_STORE_BYTES_MIN;
        if self.bytes_max.get() < min {
            let reason = format!("{} is under {min}", self.bytes_max);
            return Err(wrong("response_store.bytes_max", reason));
        }
        at_most(
            "response_store.bytes_max",
            self.bytes_max.get(),
            limits::RESPONSE_STORE_BYTES_MAX,
        )?;
        at_most(
            "response_store.ttl_s",
            self.ttl_s.get().into(),
            limits::CACHE_TTL_S_MAX.into(),
        )
    }
}

/// 256 MiB: a hundred thousand answers of usual length.
const fn bytes_max() -> NonZeroU64 {
    NonZeroU64::new(256 << 20).expect("it is not zero")
}

/// A day.
const fn ttl_s() -> NonZeroU32 {
    NonZeroU32::new(24 * 60 * 60).expect("it is not zero")
}
