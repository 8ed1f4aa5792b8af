//! Where the vocabularies come from that models name and this build of the filter does not hold.

use serde::Deserialize;

use super::checks::{header_value, within};
use super::raw::WholeNumber;
use super::{ConfigError, Model};
use crate::limits::{CONFIG_NAME_BYTES_MAX, VOCABULARY_RETRY_MS_MAX, VOCABULARY_TIMEOUT_MS_MAX};

/// A backend that serves vocabularies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VocabularySource {
    /// Envoy cluster of the backend.
    pub cluster: String,
    /// Deadline of one attempt.
    pub timeout_ms: u32,
    /// Wait after the first failure; it doubles with each further one.
    pub retry_ms: u32,
}

/// The section as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct RawVocabularies {
    /// Envoy cluster of a backend that hands them out.
    pub cluster: String,
    /// Deadline of one attempt, in milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: WholeNumber,
    /// Wait after the first failure, in milliseconds; it doubles with each further one.
    #[serde(default = "retry_ms")]
    pub retry_ms: WholeNumber,
}

fn timeout_ms() -> WholeNumber {
    WholeNumber(5_000)
}

fn retry_ms() -> WholeNumber {
    WholeNumber(500)
}

/// Checks the section.
pub(super) fn vocabularies(
    raw: Option<RawVocabularies>,
) -> Result<Option<VocabularySource>, ConfigError> {
    let Some(raw) = raw else { return Ok(None) };
    let retry_ms_max = VOCABULARY_RETRY_MS_MAX as u32;
    Ok(Some(VocabularySource {
        cluster: header_value("vocabularies.cluster", raw.cluster)?,
        timeout_ms: within(
            "vocabularies.timeout_ms",
            raw.timeout_ms,
            1,
            VOCABULARY_TIMEOUT_MS_MAX,
        )?,
        retry_ms: within("vocabularies.retry_ms", raw.retry_ms, 1, retry_ms_max)?,
    }))
}

/// A vocabulary's name is the end of a path.
pub(super) fn vocabulary_name(path: String, name: String) -> Result<String, ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    if name.is_empty() || name.len() > CONFIG_NAME_BYTES_MAX || !name.bytes().all(plain) {
        let problem = format!(
            "must be 1 to {CONFIG_NAME_BYTES_MAX} letters, digits, `-`, `_`, `.`, `:` and `/`"
        );
        return Err(ConfigError::new(path, problem));
    }
    Ok(name)
}

/// Refuses a vocabulary that is neither in the build nor served by anyone.
pub(super) fn check_obtainable(
    models: &[Model],
    source: Option<&VocabularySource>,
    embedded: &[&str],
) -> Result<(), ConfigError> {
    let missing = |model: &Model| {
        let name = model.vocabulary.as_deref();
        source.is_none() && name.is_some_and(|name| !embedded.contains(&name))
    };
    match models.iter().position(missing) {
        Some(position) => Err(ConfigError::new(
            format!("models[{position}].vocabulary"),
            "is not part of this build: name the backend that serves it in `vocabularies.cluster`",
        )),
        None => Ok(()),
    }
}
