//! The configuration of `farthing serve`: command line over YAML file over defaults, parsed once
//! into types that cannot be wrong. Every default is in a `Default` impl of this folder or, for
//! what concerns the engine, of [`EngineConfig`].

mod base_url;
mod cascade;
mod http;
mod models;
mod place;
mod price;
mod provider_models;
mod providers;
mod redis;
mod redis_url;
mod semantic;
mod speculative;
mod store;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use farthing_core::limits;
use serde::{Deserialize, Serialize};

pub use base_url::BaseUrl;
pub use cascade::CascadeConfig;
pub use http::HttpConfig;
pub use models::{ModelKind, ModelSource};
pub use place::Place;
pub use price::PriceConfig;
pub use provider_models::ProviderModelConfig;
pub use providers::{KeySource, ProviderConfig};
pub use redis::RedisConfig;
pub use redis_url::{RedisAddress, RedisUrl};
pub use semantic::SemanticConfig;
pub use speculative::SpeculativeConfig;
pub use store::StoreConfig;

use models::Listed;

use crate::cli::ServeArgs;
use crate::engine::EngineConfig;
use crate::error::BackendError;

/// The configuration in force.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Models to load, in the order of `/v1/models`, the ids all different.
    pub models: Vec<ModelSource>,
    /// Models that providers serve, after those. Written among `models`.
    #[serde(skip)]
    pub provider_models: Vec<ProviderModelConfig>,
    /// Who serves them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<ProviderConfig>,
    /// Virtual name to the chat models that may answer for it, from cheap to dear, never empty.
    pub virtual_models: BTreeMap<String, Vec<String>>,
    /// Names under which several models answer, each only what a cheaper one cannot.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cascades: BTreeMap<String, CascadeConfig>,
    /// Threads that compute.
    pub threads: NonZeroUsize,
    /// Requests that may wait; one more is answered 429.
    pub queue_max: NonZeroUsize,
    /// Sequences that decode together.
    pub running_max: NonZeroUsize,
    /// Tokens computed in one step.
    pub step_tokens: NonZeroUsize,
    /// What a step may take while some sequence decodes; if absent, a little less than twice as
    /// long as without any prefill, and longer only if more sequences wait for their first token
    /// than for their next. However little it is, prompts get on slowly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_latency_ms: Option<NonZeroU32>,
    /// Tokens that are guessed ahead and verified together. No answer changes by it.
    pub speculative: SpeculativeConfig,
    /// Completion length where the request names none (bounded further by the model's context).
    pub max_tokens_default: NonZeroU32,
    /// Limits and timeouts of the HTTP server.
    pub http: HttpConfig,
    /// Vocabulary files to serve beside those of the models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocabularies_dir: Option<PathBuf>,
    /// What several backends share, for all that says `in: redis`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisConfig>,
    /// Where answers are kept beyond the life of the process; nowhere if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_store: Option<StoreConfig>,
    /// Answers to what was asked in other words; never given if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub semantic_cache: Option<SemanticConfig>,
}

/// The file as it is written, before its parts are checked against each other.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    listen: SocketAddr,
    models_dir: Option<PathBuf>,
    models: Vec<models::RawModel>,
    providers: Vec<ProviderConfig>,
    virtual_models: Option<BTreeMap<String, Vec<String>>>,
    cascades: BTreeMap<String, CascadeConfig>,
    threads: NonZeroUsize,
    queue_max: NonZeroUsize,
    running_max: NonZeroUsize,
    step_tokens: NonZeroUsize,
    decode_latency_ms: Option<NonZeroU32>,
    speculative: SpeculativeConfig,
    max_tokens_default: NonZeroU32,
    http: HttpConfig,
    vocabularies_dir: Option<PathBuf>,
    redis: Option<RedisConfig>,
    response_store: Option<store::RawStore>,
    semantic_cache: Option<semantic::RawSemantic>,
}

