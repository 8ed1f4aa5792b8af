//! Providers: where models are that others serve (`providers:`).

use std::collections::HashSet;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use farthing_core::limits;
use farthing_core::wire::provider::ProviderApi;
use serde::{Deserialize, Serialize};

use super::base_url::{BaseUrl, Scheme};
use super::{at_most, wrong};
use crate::error::BackendError;
use crate::provider::breaker::BreakerPolicy;
use crate::provider::retry::{BudgetPolicy, RetryPolicy};

const TIMEOUT_MS_MAX: u64 = limits::PROVIDER_TIMEOUT_MS_MAX;
const ATTEMPTS_MAX: u64 = limits::RETRY_ATTEMPTS_MAX as u64;
const OUTCOMES_MAX: u64 = limits::BREAKER_OUTCOMES_MAX as u64;

/// One provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// What models, errors and metrics call it.
    pub name: String,
    /// Whose words it understands.
    pub api: Api,
    /// What comes before the API's paths; the API's own home if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<BaseUrl>,
    /// Where its key is; none is sent if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeySource>,
    /// Whether it may be spoken to in the clear.
    #[serde(default)]
    pub tls: TlsUse,
    /// The certificates in PEM that are trusted in place of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// To find its address, connect and agree on TLS.
    #[serde(default = "connect_timeout_ms")]
    pub connect_timeout_ms: NonZeroU64,
    /// From a request to the first event of a stream.
    #[serde(default = "first_byte_timeout_ms")]
    pub first_byte_timeout_ms: NonZeroU64,
    /// Between two pieces of an answer.
    #[serde(default = "idle_timeout_ms")]
    pub idle_timeout_ms: NonZeroU64,
    /// From a request to the end of an answer that is not streamed: nothing of it comes before all
    /// of it is generated.
    #[serde(default = "answer_timeout_ms")]
    pub answer_timeout_ms: NonZeroU64,
    /// When it is asked again.
    #[serde(default)]
    pub retries: RetryConfig,
    /// When it is left alone.
    #[serde(default)]
    pub breaker: BreakerConfig,
}

/// The API of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    OpenAi,
    Anthropic,
    Gemini,
}

/// Is TLS needed? To a loopback address it never is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsUse {
    #[default]
    Required,
    /// Keys and prompts may travel in the clear.
    Off,
}

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawKey", into = "RawKey")]
pub enum KeySource {
    /// In a file, which is read again when it changes.
    File(PathBuf),
    /// In a variable of the environment.
    Env(String),
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    env: Option<String>,
}

/// When a provider is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Attempts after the first one.
    pub attempts: u32,
    /// Bound of the first wait, which doubles with each further one.
    pub base_ms: NonZeroU64,
    /// Bound of every wait that we choose.
    pub max_ms: NonZeroU64,
    /// Longest wait that the provider may ask for and still be asked again.
    pub wait_max_ms: u64,
    /// Retries for a hundred requests.
    pub budget_percent: u32,
    /// Retries a second beside those.
    pub budget_per_second: u32,
}

/// When a model of a provider is left alone, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// How far back outcomes count.
    pub window_ms: NonZeroU64,
    /// So many are needed before any share of them counts.
    pub requests_min: NonZeroU32,
    /// The share of failures that is too much; over 100 never is.
    pub failures_percent: NonZeroU32,
    /// How long it is left alone at first.
    pub open_ms: NonZeroU64,
    /// How long at most.
    pub open_max_ms: NonZeroU64,
}

// === impl ProviderConfig ===

