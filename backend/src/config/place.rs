//! Where a store keeps what it is given: a file of this backend, or the Redis that several share.

use std::num::NonZeroU64;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{RedisConfig, at_most, wrong};
use crate::error::BackendError;

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    File {
        /// It is made if it is not there.
        path: PathBuf,
        /// Bytes that all entries together take; others make room.
        bytes_max: NonZeroU64,
    },
    /// That of `redis:`, whose `maxmemory` bounds it.
    Redis,
}

/// How it is written: `in`, and beside it `path` and `bytes_max` for a file.
#[derive(Debug, Default)]
pub(super) struct RawPlace {
    pub(super) name: PlaceName,
    pub(super) path: Option<PathBuf>,
    pub(super) bytes_max: Option<NonZeroU64>,
}

/// The value of `in`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PlaceName {
    #[default]
    File,
    Redis,
}

/// What holds for a store's file.
pub(super) struct FileRules {
    /// The store's name in the configuration.
    pub(super) store: &'static str,
    /// The file where none is named.
    pub(super) path: Option<PathBuf>,
    pub(super) bytes_max_default: NonZeroU64,
    pub(super) bytes_min: u64,
    pub(super) bytes_max: u64,
}

impl RawPlace {
    /// Refuses what does not go together or is out of its bounds, by its path.
    pub(super) fn check(
        self,
        rules: FileRules,
        redis: Option<&RedisConfig>,
    ) -> Result<Place, BackendError> {
        let at = |field: &str| format!("{}.{field}", rules.store);
        if self.name == PlaceName::Redis {
            let of_files = [
                ("path", self.path.is_some()),
                ("bytes_max", self.bytes_max.is_some()),
            ];
            if let Some((field, _)) = of_files.into_iter().find(|(_, is_there)| *is_there) {
                return Err(wrong(at(field), "is for a file, and `in` says redis"));
            }
            if redis.is_none() {
                return Err(wrong(at("in"), "there is no `redis` in this configuration"));
            }
            return Ok(Place::Redis);
        }
        let Some(path) = self.path.or(rules.path) else {
            return Err(wrong(rules.store, "missing field `path`"));
        };
        if path.as_os_str().is_empty() {
            return Err(wrong(at("path"), "names no file"));
        }
        let bytes_max = self.bytes_max.unwrap_or(rules.bytes_max_default);
        if bytes_max.get() < rules.bytes_min {
            let reason = format!("{bytes_max} is under {}", rules.bytes_min);
            return Err(wrong(at("bytes_max"), reason));
        }
        at_most(&at("bytes_max"), bytes_max.get(), rules.bytes_max)?;
        Ok(Place::File { path, bytes_max })
    }
}

impl From<Place> for RawPlace {
    fn from(place: Place) -> RawPlace {
        match place {
            Place::File { path, bytes_max } => RawPlace {
                name: PlaceName::File,
                path: Some(path),
                bytes_max: Some(bytes_max),
            },
            Place::Redis => RawPlace {
                name: PlaceName::Redis,
                ..RawPlace::default()
            },
        }
    }
}