impl Default for RawConfig {
    fn default() -> Self {
        let engine = EngineConfig::default();
        RawConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            models_dir: None,
            models: Vec::new(),
            providers: Vec::new(),
            virtual_models: None,
            cascades: BTreeMap::new(),
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            queue_max: nonzero_usize(engine.queue_max),
            running_max: nonzero_usize(engine.running_max),
            step_tokens: nonzero_usize(engine.step_tokens),
            decode_latency_ms: None,
            speculative: SpeculativeConfig::default(),
            max_tokens_default: nonzero_u32(1_024),
            http: HttpConfig::default(),
            vocabularies_dir: None,
            redis: None,
            response_store: None,
            semantic_cache: None,
        }
    }
}

impl Config {
    /// Reads the configuration file that `args` names, if any, and lays `args` over it.
    ///
    /// # Errors
    /// The first field that is wrong, by its path; an unreadable file, by the file's name.
    pub fn load(args: &ServeArgs) -> Result<Config, BackendError> {
        let text = match &args.config {
            Some(file) => read_bounded(file)?,
            None => String::new(),
        };
        Config::parse(&text, args)
    }

    /// Parses `text` (YAML, empty for all defaults) and lays `args` over it.
    ///
    /// # Errors
    /// The first field that is wrong, by its path.
    pub fn parse(text: &str, args: &ServeArgs) -> Result<Config, BackendError> {
        let mut raw = parse_yaml(text)?;
        let models_dir = args.models.clone().or(raw.models_dir.take());
        let (models, provided) = list(raw.models, models_dir.as_deref())?;
        models::check_ids(&models, &provided)?;
        models::check_drafts(&models)?;
        providers::check(&raw.providers)?;
        provider_models::check(&provided, &raw.providers, &models)?;
        let named = raw.virtual_models;
        let virtual_models = models::check_virtual(named, &models, &provided, &raw.cascades)?;
        cascade::check(&raw.cascades, &virtual_models, &models, &provided)?;
        let redis = raw.redis.as_ref();
        redis.map_or(Ok(()), RedisConfig::check)?;
        let response_store = raw.response_store.map(|store| store.check(redis));
        let semantic_cache = raw.semantic_cache.map(|cache| cache.check(&models, redis));
        let (response_store, semantic_cache) =
            (response_store.transpose()?, semantic_cache.transpose()?);
        let config = Config {
            listen: args.listen.unwrap_or(raw.listen),
            models,
            provider_models: provided,
            providers: raw.providers,
            virtual_models,
            cascades: raw.cascades,
            threads: args.threads.unwrap_or(raw.threads),
            queue_max: raw.queue_max,
            running_max: raw.running_max,
            step_tokens: raw.step_tokens,
            decode_latency_ms: raw.decode_latency_ms,
            speculative: raw.speculative,
            max_tokens_default: raw.max_tokens_default,
            http: raw.http,
            vocabularies_dir: raw.vocabularies_dir,
            redis: raw.redis,
            response_store,
            semantic_cache,
        };
        config.check_bounds()?;
        Ok(config)
    }

    /// What is larger than any machine needs is a mistake, and would only show under load.
    fn check_bounds(&self) -> Result<(), BackendError> {
        let engine = self.engine();
        for (path, value, max) in [
            ("threads", engine.threads, farthing_kernels::THREADS_MAX),
            ("queue_max", engine.queue_max, limits::ENGINE_QUEUE_MAX),
            (
                "running_max",
                engine.running_max,
                limits::ENGINE_RUNNING_MAX,
            ),
            (
                "step_tokens",
                engine.step_tokens,
                limits::ENGINE_STEP_TOKENS_MAX,
            ),
        ] {
            at_most(path, value as u64, max as u64)?;
        }
        if let Some(latency_ms) = self.decode_latency_ms {
            at_most(
                "decode_latency_ms",
                latency_ms.get().into(),
                limits::DECODE_LATENCY_MS_MAX.into(),
            )?;
        }
        self.speculative.check_bounds()?;
        let tokens = self.max_tokens_default.get();
        at_most(
            "max_tokens_default",
            tokens.into(),
            limits::MAX_TOKENS_MAX.into(),
        )?;
        self.http.check_bounds()
    }

