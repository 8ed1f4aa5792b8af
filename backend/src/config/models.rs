//! Which models are served, under which names: listed in the file, or found in a folder.

use std::collections::{BTreeMap, HashSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use farthing_core::limits;
use farthing_kernels::KvDtype;
use serde::{Deserialize, Serialize};

use super::cascade::CascadeConfig;
use super::price::PriceConfig;
use super::provider_models::{MaxTokensField, ProviderModelConfig, check_upstream_name};
use super::wrong;
use crate::error::BackendError;
use crate::model::checkpoint;

/// One model to load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelSource {
    /// The id that requests name.
    pub id: String,
    /// GGUF file, or folder with safetensors.
    pub path: PathBuf,
    /// What it is for; follows from the path, so it is not written in the file.
    #[serde(skip)]
    pub kind: ModelKind,
    /// Context in tokens, where less than the model's own is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<NonZeroUsize>,
    /// Tokens of KV cache to reserve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_tokens: Option<NonZeroUsize>,
    /// How the KV cache stores keys and values.
    pub kv_dtype: KvCacheDtype,
    /// Its share of the computing time beside other models that have work; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<NonZeroU32>,
    /// The chat model that guesses ahead for this one, of the same vocabulary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_model: Option<String>,
    /// What its tokens cost. Cascades need it; where it is there for an embedding model or a
    /// verifier, what they compute is in the bill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceConfig>,
    /// Its place in the list of the file, for errors.
    #[serde(skip)]
    pub position: usize,
}

/// How keys and values are stored: int8 takes half the memory of f16, for a little less precision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KvCacheDtype {
    #[default]
    F16,
    Int8,
}

// === impl KvCacheDtype ===

impl From<KvCacheDtype> for KvDtype {
    fn from(dtype: KvCacheDtype) -> KvDtype {
        match dtype {
            KvCacheDtype::F16 => KvDtype::F16,
            KvCacheDtype::Int8 => KvDtype::Int8,
        }
    }
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// Generates text: a GGUF file, or a folder whose config.json says so.
    Chat,
    /// Embeds text: any other folder with safetensors.
    Embedding,
}

// === impl ModelKind ===

impl ModelKind {
    fn of_folder(folder: &Path) -> ModelKind {
        if checkpoint::generates_text(folder) {
            ModelKind::Chat
        } else {
            ModelKind::Embedding
        }
    }
}

/// One entry of `models` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    id: String,
    /// Of a model that is loaded here.
    path: Option<PathBuf>,
    context_tokens: Option<NonZeroUsize>,
    kv_tokens: Option<NonZeroUsize>,
    kv_dtype: Option<KvCacheDtype>,
    weight: Option<NonZeroU32>,
    draft_model: Option<String>,
    price: Option<PriceConfig>,
    /// Of a model that a provider serves.
    provider: Option<String>,
    upstream_model: Option<String>,
    max_tokens_field: Option<MaxTokensField>,
    fallbacks: Option<Vec<String>>,
}

/// One entry of `models`, by who serves it.
pub(super) enum Listed {
    Own(ModelSource),
    Provided(ProviderModelConfig),
}

impl RawModel {
    /// Checks one entry; a relative path starts at the models folder where one is given.
    pub(super) fn check(
        self,
        index: usize,
        models_dir: Option<&Path>,
    ) -> Result<Listed, BackendError> {
        match (&self.path, &self.provider) {
            (Some(_), None) => self.check_own(index, models_dir).map(Listed::Own),
            (None, Some(_)) => self.check_provided(index).map(Listed::Provided),
            _ => {
                let reason = "a model has a path, or a provider";
                Err(wrong(format!("models[{index}]"), reason))
            }
        }
    }

    fn check_provided(self, index: usize) -> Result<ProviderModelConfig, BackendError> {
        let at = |field: &str| format!("models[{index}].{field}");
        check_price(self.price.as_ref(), &at("price"), ModelKind::Chat)?;
        check_name(&self.id).map_err(|reason| wrong(at("id"), reason))?;
        for (field, is_set) in [
            ("kv_tokens", self.kv_tokens.is_some()),
            ("kv_dtype", self.kv_dtype.is_some()),
            ("weight", self.weight.is_some()),
            ("draft_model", self.draft_model.is_some()),
        ] {
            if is_set {
                return Err(wrong(at(field), "is for models that are loaded here"));
            }
        }
        let upstream_model = self.upstream_model.unwrap_or_else(|| self.id.clone());
        check_upstream_name(&upstream_model)
            .map_err(|reason| wrong(at("upstream_model"), reason))?;
        Ok(ProviderModelConfig {
            id: self.id,
            provider: self.provider.unwrap_or_default(),
            upstream_model,
            context_tokens: self.context_tokens,
            max_tokens_field: self.max_tokens_field,
            fallbacks: self.fallbacks.unwrap_or_default(),
            price: self.price,
            position: index,
        })
    }

