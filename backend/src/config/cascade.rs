//! Cascades: names under which several models answer, each only what a cheaper one cannot.

use std::collections::BTreeMap;
use std::path::PathBuf;

use farthing_core::config::Usd;
use farthing_core::limits;
use farthing_core::money::Nanousd;
use serde::{Deserialize, Serialize, Serializer};

use super::models::{ModelKind, ModelSource, check_name};
use super::provider_models::ProviderModelConfig;
use super::wrong;
use crate::error::BackendError;

/// One cascade. Its models are those of its calibration; each needs a price.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CascadeConfig {
    /// The file that `farthing calibrate cascade` wrote.
    pub calibration: PathBuf,
    /// What a right answer is worth, in dollars: a model is asked when what it costs and the risk
    /// that it is wrong are together less than those of the answer that is there. If absent, the
    /// least with which the cascade is as often right as its dearest model, on the rows of the
    /// calibration.
    #[serde(serialize_with = "worth", skip_serializing_if = "Option::is_none")]
    pub worth_usd: Option<Usd>,
    /// The file that `farthing calibrate router --embedding-model` wrote, for its cheapest and its
    /// dearest model: a prompt that the cheapest is unlikely to be right on goes to the dearest at
    /// once. Nothing but the words of the prompt says so if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_router: Option<PathBuf>,
    /// Share of answers that it may lose to its dearest model, with 95 % confidence on the rows of
    /// the calibration; not held to any if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_loss: Option<f64>,
}

fn worth<S: Serializer>(usd: &Option<Usd>, to: S) -> Result<S::Ok, S::Error> {
    match usd {
        Some(usd) => to.serialize_str(&usd.0.to_string()),
        None => to.serialize_none(),
    }
}

/// Refuses names that are taken and numbers that cannot be, by their path.
pub(super) fn check(
    cascades: &BTreeMap<String, CascadeConfig>,
    virtual_models: &BTreeMap<String, Vec<String>>,
    models: &[ModelSource],
    provided: &[ProviderModelConfig],
) -> Result<(), BackendError> {
    let embeds = models
        .iter()
        .any(|model| model.kind == ModelKind::Embedding);
    if cascades.len() > limits::MODELS_MAX {
        let reason = format!("over {} names", limits::MODELS_MAX);
        return Err(wrong("cascades", reason));
    }
    for (name, cascade) in cascades {
        let at = format!("cascades.{name}");
        check_name(name).map_err(|reason| wrong(&at, reason))?;
        let is_model = models.iter().any(|model| model.id == *name)
            || provided.iter().any(|model| model.id == *name);
        if is_model || virtual_models.contains_key(name) {
            return Err(wrong(at, "a model has this name already"));
        }
        if cascade
            .worth_usd
            .as_ref()
            .is_some_and(|usd| usd.0 == Nanousd::ZERO)
        {
            let reason = "must be above 0: else no answer is worth asking for";
            return Err(wrong(format!("{at}.worth_usd"), reason));
        }
        if cascade.pre_router.is_some() && !embeds {
            let reason = "an embedding model is needed to read prompts";
            return Err(wrong(format!("{at}.pre_router"), reason));
        }
        if let Some(share) = cascade.max_loss
            && !(share > 0.0 && share < 0.5)
        {
            let reason = format!("{share} is not above 0 and below 0.5");
            return Err(wrong(format!("{at}.max_loss"), reason));
        }
    }
    Ok(())
}