    /// The engine's part.
    pub fn engine(&self) -> EngineConfig {
        let latency = |latency_ms: NonZeroU32| Duration::from_millis(latency_ms.get().into());
        let weights = self.models.iter().filter_map(|model| {
            let weight = model.weight?;
            Some((model.id.clone(), weight.get()))
        });
        EngineConfig {
            decode_latency: self.decode_latency_ms.map(latency),
            weights: weights.collect(),
            threads: self.threads.get(),
            step_tokens: self.step_tokens.get(),
            running_max: self.running_max.get(),
            queue_max: self.queue_max.get(),
            speculation: self.speculative.engine(),
        }
    }

    /// The configuration as YAML that [`Config::parse`] reads back. It names where keys are, and
    /// has none.
    pub fn to_yaml(&self) -> String {
        let written = || -> Result<String, serde_yaml_ng::Error> {
            let mut document = serde_yaml_ng::to_value(self)?;
            let models = document.get_mut("models");
            if let Some(models) = models.and_then(|models| models.as_sequence_mut()) {
                for model in &self.provider_models {
                    models.push(serde_yaml_ng::to_value(model)?);
                }
            }
            serde_yaml_ng::to_string(&document)
        };
        written().unwrap_or_else(|error| format!("# {error}\n"))
    }
}

/// The models by who serves them: those of the file, else those of the folder.
fn list(
    raw: Vec<models::RawModel>,
    models_dir: Option<&Path>,
) -> Result<(Vec<ModelSource>, Vec<ProviderModelConfig>), BackendError> {
    if raw.is_empty() {
        return Ok((models::discover(models_dir)?, Vec::new()));
    }
    let (mut own, mut provided) = (Vec::new(), Vec::new());
    for (index, model) in raw.into_iter().enumerate() {
        match model.check(index, models_dir)? {
            Listed::Own(model) => own.push(model),
            Listed::Provided(model) => provided.push(model),
        }
    }
    Ok((own, provided))
}

fn read_bounded(file: &Path) -> Result<String, BackendError> {
    let unreadable = |source| BackendError::Io {
        what: file.display().to_string(),
        source,
    };
    let mut text = String::new();
    let mut reader = std::fs::File::open(file)
        .map_err(unreadable)?
        .take(limits::CONFIG_BYTES_MAX + 1);
    let length = reader.read_to_string(&mut text).map_err(unreadable)?;
    if length as u64 > limits::CONFIG_BYTES_MAX {
        return Err(wrong(
            file.display(),
            format!("over {} bytes", limits::CONFIG_BYTES_MAX),
        ));
    }
    Ok(text)
}

fn parse_yaml(text: &str) -> Result<RawConfig, BackendError> {
    let document = serde_yaml_ng::Deserializer::from_str(text);
    // An empty document is null, which an Option takes and a struct does not.
    match serde_path_to_error::deserialize::<_, Option<RawConfig>>(document) {
        Ok(raw) => Ok(raw.unwrap_or_default()),
        Err(_) if text.trim().is_empty() => Ok(RawConfig::default()),
        Err(error) => Err(wrong(error.path(), error.inner())),
    }
}

fn at_most(path: &str, value: u64, max: u64) -> Result<(), BackendError> {
    if value > max {
        return Err(wrong(path, format!("{value} is over {max}")));
    }
    Ok(())
}

fn wrong(path: impl ToString, reason: impl ToString) -> BackendError {
    BackendError::Config {
        path: path.to_string(),
        message: reason.to_string(),
    }
}

const fn nonzero_u32(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).expect("defaults are not zero")
}

const fn nonzero_usize(value: usize) -> NonZeroUsize {
    NonZeroUsize::new(value).expect("defaults are not zero")
}