    fn check_own(
        self,
        index: usize,
        models_dir: Option<&Path>,
    ) -> Result<ModelSource, BackendError> {
        let at = |field: &str| format!("models[{index}].{field}");
        for (field, is_set) in [
            ("upstream_model", self.upstream_model.is_some()),
            ("max_tokens_field", self.max_tokens_field.is_some()),
            ("fallbacks", self.fallbacks.is_some()),
        ] {
            if is_set {
                return Err(wrong(at(field), "is for models of a provider"));
            }
        }
        let path = self.path.unwrap_or_default();
        let path = models_dir.map_or_else(|| path.clone(), |dir| dir.join(&path));
        let kind = if path.is_dir() {
            ModelKind::of_folder(&path)
        } else if path.is_file() {
            ModelKind::Chat
        } else {
            return Err(wrong(
                at("path"),
                format!("no such file or folder: {}", path.display()),
            ));
        };
        check_price(self.price.as_ref(), &at("price"), kind)?;
        check_name(&self.id).map_err(|reason| wrong(at("id"), reason))?;
        if let Some(weight) = self.weight
            && weight.get() > limits::MODEL_WEIGHT_MAX
        {
            let reason = format!("{weight} is over {}", limits::MODEL_WEIGHT_MAX);
            return Err(wrong(at("weight"), reason));
        }
        Ok(ModelSource {
            id: self.id,
            path,
            kind,
            context_tokens: self.context_tokens,
            kv_tokens: self.kv_tokens,
            kv_dtype: self.kv_dtype.unwrap_or_default(),
            weight: self.weight,
            draft_model: self.draft_model,
            price: self.price,
            position: index,
        })
    }
}

fn check_price(price: Option<&PriceConfig>, at: &str, kind: ModelKind) -> Result<(), BackendError> {
    price.map_or(Ok(()), |price| price.check(at, kind))
}

/// What an embedding model is in.
const EMBEDDING_WEIGHTS: &str = "model.safetensors";

/// Finds the models of a folder, the smallest file first: the cheapest model leads the list.
pub(super) fn discover(dir: Option<&Path>) -> Result<Vec<ModelSource>, BackendError> {
    let Some(dir) = dir else {
        return Err(wrong(
            "models",
            "no models: name them here, or give --models DIR",
        ));
    };
    let unreadable =
        |error: std::io::Error| wrong("models_dir", format!("{}: {error}", dir.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_gguf = path
            .extension()
            .is_some_and(|extension| extension == "gguf");
        let (kind, name, weights) = if path.is_dir() {
            // A folder without weights is none of ours.
            let Ok(weights) = checkpoint::weight_files(&path) else {
                continue;
            };
            let kind = ModelKind::of_folder(&path);
            // An adapter's, say: only whole files embed.
            if kind == ModelKind::Embedding && !path.join(EMBEDDING_WEIGHTS).is_file() {
                continue;
            }
            (kind, path.file_name(), weights)
        } else if is_gguf {
            (ModelKind::Chat, path.file_stem(), vec![path.clone()])
        } else {
            continue;
        };
        let id = name
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        check_name(&id).map_err(|reason| wrong(path.display(), reason))?;
        let mut bytes = 0;
        for file in &weights {
            bytes += std::fs::metadata(file).map_err(unreadable)?.len();
        }
        let source = ModelSource {
            id,
            path,
            kind,
            context_tokens: None,
            kv_tokens: None,
            kv_dtype: KvCacheDtype::default(),
            weight: None,
            draft_model: None,
            price: None,
            position: 0,
        };
        found.push((kind == ModelKind::Embedding, bytes, source));
        if found.len() > limits::MODELS_MAX {
            return Err(wrong(
                "models_dir",
                format!("over {} models", limits::MODELS_MAX),
            ));
        }
    }
    found.sort_by(|a, b| (a.0, a.1, &a.2.id).cmp(&(b.0, b.1, &b.2.id)));
    if found.is_empty() {
        return Err(wrong(
            "models_dir",
            format!("no model in {}", dir.display()),
        ));
    }
    let placed = |(position, (_, _, source))| ModelSource { position, ..source };
    Ok(found.into_iter().enumerate().map(placed).collect())
}

/// A model name travels in a response header, so it is visible ASCII.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > limits::MODEL_NAME_BYTES_MAX {
        return Err(format!(
            "a model name has 1 to {} bytes",
            limits::MODEL_NAME_BYTES_MAX
        ));
    }
    if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a model name is visible ASCII without spaces".to_owned());
    }
    Ok(())
}

