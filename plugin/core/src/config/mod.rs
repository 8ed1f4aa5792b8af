//! The filter's configuration: bytes are parsed once into types that cannot be wrong. The way in is
//! [`Config::parse`]; `value` reads the two encodings, `raw` names the fields and their defaults,
//! `validate` checks and resolves them.

mod budget;
mod cache;
mod checks;
mod compaction;
mod ledger;
mod passthrough;
mod prices;
mod raw;
mod routes;
mod routing;
mod split;
mod tree;
mod validate;
mod value;
mod vocabularies;

pub use budget::BudgetConfig;
pub use cache::{CacheConfig, CachePolicy, RouteCache, SampledCaching};
pub use compaction::CompactionConfig;
pub use ledger::LedgerTransport;
pub use passthrough::Passthrough;
pub use prices::PriceOrigin;
pub use raw::Usd;
pub use routes::{Policy, RouteConfig, RouteMatch};
pub use routing::{Sticky, Target};
pub use split::{Arm, SPLIT_PARTS, Split, SplitBy};
pub use vocabularies::VocabularySource;

use std::fmt;

use serde::Deserialize;

use raw::RawConfig;

use crate::keyed_hash::HashKeys;
use crate::price::Price;
use crate::route::GainCalibration;
use crate::tenant::CredentialDigest;
use crate::wire::Endpoint;

/// Everything the filter was told, checked and resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// In the order of the configuration; a [`ModelIndex`] points into it.
    pub models: Vec<Model>,
    pub virtual_models: Vec<VirtualModel>,
    /// What the router knows of the gain of a dear model.
    pub calibration: GainCalibration,
    /// None: every request goes where it gains most, whatever conversation it is of.
    pub sticky: Option<Sticky>,
    pub secret: Secret,
    pub tenant: TenantConfig,
    /// None: no budgets, every request is admitted.
    pub budget: Option<BudgetConfig>,
    /// None: the exact cache is switched off.
    pub cache: Option<CacheConfig>,
    pub max_tokens: MaxTokens,
    pub ledger: LedgerTransport,
    /// The first that matches a request applies to it.
    pub routes: Vec<RouteConfig>,
    pub compaction: CompactionConfig,
    /// Who serves the vocabularies that models name.
    pub vocabularies: Option<VocabularySource>,
    /// What may pass unjudged.
    pub passthrough: Passthrough,
    /// Where that goes.
    pub passthrough_cluster: String,
}

impl Config {
    /// Reads a plugin configuration: JSON text (what Envoy hands over for a `StringValue`) or a
    /// serialized `google.protobuf.Struct` (what it hands over for plain YAML).
    pub fn parse(bytes: &[u8]) -> Result<Config, ConfigError> {
        let tree = value::decode(bytes)?;
        let raw = raw::deserialize(tree)?;
        validate::validate(raw)
    }

    /// Refuses vocabularies that neither this build holds, whose names are given, nor anyone
    /// serves.
    ///
    /// # Errors
    /// The first such model, by its path.
    pub fn check_vocabularies(&self, embedded: &[&str]) -> Result<(), ConfigError> {
        vocabularies::check_obtainable(&self.models, self.vocabularies.as_ref(), embedded)
    }

    pub fn model(&self, index: ModelIndex) -> Option<&Model> {
        self.models.get(index.0)
    }

    /// The concrete model of that name.
    pub fn find_model(&self, id: &str) -> Option<ModelIndex> {
        self.models
            .iter()
            .position(|model| model.id == id)
            .map(ModelIndex)
    }

    /// The model that the upstream of a cluster knows by this name.
    pub fn find_upstream(&self, cluster: &str, name: &str) -> Option<ModelIndex> {
        let is_it = |model: &Model| model.upstream_model == name && model.cluster == cluster;
        self.models.iter().position(is_it).map(ModelIndex)
    }

    /// The route of a request, if one is configured for it.
    pub fn find_route(
        &self,
        endpoint: Endpoint,
        model: &str,
        tenant: Option<&str>,
    ) -> Option<&RouteConfig> {
        self.routes
            .iter()
            .find(|route| route.matches.admits(endpoint, model, tenant))
    }

    /// Which answers are kept for the requests of a route; `None` where the cache is off.
    pub fn cache_policy<'a>(&'a self, route: Option<&'a RouteConfig>) -> Option<&'a CachePolicy> {
        let cache = self.cache.as_ref()?;
        match route.map(|route| &route.cache) {
            None | Some(RouteCache::Default) => Some(&cache.policy),
            Some(RouteCache::Off) => None,
            Some(RouteCache::Policy(policy)) => Some(policy),
        }
    }

    pub fn find_virtual(&self, id: &str) -> Option<&VirtualModel> {
        self.virtual_models.iter().find(|model| model.id == id)
    }
}

/// A position in [`Config::models`]: what routing decides is always one of these, never text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelIndex(pub usize);

/// One model that can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub id: String,
    /// The name the upstream knows it by.
    pub upstream_model: String,
    pub tier: String,
    /// Envoy cluster that serves it.
    pub cluster: String,
    /// Prompt and completion together.
    pub context_tokens: u32,
    pub price: Price,
    pub price_origin: PriceOrigin,
    pub tools: Support,
    pub images: Support,
    /// Answers held to a schema.
    pub json_schema: Support,
    /// Counts its prompts exactly. None: they are estimated.
    pub vocabulary: Option<String>,
    /// What its chat calls the limit of an answer; none: as the client says.
    pub max_tokens_field: Option<MaxTokensField>,
}

/// The two names of one limit of a chat's answer. OpenAI's reasoning models take only the newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensField {
    MaxTokens,
    MaxCompletionTokens,
}

impl MaxTokensField {
    pub const ALL: [MaxTokensField; 2] = [
        MaxTokensField::MaxTokens,
        MaxTokensField::MaxCompletionTokens,
    ];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            MaxTokensField::MaxTokens => "max_tokens",
            MaxTokensField::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// May requests that need something be sent to a model?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    Supported,
    Unsupported,
}

/// A name that stands for an ordered list of models for the router to choose from.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualModel {
    pub id: String,
    /// From cheap to dear; never empty. The last one is what the request asked for when savings are
    /// counted.
    pub members: Vec<ModelIndex>,
    pub target: Target,
}

/// Keys the tenant ids and the cache keys of this deployment. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    hash_keys: HashKeys,
}

impl Secret {
    pub fn new(bytes: &[u8]) -> Secret {
        let hash_keys = HashKeys::derive(bytes);
        Secret { hash_keys }
    }

    pub(crate) fn hash_keys(&self) -> &HashKeys {
        &self.hash_keys
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How the tenant of a request is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantConfig {
    pub source: TenantSource,
    pub names: Vec<NamedCredential>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantSource {
    /// From `authorization` or `x-api-key`.
    Credential,
    /// From a header that a trusted filter before ours sets; the lower-case name.
    Header(String),
}

/// Gives the holder of a credential a name, for budgets and for sharing among its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCredential {
    pub name: String,
    pub digest: CredentialDigest,
}

/// Completion tokens a request may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxTokens {
    /// For requests that do not say.
    pub default: u32,
    /// Larger wishes are lowered to this.
    pub cap: u32,
}

/// A configuration that was refused: which field, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ConfigError {
    /// Such as `models[1].price.input_usd_per_mtok`; `.` for the whole.
    pub path: String,
    pub problem: String,
}

impl ConfigError {
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> ConfigError {
        ConfigError {
            path: path.into(),
            problem: problem.into(),
        }
    }
}
