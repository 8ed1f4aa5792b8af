//! Redis, for several backends that share what they keep (`redis:`).

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use farthing_core::limits;
use serde::{Deserialize, Serialize};

use super::redis_url::{RedisAddress, RedisUrl};
use super::{KeySource, at_most, wrong};
use crate::error::BackendError;

/// One Redis (or Valkey), for all that says `in: redis`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// Where it is.
    pub url: RedisUrl,
    /// Who we are to it; its default user if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where the password is; we do not log in if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<KeySource>,
    /// The certificates in PEM that are trusted in place of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// What the names of our keys begin with. Backends share what has the same prefix.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// How long a request waits for it; what comes later is a miss.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: NonZeroU32,
}

impl RedisConfig {
    /// Refuses what is out of its bounds or without its neighbour, by its path.
    pub(super) fn check(&self) -> Result<(), BackendError> {
        let is_tls = matches!(self.url.at, RedisAddress::Tls { .. });
        if self.ca_file.is_some() && !is_tls {
            return Err(wrong("redis.ca_file", "is for rediss:// only"));
        }
        if self.user.is_some() && self.password.is_none() {
            return Err(wrong("redis.user", "has no password beside it"));
        }
        let is_name = |text: &str| {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
            (1..=limits::REDIS_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(legal)
        };
        let fields = [("prefix", Some(&self.prefix)), ("user", self.user.as_ref())];
        for (field, text) in fields {
            if text.is_some_and(|text| !is_name(text)) {
                let max = limits::REDIS_NAME_BYTES_MAX;
                let reason = format!("is 1 to {max} letters, digits, `_`, `.`, `:` and `-`");
                return Err(wrong(format!("redis.{field}"), reason));
            }
        }
        at_most(
            "redis.timeout_ms",
            self.timeout_ms.get().into(),
            limits::REDIS_TIMEOUT_MS_MAX,
        )
    }

    /// How long a request waits.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.get().into())
    }
}

fn prefix() -> String {
    "farthing".to_owned()
}

/// Far more than the 2 ms of a look-up among 100,000 entries, and little beside a model's first
/// token.
const fn timeout_ms() -> NonZeroU32 {
    NonZeroU32::new(50).expect("it is not zero")
}
