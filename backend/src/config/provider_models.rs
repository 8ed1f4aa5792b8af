//! Models that a provider serves (`models[].provider`), and which of all models answer in whose
//! place.

use std::num::{NonZeroU32, NonZeroUsize};

use farthing_core::limits;
use serde::{Deserialize, Serialize};

use super::models::{ModelKind, ModelSource};
use super::price::PriceConfig;
use super::providers::ProviderConfig;
use super::wrong;
use crate::error::BackendError;

/// One model of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderModelConfig {
    /// The id that requests name.
    pub id: String,
    /// The provider, by its name.
    pub provider: String,
    /// What the provider calls the model.
    pub upstream_model: String,
    /// Prompt and answer together; a request for more than that is refused without asking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<NonZeroUsize>,
    /// The only name of the answer's limit that it knows, if it knows one only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens_field: Option<MaxTokensField>,
    /// Who answers, in this order, where it does not: models of providers, or chat models of our
    /// own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<String>,
    /// What its tokens cost; cascades need it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceConfig>,
    /// Its place in the list of the file, for errors.
    #[serde(skip)]
    pub(super) position: usize,
}

/// The two names of one limit of a chat's answer. OpenAI's reasoning models take only the newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensField {
    MaxTokens,
    MaxCompletionTokens,
}

// === impl MaxTokensField ===

impl From<MaxTokensField> for farthing_core::config::MaxTokensField {
    fn from(field: MaxTokensField) -> Self {
        match field {
            MaxTokensField::MaxTokens => Self::MaxTokens,
            MaxTokensField::MaxCompletionTokens => Self::MaxCompletionTokens,
        }
    }
}

// === impl ProviderModelConfig ===

impl ProviderModelConfig {
    /// Its place in the list of the file.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The longest answer that may be asked for.
    pub fn max_tokens_max(&self) -> Option<NonZeroU32> {
        let tokens = self.context_tokens?.get();
        NonZeroU32::new(u32::try_from(tokens).unwrap_or(u32::MAX))
    }
}

/// A model's name at its provider stands in an address, so it has only what needs no escaping.
pub(super) fn check_upstream_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte);
    if name.is_empty() || name.len() > limits::MODEL_NAME_BYTES_MAX {
        let max = limits::MODEL_NAME_BYTES_MAX;
        return Err(format!("a model name has 1 to {max} bytes"));
    }
    let climbs = name.split('/').any(|part| part.is_empty() || part == "..");
    if climbs || !name.bytes().all(is_plain) {
        return Err("a model name has letters, digits and -_.:/@ only".to_owned());
    }
    Ok(())
}

/// Checks what they name: providers, and models that answer in their place.
pub(super) fn check(
    models: &[ProviderModelConfig],
    providers: &[ProviderConfig],
    own: &[ModelSource],
) -> Result<(), BackendError> {
    let is_chat = |id: &str| {
        let of_own = |model: &ModelSource| model.id == id && model.kind == ModelKind::Chat;
        own.iter().any(of_own) || models.iter().any(|model| model.id == id)
    };
    for model in models {
        let at = |field: &str| format!("models[{}].{field}", model.position);
        if !providers.iter().any(|known| known.name == model.provider) {
            let reason = format!("no provider \"{}\"", model.provider);
            return Err(wrong(at("provider"), reason));
        }
        if model.fallbacks.len() > limits::PROVIDER_FALLBACKS_MAX {
            let reason = format!("over {} models", limits::PROVIDER_FALLBACKS_MAX);
            return Err(wrong(at("fallbacks"), reason));
        }
        for (index, id) in model.fallbacks.iter().enumerate() {
            let at = at(&format!("fallbacks[{index}]"));
            if *id == model.id || model.fallbacks[..index].contains(id) {
                return Err(wrong(at, "has been asked by then"));
            }
            if !is_chat(id) {
                return Err(wrong(at, format!("no chat model \"{id}\"")));
            }
        }
    }
    Ok(())
}