/// No two models have one id.
pub(super) fn check_ids(
    models: &[ModelSource],
    provided: &[ProviderModelConfig],
) -> Result<(), BackendError> {
    if models.len() + provided.len() > limits::MODELS_MAX {
        return Err(wrong(
            "models",
            format!("over {} models", limits::MODELS_MAX),
        ));
    }
    let own = models.iter().map(|model| (model.position, &model.id));
    let provided = provided.iter().map(|model| (model.position, &model.id));
    let mut all: Vec<_> = own.chain(provided).collect();
    all.sort();
    let mut seen = HashSet::new();
    for (index, id) in all {
        if !seen.insert(id) {
            let reason = format!("\"{id}\" is the id of another model too");
            return Err(wrong(format!("models[{index}].id"), reason));
        }
    }
    Ok(())
}

/// Models that guess for others are chat models of the list. One may guess for itself, which only
/// shows what guessing costs.
pub(super) fn check_drafts(models: &[ModelSource]) -> Result<(), BackendError> {
    let is_chat = |id: &str| {
        let mut known = models.iter();
        known.any(|model| model.id == id && model.kind == ModelKind::Chat)
    };
    for model in models {
        let Some(draft) = &model.draft_model else {
            continue;
        };
        let at = format!("models[{}].draft_model", model.position);
        if model.kind != ModelKind::Chat {
            return Err(wrong(at, "only chat models have one"));
        }
        if !is_chat(draft) {
            return Err(wrong(at, format!("no chat model \"{draft}\"")));
        }
    }
    Ok(())
}

/// Virtual names point at chat models. Where none are configured, `auto` means all that are loaded
/// here: what others serve costs money, and nobody named it.
pub(super) fn check_virtual(
    named: Option<BTreeMap<String, Vec<String>>>,
    models: &[ModelSource],
    provided: &[ProviderModelConfig],
    cascades: &BTreeMap<String, CascadeConfig>,
) -> Result<BTreeMap<String, Vec<String>>, BackendError> {
    let is_chat = |model: &&ModelSource| model.kind == ModelKind::Chat;
    let is_provided = |id: &String| provided.iter().any(|model| model.id == *id);
    let Some(named) = named else {
        let ids: Vec<_> = models
            .iter()
            .filter(is_chat)
            .map(|model| model.id.clone())
            .collect();
        let is_free =
            models.iter().all(|model| model.id != "auto") && !cascades.contains_key("auto");
        let has_models = !ids.is_empty() && is_free && !is_provided(&"auto".to_owned());
        return Ok(has_models
            .then(|| ("auto".to_owned(), ids))
            .into_iter()
            .collect());
    };
    if named.len() > limits::MODELS_MAX {
        return Err(wrong(
            "virtual_models",
            format!("over {} names", limits::MODELS_MAX),
        ));
    }
    for (name, ids) in &named {
        let at = format!("virtual_models.{name}");
        check_name(name).map_err(|reason| wrong(&at, reason))?;
        if models.iter().any(|model| model.id == *name) || is_provided(name) {
            return Err(wrong(at, "a model has this id already"));
        }
        if ids.is_empty() {
            return Err(wrong(at, "names no model"));
        }
        for (index, id) in ids.iter().enumerate() {
            let is_own = models.iter().filter(is_chat).any(|model| model.id == *id);
            if !is_own && !is_provided(id) {
                return Err(wrong(
                    format!("{at}[{index}]"),
                    format!("no chat model \"{id}\""),
                ));
            }
        }
    }
    Ok(named)
}