impl ProviderConfig {
    /// Refuses what is out of its bounds or against its neighbour, by its path.
    fn check(&self, index: usize) -> Result<(), BackendError> {
        let at = |field: &str| format!("providers[{index}].{field}");
        check_word(&self.name).map_err(|reason| wrong(at("name"), reason))?;
        let url = self.base_url();
        match (url.scheme, self.tls) {
            (Scheme::Https, TlsUse::Off) => {
                return Err(wrong(at("tls"), "is off, but base_url is https"));
            }
            (Scheme::Http, TlsUse::Required) if !url.is_loopback() => {
                let reason = "sends keys and prompts in the clear; use https, or say tls: off";
                return Err(wrong(at("base_url"), reason));
            }
            _ => {}
        }
        if self.ca_file.is_some() && url.scheme == Scheme::Http {
            return Err(wrong(at("ca_file"), "is for https only"));
        }
        for (field, timeout_ms) in [
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("first_byte_timeout_ms", self.first_byte_timeout_ms),
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("answer_timeout_ms", self.answer_timeout_ms),
        ] {
            at_most(&at(field), timeout_ms.get(), TIMEOUT_MS_MAX)?;
        }
        self.retries
            .check(|field| at(&format!("retries.{field}")))?;
        self.breaker.check(|field| at(&format!("breaker.{field}")))
    }

    /// What comes before the API's paths.
    pub fn base_url(&self) -> BaseUrl {
        let given = self.base_url.clone();
        given.unwrap_or_else(|| BaseUrl::home_of(self.api.into()))
    }

    /// How long is waited for what.
    pub fn timeouts(&self) -> crate::provider::Timeouts {
        crate::provider::Timeouts {
            first_byte: Duration::from_millis(self.first_byte_timeout_ms.get()),
            idle: Duration::from_millis(self.idle_timeout_ms.get()),
            answer: Duration::from_millis(self.answer_timeout_ms.get()),
        }
    }
}

/// Checks all of them.
pub(super) fn check(providers: &[ProviderConfig]) -> Result<(), BackendError> {
    at_most(
        "providers",
        providers.len() as u64,
        limits::PROVIDERS_MAX as u64,
    )?;
    let mut seen = HashSet::new();
    for (index, provider) in providers.iter().enumerate() {
        provider.check(index)?;
        if !seen.insert(&provider.name) {
            let reason = format!("\"{}\" is the name of another provider too", provider.name);
            return Err(wrong(format!("providers[{index}].name"), reason));
        }
    }
    Ok(())
}

/// A name that stands in messages and metrics.
fn check_word(name: &str) -> Result<(), String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_short = (1..=limits::CONFIG_NAME_BYTES_MAX).contains(&name.len());
    if is_short && name.bytes().all(is_word) {
        return Ok(());
    }
    let max = limits::CONFIG_NAME_BYTES_MAX;
    Err(format!(
        "a provider's name has 1 to {max} letters, digits, \"-\", \"_\" and \".\""
    ))
}

// === impl Api ===

impl From<Api> for ProviderApi {
    fn from(api: Api) -> ProviderApi {
        match api {
            Api::OpenAi => ProviderApi::OpenAi,
            Api::Anthropic => ProviderApi::Anthropic,
            Api::Gemini => ProviderApi::Gemini,
        }
    }
}

// === impl KeySource ===

impl KeySource {
    /// The field that names it.
    pub fn field(&self) -> &'static str {
        match self {
            KeySource::File(_) => "file",
            KeySource::Env(_) => "env",
        }
    }
}

impl TryFrom<RawKey> for KeySource {
    type Error = &'static str;

    fn try_from(raw: RawKey) -> Result<KeySource, &'static str> {
        match (raw.file, raw.env) {
            (Some(file), None) => Ok(KeySource::File(file)),
            (None, Some(env)) if !env.is_empty() && !env.contains(['=', '\0']) => {
                Ok(KeySource::Env(env))
            }
            _ => Err("a key is in one place: {file: PATH} or {env: NAME}"),
        }
    }
}

impl From<KeySource> for RawKey {
    fn from(source: KeySource) -> RawKey {
        match source {
            KeySource::File(file) => RawKey {
                file: Some(file),
                ..RawKey::default()
            },
            KeySource::Env(env) => RawKey {
                env: Some(env),
                ..RawKey::default()
            },
        }
    }
}

