//! The configuration as it is written: field names, accepted spellings and every default. Nothing
//! here is checked beyond its type; `validate` does that.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::budget::RawBudget;
use super::cache::RawCache;
use super::compaction::RawCompaction;
use super::prices::RawPrice;
use super::routes::RawRoute;
use super::routing::RawRouting;
use super::tree::Tree;
use super::vocabularies::RawVocabularies;
use super::{ConfigError, LedgerTransport, MaxTokensField};
use crate::money::Nanousd;

/// The whole configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct RawConfig {
    /// The models that can be served, from cheap to dear.
    pub models: Vec<RawModel>,
    /// For models without a `price`. Default: each must have one.
    pub default_price: Option<RawPrice>,
    /// Names that stand for a list of models, from cheap to dear, for the router to choose from: a
    /// name of your own, or one that clients already ask for. Savings count against the last.
    #[serde(default)]
    pub virtual_models: BTreeMap<String, Vec<String>>,
    /// Keys tenant ids and cache keys; without one they can be recomputed by who knows the
    /// credential.
    #[serde(default)]
    pub secret: String,
    /// How the tenant of a request is found.
    #[serde(default)]
    pub tenant: RawTenant,
    /// What each tenant may spend in each window. Default: no budgets.
    pub budget: Option<RawBudget>,
    /// Answers repeats without asking a model.
    #[serde(default)]
    pub cache: RawCache,
    /// Completion tokens that a request may ask for.
    #[serde(default)]
    pub max_tokens: RawMaxTokens,
    /// Where the line that each request leaves behind goes: into its stream's filter state
    /// `wasm.farthing_ledger`, for access logs, or into Envoy's own log.
    #[serde(default)]
    pub ledger: LedgerTransport,
    /// Which member of a virtual model gets a request.
    #[serde(default)]
    pub routing: RawRouting,
    /// Exceptions for a part of the traffic: the first that matches a request applies to it.
    #[serde(default)]
    pub routes: Vec<RawRoute>,
    /// What is taken out of a request on its way to the model.
    #[serde(default)]
    pub compaction: RawCompaction,
    /// Who serves the vocabularies that models name. Default: nobody, and only those that are part
    /// of the filter's build can be named.
    pub vocabularies: Option<RawVocabularies>,
    /// Requests that are not ours to judge and may pass, each a method and a path; an empty list
    /// lets nothing pass. Default: `GET /v1/models` and
    /// `GET /v1/models/*`.
    pub passthrough: Option<Vec<String>>,
    /// Envoy's cluster for requests that are not ours to judge. Default: the cluster of the first
    /// model.
    pub passthrough_cluster: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct RawModel {
    /// The name that clients ask for; it pins the model.
    pub id: String,
    /// The name that the upstream knows it by. Default: `id`.
    pub upstream_model: Option<String>,
    /// How dear it is, in a word of your own.
    pub tier: String,
    /// Envoy's cluster that serves it.
    pub cluster: String,
    /// Tokens of prompt and completion together.
    pub context_tokens: WholeNumber,
    /// What it costs. Default: `default_price`.
    pub price: Option<RawPrice>,
    /// Can it be sent tools?
    #[serde(default)]
    pub tools: bool,
    /// Can it be sent images?
    #[serde(default = "is_able")]
    pub images: bool,
    /// Can it hold its answer, or what it calls a tool with, to a JSON schema?
    #[serde(default = "is_able")]
    pub json_schema: bool,
    /// The vocabulary that counts its prompts exactly. Default: they are estimated.
    pub vocabulary: Option<String>,
    /// The field by which it takes a bound on its answer. Default: whichever the client uses.
    pub max_tokens_field: Option<MaxTokensField>,
}

/// A request that its model turns out unable to answer is refused by its provider, so silence lets
/// pass.
fn is_able() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub(super) struct RawTenant {
    /// A keyed hash of the credential, or a header that a trusted filter before ours sets.
    pub source: RawTenantSource,
    /// The name of that header: only, and always, with `source: header`.
    pub header: Option<String>,
    /// Names for credentials, for budgets and for what several credentials share.
    pub names: Vec<RawNamedCredential>,
}

impl Default for RawTenant {
    fn default() -> Self {
        RawTenant {
            source: RawTenantSource::Credential,
            header: None,
            names: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawTenantSource {
    Credential,
    Header,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct RawNamedCredential {
    /// The tenant.
    pub name: String,
    /// Hex; of the bearer token or API key without its scheme.
    pub credential_sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub(super) struct RawMaxTokens {
    /// For requests that do not say.
    pub default: WholeNumber,
    /// A request that asks for more gets this.
    pub cap: WholeNumber,
}

impl Default for RawMaxTokens {
    fn default() -> Self {
        RawMaxTokens {
            default: WholeNumber(512),
            cap: WholeNumber(4_096),
        }
    }
}

impl RawConfig {
    /// Is there a model, or a virtual one, of that name?
    pub fn names_model(&self, name: &str) -> bool {
        self.models.iter().any(|model| model.id == name) || self.virtual_models.contains_key(name)
    }
}

/// Gives the tree its types. An error carries the path of its field.
pub(super) fn deserialize(tree: Value) -> Result<RawConfig, ConfigError> {
    serde_path_to_error::deserialize(Tree(tree)).map_err(|error| {
        let path = match error.path().to_string() {
            path if path == "." => "configuration".to_owned(),
            path => path,
        };
        ConfigError::new(path, error.inner().to_string())
    })
}

/// A whole number of at least 0, in any spelling: a `Struct` knows only doubles, so `3600.0` is
/// 3600.
#[derive(Clone, Copy, Debug)]
pub(super) struct WholeNumber(pub u64);

/// Doubles are exact up to here.
const DOUBLE_EXACT_MAX: f64 = 9_007_199_254_740_992.0;

impl<'de> Deserialize<'de> for WholeNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WholeNumberVisitor)
    }
}

struct WholeNumberVisitor;

impl Visitor<'_> for WholeNumberVisitor {
    type Value = WholeNumber;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number of at least 0")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<WholeNumber, E> {
        Ok(WholeNumber(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<WholeNumber, E> {
        Err(E::invalid_value(de::Unexpected::Signed(value), &self))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<WholeNumber, E> {
        if value.fract() == 0.0 && (0.0..=DOUBLE_EXACT_MAX).contains(&value) {
            return Ok(WholeNumber(value as u64));
        }
        Err(E::invalid_value(de::Unexpected::Float(value), &self))
    }
}

/// Dollars, as a number or as text. A number is read through its shortest decimal spelling, which
/// is how it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usd(pub Nanousd);

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UsdVisitor)
    }
}

struct UsdVisitor;

impl Visitor<'_> for UsdVisitor {
    type Value = Usd;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dollars of at least 0, such as 0.15")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Usd, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Usd, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Usd, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Usd, E> {
        Nanousd::parse_usd(value).map(Usd).map_err(E::custom)
    }
}

/// A number, as one or as text: Envoy's YAML reads `0.5` into a `Struct` as the text "0.5".
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fraction(pub f64);

impl<'de> Deserialize<'de> for Fraction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FractionVisitor)
    }
}

struct FractionVisitor;

impl Visitor<'_> for FractionVisitor {
    type Value = Fraction;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, such as 0.5")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Fraction, E> {
        self.visit_f64(value as f64)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Fraction, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Fraction, E> {
        Ok(Fraction(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Fraction, E> {
        let number = value.parse().ok().filter(|number: &f64| number.is_finite());
        let refused = || E::invalid_value(de::Unexpected::Str(value), &self);
        number.map(Fraction).ok_or_else(refused)
    }
}
