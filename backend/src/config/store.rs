//! Where answers are kept beyond the life of the process.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use farthing_core::limits;
use serde::{Deserialize, Serialize};

use super::place::{FileRules, Place, PlaceName, RawPlace};
use super::{RedisConfig, at_most};
use crate::error::BackendError;

/// The response store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "RawStore")]
pub struct StoreConfig {
    /// Where it is.
    pub place: Place,
    /// How long an answer is kept.
    pub ttl_s: NonZeroU32,
}

/// As it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStore {
    /// `file` or `redis`.
    #[serde(default, rename = "in")]
    place: PlaceName,
    /// The file; it is made if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    /// Bytes that all answers together take in the file; the oldest make room. With what it keeps
    /// free for the next ones the file has up to three times as many.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_max: Option<NonZeroU64>,
    /// How long an answer is kept.
    #[serde(default = "ttl_s")]
    ttl_s: NonZeroU32,
}

impl RawStore {
    /// Refuses what is out of its bounds, by its path.
    pub(super) fn check(self, redis: Option<&RedisConfig>) -> Result<StoreConfig, BackendError> {
        let place = RawPlace {
            name: self.place,
            path: self.path,
            bytes_max: self.bytes_max,
        };
        let rules = FileRules {
            store: "response_store",
            path: None,
            bytes_max_default: bytes_max(),
            bytes_min: limits::RESPONSE_STORE_BYTES_MIN,
            bytes_max: limits::RESPONSE_STORE_BYTES_MAX,
        };
        let place = place.check(rules, redis)?;
        at_most(
            "response_store.ttl_s",
            self.ttl_s.get().into(),
            limits::CACHE_TTL_S_MAX.into(),
        )?;
        Ok(StoreConfig {
            place,
            ttl_s: self.ttl_s,
        })
    }
}

impl From<StoreConfig> for RawStore {
    fn from(store: StoreConfig) -> RawStore {
        let place = RawPlace::from(store.place);
        RawStore {
            place: place.name,
            path: place.path,
            bytes_max: place.bytes_max,
            ttl_s: store.ttl_s,
        }
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