// === impl RetryConfig ===

impl RetryConfig {
    fn check(&self, at: impl Fn(&str) -> String) -> Result<(), BackendError> {
        for (field, value, max) in [
            ("attempts", self.attempts.into(), ATTEMPTS_MAX),
            ("base_ms", self.base_ms.get(), TIMEOUT_MS_MAX),
            ("max_ms", self.max_ms.get(), TIMEOUT_MS_MAX),
            ("wait_max_ms", self.wait_max_ms, TIMEOUT_MS_MAX),
            ("budget_percent", self.budget_percent.into(), 100),
            ("budget_per_second", self.budget_per_second.into(), 100),
        ] {
            at_most(&at(field), value, max)?;
        }
        Ok(())
    }

    /// As it is decided by.
    pub fn policy(self) -> RetryPolicy {
        RetryPolicy {
            attempts: self.attempts,
            base: Duration::from_millis(self.base_ms.get()),
            max: Duration::from_millis(self.max_ms.get()),
            wait_max: Duration::from_millis(self.wait_max_ms),
        }
    }

    /// What bounds all of them together.
    pub fn budget(self) -> BudgetPolicy {
        BudgetPolicy {
            percent: self.budget_percent,
            per_second: self.budget_per_second,
        }
    }
}

impl Default for RetryConfig {
    fn default() -> RetryConfig {
        RetryConfig {
            attempts: 2,
            base_ms: nonzero(250),
            max_ms: nonzero(4_000),
            wait_max_ms: 10_000,
            budget_percent: 20,
            budget_per_second: 1,
        }
    }
}

// === impl BreakerConfig ===

impl BreakerConfig {
    fn check(&self, at: impl Fn(&str) -> String) -> Result<(), BackendError> {
        let percent = self.failures_percent.get();
        for (field, value, max) in [
            ("window_ms", self.window_ms.get(), TIMEOUT_MS_MAX),
            ("requests_min", self.requests_min.get().into(), OUTCOMES_MAX),
            ("failures_percent", percent.into(), 101),
            ("open_ms", self.open_ms.get(), TIMEOUT_MS_MAX),
            ("open_max_ms", self.open_max_ms.get(), TIMEOUT_MS_MAX),
        ] {
            at_most(&at(field), value, max)?;
        }
        if self.open_max_ms < self.open_ms {
            return Err(wrong(at("open_max_ms"), "is under open_ms"));
        }
        Ok(())
    }

    /// As it is decided by.
    pub fn policy(self) -> BreakerPolicy {
        BreakerPolicy {
            window: Duration::from_millis(self.window_ms.get()),
            requests_min: self.requests_min.get(),
            failures_percent: self.failures_percent.get(),
            open: Duration::from_millis(self.open_ms.get()),
            open_max: Duration::from_millis(self.open_max_ms.get()),
        }
    }
}

impl Default for BreakerConfig {
    fn default() -> BreakerConfig {
        BreakerConfig {
            window_ms: nonzero(30_000),
            requests_min: super::nonzero_u32(10),
            failures_percent: super::nonzero_u32(50),
            open_ms: nonzero(5_000),
            open_max_ms: nonzero(60_000),
        }
    }
}

const fn nonzero(value: u64) -> NonZeroU64 {
    NonZeroU64::new(value).expect("defaults are not zero")
}

const fn connect_timeout_ms() -> NonZeroU64 {
    nonzero(5_000)
}

const fn first_byte_timeout_ms() -> NonZeroU64 {
    nonzero(60_000)
}

const fn idle_timeout_ms() -> NonZeroU64 {
    nonzero(60_000)
}

/// As long as OpenAI's and Anthropic's own clients wait.
const fn answer_timeout_ms() -> NonZeroU64 {
    nonzero(600_000)
}
