//! `/v1/models`: its answers.

use serde::Serialize;

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelEntry<'a> {
    /// What a request's `model` must say.
    pub id: &'a str,
    /// When the model was loaded.
    pub created_unix_s: u64,
}

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

/// `GET /v1/models`, in the given order.
pub fn models_list(models: &[ModelEntry<'_>]) -> Vec<u8> {
    super::to_json(&List {
        object: "list",
        data: models.iter().map(Model::from).collect(),
    })
}

/// `GET /v1/models/{id}`.
pub fn model(entry: &ModelEntry<'_>) -> Vec<u8> {
    super::to_json(&Model::from(entry))
}

impl From<&ModelEntry<'_>> for Model {
    fn from(entry: &ModelEntry<'_>) -> Self {
        let id = entry.id.to_owned();
        Self {
            id,
            object: "model",
            created: entry.created_unix_s,
            owned_by: "farthing",
        }
    }
}
