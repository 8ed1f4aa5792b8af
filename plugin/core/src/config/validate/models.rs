//! Models, the names that stand for lists of them, and the thresholds between their members.

use std::collections::BTreeMap;

use super::super::checks::{count, header_value, model_name, within};
use super::super::prices::model_price;
use super::super::raw::RawModel;
use super::super::vocabularies::vocabulary_name;
use super::super::{Model, ModelIndex, ToolSupport, VirtualModel};
use super::{Checked, ConfigError};
use crate::limits::{MAX_TOKENS_MAX, PLUGIN_MODELS_MAX, VIRTUAL_MODELS_MAX};
use crate::metrics::model_suffix;
use crate::price::Price;

pub(super) fn models(raw: Vec<RawModel>, default: Option<&Price>) -> Checked<Vec<Model>> {
    if raw.is_empty() {
        return Err(ConfigError::new("models", "must not be empty"));
    }
    count("models", raw.len(), PLUGIN_MODELS_MAX)?;
    let mut models: Vec<Model> = Vec::with_capacity(raw.len());
    for (position, raw) in raw.into_iter().enumerate() {
        let path = |field: &str| format!("models[{position}].{field}");
        let id = model_name(path("id"), raw.id)?;
        if models.iter().any(|model| model.id == id) {
            return Err(ConfigError::new(
                path("id"),
                format!("`{id}` is already another model"),
            ));
        }
        let same_metrics = |model: &&Model| model_suffix(&model.id) == model_suffix(&id);
        if let Some(other) = models.iter().find(same_metrics) {
            let problem = format!("`{id}` would have the metric names of `{}`", other.id);
            return Err(ConfigError::new(path("id"), problem));
        }
        let upstream_model = match raw.upstream_model {
            Some(name) => model_name(path("upstream_model"), name)?,
            None => id.clone(),
        };
        let (price, price_origin) = model_price(&path("price"), raw.price, default)?;
        models.push(Model {
            id,
            upstream_model,
            tier: header_value(path("tier"), raw.tier)?,
            cluster: header_value(path("cluster"), raw.cluster)?,
            context_tokens: within(
                path("context_tokens"),
                raw.context_tokens,
                2,
                MAX_TOKENS_MAX,
            )?,
            price,
            price_origin,
            tools: if raw.tools {
                ToolSupport::Supported
            } else {
                ToolSupport::Unsupported
            },
            vocabulary: (raw.vocabulary)
                .map(|name| vocabulary_name(path("vocabulary"), name))
                .transpose()?,
            max_tokens_field: raw.max_tokens_field,
        });
    }
    Ok(models)
}

pub(super) fn virtual_models(
    models: &[Model],
    raw: BTreeMap<String, Vec<String>>,
    thresholds: Option<Vec<f64>>,
) -> Checked<Vec<VirtualModel>> {
    count("virtual_models", raw.len(), VIRTUAL_MODELS_MAX)?;
    if let Some(thresholds) = &thresholds {
        check_thresholds(thresholds)?;
        if raw.is_empty() {
            let problem = "must be left out: there is no virtual model to route";
            return Err(ConfigError::new("routing.thresholds", problem));
        }
    }
    raw.into_iter()
        .map(|(id, names)| {
            let path = format!("virtual_models.{id}");
            let id = model_name(path.clone(), id)?;
            if models.iter().any(|model| model.id == id) {
                return Err(ConfigError::new(path, "is already the id of a model"));
            }
            let members = members(models, &path, &names)?;
            let thresholds = thresholds_for(members.len(), thresholds.as_deref(), &path)?;
            Ok(VirtualModel {
                id,
                members,
                thresholds,
            })
        })
        .collect()
}

/// Resolves a virtual model's list and checks that it goes from cheap to dear, because savings are
/// counted against its last member.
fn members(models: &[Model], path: &str, names: &[String]) -> Checked<Vec<ModelIndex>> {
    if names.is_empty() {
        return Err(ConfigError::new(path, "must not be empty"));
    }
    let mut members: Vec<ModelIndex> = Vec::with_capacity(names.len());
    let mut before: Option<&Model> = None;
    for (position, name) in names.iter().enumerate() {
        let refuse =
            |problem: String| Err(ConfigError::new(format!("{path}[{position}]"), problem));
        let Some((index, model)) = models
            .iter()
            .enumerate()
            .find(|(_, model)| model.id == *name)
        else {
            return refuse(format!("`{name}` is not one of `models`"));
        };
        if members.contains(&ModelIndex(index)) {
            return refuse(format!("`{name}` is listed twice"));
        }
        if let Some(before) = before.filter(|before| !model.price.covers(&before.price)) {
            return refuse(format!(
                "must not be cheaper than `{}` before it",
                before.id
            ));
        }
        members.push(ModelIndex(index));
        before = Some(model);
    }
    Ok(members)
}

fn check_thresholds(thresholds: &[f64]) -> Checked<()> {
    let mut before = 0.0;
    for (position, &threshold) in thresholds.iter().enumerate() {
        let refuse = |problem: &str| {
            Err(ConfigError::new(
                format!("routing.thresholds[{position}]"),
                problem,
            ))
        };
        if !(threshold > 0.0 && threshold < 1.0) {
            return refuse("must be between 0 and 1, both excluded");
        }
        if threshold <= before {
            return refuse("must be greater than the one before it");
        }
        before = threshold;
    }
    Ok(())
}

/// The configured thresholds, or evenly spaced ones: `1/k, 2/k, …` for `k` members.
fn thresholds_for(members: usize, thresholds: Option<&[f64]>, path: &str) -> Checked<Vec<f64>> {
    match thresholds {
        None => Ok((1..members).map(|i| i as f64 / members as f64).collect()),
        Some(thresholds) if thresholds.len().saturating_add(1) == members => {
            Ok(thresholds.to_vec())
        }
        Some(thresholds) => Err(ConfigError::new(
            "routing.thresholds",
            format!(
                "must have one entry fewer than `{path}` has models: {} for {members}",
                thresholds.len()
            ),
        )),
    }
}
