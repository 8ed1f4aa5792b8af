//! Models, and the names that stand for lists of them.

use std::collections::BTreeMap;

use super::super::checks::{count, header_value, model_name, within};
use super::super::prices::model_price;
use super::super::raw::RawModel;
use super::super::vocabularies::vocabulary_name;
use super::super::{Model, ModelIndex, Support, Target, VirtualModel};
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
            tools: support(raw.tools),
            images: support(raw.images),
            json_schema: support(raw.json_schema),
            vocabulary: (raw.vocabulary)
                .map(|name| vocabulary_name(path("vocabulary"), name))
                .transpose()?,
            max_tokens_field: raw.max_tokens_field,
        });
    }
    Ok(models)
}

fn support(is_able: bool) -> Support {
    match is_able {
        true => Support::Supported,
        false => Support::Unsupported,
    }
}

pub(super) fn virtual_models(
    models: &[Model],
    raw: BTreeMap<String, Vec<String>>,
) -> Checked<Vec<VirtualModel>> {
    count("virtual_models", raw.len(), VIRTUAL_MODELS_MAX)?;
    raw.into_iter()
        .map(|(id, names)| {
            let path = format!("virtual_models.{id}");
            let id = model_name(path.clone(), id)?;
            if models.iter().any(|model| model.id == id) {
                return Err(ConfigError::new(path, "is already the id of a model"));
            }
            let members = members(models, &path, &names)?;
            let target = Target::even(members.len());
            Ok(VirtualModel {
                id,
                members,
                target,
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
