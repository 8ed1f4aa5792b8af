//! `/v1/models`: chat models first, ours before those of providers, then virtual ones, then
//! embedding models.

use farthing_core::error::ApiError;
use farthing_core::wire::models::{ModelEntry, model, models_list};
use hyper::Response;

use super::State;
use super::reply::{self, ReplyBody};
use super::state::model_not_found;

/// The list.
pub fn list(state: &State) -> Response<ReplyBody> {
    reply::json(models_list(&entries(state)))
}

/// One entry.
///
/// # Errors
/// `ModelNotFound`.
pub fn one(state: &State, id: &str) -> Result<Response<ReplyBody>, ApiError> {
    let entries = entries(state);
    let entry = entries
        .iter()
        .find(|entry| entry.id == id)
        .ok_or_else(|| model_not_found(id))?;
    Ok(reply::json(model(entry)))
}

fn entries(state: &State) -> Vec<ModelEntry<'_>> {
    let models = state.engine.models();
    let chat = models.iter().map(|model| ModelEntry {
        id: &model.id,
        created_unix_s: model.created_unix_s,
    });
    let provided_since = state.providers.started_unix_s();
    let provided = state.providers.models().iter().map(|model| ModelEntry {
        id: &model.id,
        created_unix_s: provided_since,
    });
    // A virtual model is as old as the first model behind it.
    let named = state
        .config
        .virtual_models
        .iter()
        .filter_map(|(id, behind)| {
            let first = behind.first()?;
            let own = state.engine.model(first).map(|model| model.created_unix_s);
            let provided = state.providers.model(first).map(|_| provided_since);
            Some(ModelEntry {
                id,
                created_unix_s: own.or(provided)?,
            })
        });
    let cascades = state.cascades.iter().map(|(id, cascade)| ModelEntry {
        id,
        created_unix_s: cascade.created_unix_s(provided_since),
    });
    let embedding = state.embedders.iter().map(|model| ModelEntry {
        id: &model.id,
        created_unix_s: model.created_unix_s,
    });
    let named = named.chain(cascades);
    chat.chain(provided).chain(named).chain(embedding).collect()
}
