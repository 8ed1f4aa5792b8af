//! A key, of a provider or to Redis: read at start, shown to nobody, read again where it may have
//! changed.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use farthing_core::limits::{PROVIDER_KEY_BYTES_MAX, PROVIDER_KEY_CHECK_MS};
use farthing_core::wire::provider::ProviderApi;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};

use crate::config::KeySource;
use crate::error::BackendError;

/// What is put in the place of a key that a provider repeats.
const REDACTED: &str = "[key]";

/// The key of one provider, or the password to Redis.
pub struct Key {
    source: KeySource,
    current: Mutex<Current>,
}

struct Current {
    secret: Secret,
    /// Of the file, when it was read.
    modified: Option<SystemTime>,
    checked_at: Duration,
}

/// The key itself. It has no way to be printed.
#[derive(Clone, PartialEq, Eq)]
struct Secret(String);

/// Has the key changed?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reread {
    Changed,
    Same,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

// === impl Key ===

impl Key {
    /// Reads the key. `at` is the path of the field that names it.
    ///
    /// # Errors
    /// It is not there, or is none: empty, too long, or not visible ASCII.
    pub fn load(source: &KeySource, at: &str) -> Result<Key, BackendError> {
        let (secret, modified) = read(source).map_err(|message| BackendError::Config {
            path: format!("{at}.{}", source.field()),
            message,
        })?;
        Ok(Key {
            source: source.clone(),
            current: Mutex::new(Current {
                secret,
                modified,
                checked_at: Duration::ZERO,
            }),
        })
    }

    /// The header that carries it, marked so that no library prints it.
    pub fn header(&self, api: ProviderApi) -> Option<(HeaderName, HeaderValue)> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let secret = &current.secret.0;
        let (name, value) = match api {
            ProviderApi::OpenAi => (AUTHORIZATION, format!("Bearer {secret}")),
            ProviderApi::Anthropic => (HeaderName::from_static("x-api-key"), secret.clone()),
            ProviderApi::Gemini => (HeaderName::from_static("x-goog-api-key"), secret.clone()),
        };
        // It is visible ASCII, so it is a legal value.
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    }

    /// The key itself, for a protocol without headers. It goes nowhere but there.
    pub fn reveal(&self) -> String {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.secret.0.clone()
    }

    /// Takes the key out of what a provider says.
    pub fn redact(&self, text: &str) -> String {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        text.replace(&current.secret.0, REDACTED)
    }

    /// Looks after the file now and then; one that has changed is read. A look costs microseconds,
    /// once a second at most.
    pub fn look_after(&self, now: Duration) {
        let KeySource::File(file) = &self.source else {
            return;
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_sub(current.checked_at);
        if since < Duration::from_millis(PROVIDER_KEY_CHECK_MS) {
            return;
        }
        current.checked_at = now;
        if modified(file).is_some_and(|at| Some(at) != current.modified) {
            self.take(&mut current);
        }
    }

    /// Reads the file once more: the provider refuses the key.
    pub fn reread(&self) -> Reread {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.take(&mut current)
    }

    /// A file that is gone or half written leaves the key as it was.
    fn take(&self, current: &mut Current) -> Reread {
        let Ok((secret, modified)) = read(&self.source) else {
            return Reread::Same;
        };
        current.modified = modified;
        if current.secret == secret {
            return Reread::Same;
        }
        current.secret = secret;
        Reread::Changed
    }
}

fn read(source: &KeySource) -> Result<(Secret, Option<SystemTime>), String> {
    let (text, modified) = match source {
        KeySource::Env(name) => {
            let value = std::env::var(name).map_err(|_| format!("{name} is not set"))?;
            (value, None)
        }
        KeySource::File(file) => {
            let modified = modified(file);
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| format!("{}: {}", file.display(), error.kind()))?;
            (text, modified)
        }
    };
    let key = text.trim();
    // Nothing of it is repeated in the message.
    if key.is_empty() || key.len() > PROVIDER_KEY_BYTES_MAX {
        return Err(format!("a key has 1 to {PROVIDER_KEY_BYTES_MAX} bytes"));
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a key is visible ASCII without spaces".to_owned());
    }
    Ok((Secret(key.to_owned()), modified))
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).ok()?.modified().ok()
}
