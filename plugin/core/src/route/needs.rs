//! What a request needs that not every model has.

use crate::config::{Model, Support};
use crate::error::{ApiError, ErrorKind};
use crate::wire::Request;

/// One need, with the field of the request that it comes from.
pub(super) struct Need {
    /// As an error says it.
    what: &'static str,
    param: &'static str,
    support: fn(&Model) -> Support,
}

/// The needs of a request.
pub(super) fn of(request: &Request) -> impl Iterator<Item = Need> {
    let tools = request.tools.then_some(Need {
        what: "tools",
        param: "tools",
        support: |model| model.tools,
    });
    let images = request.has_images().then_some(Need {
        what: "images",
        param: request.endpoint.prompt_field(),
        support: |model| model.images,
    });
    let schema = request.json_schema_field().map(|param| Need {
        what: "a JSON schema",
        param,
        support: |model| model.json_schema,
    });
    [tools, images, schema].into_iter().flatten()
}

impl Need {
    pub(super) fn is_met(&self, model: &Model) -> bool {
        (self.support)(model) == Support::Supported
    }

    pub(super) fn refusal(&self, model: &str) -> ApiError {
        let message = format!("the model \"{model}\" does not take {}", self.what);
        ApiError::new(ErrorKind::InvalidValue, message).param(self.param)
    }
}
