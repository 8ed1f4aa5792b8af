//! The verifier of an evaluation: a chat model in an engine of its own.

use std::path::Path;

use crate::error::BackendError;
use crate::semantic::conversation::Asked;
use crate::semantic::verifier::{self, Verifier};
use crate::yes_no::YesNoModel;

/// A chat model that is asked.
pub(super) struct ModelVerifier(YesNoModel);

impl ModelVerifier {
    pub(super) fn load(path: &Path) -> Result<ModelVerifier, BackendError> {
        YesNoModel::load("verifier", path).map(ModelVerifier)
    }
}

impl Verifier for ModelVerifier {
    fn sure(&mut self, cached: &Asked, asking: &Asked) -> Result<Option<f32>, BackendError> {
        let asked = self.0.ask(verifier::prompt(cached, asking));
        asked
            .and_then(|pending| pending.wait())
            .map_err(|error| BackendError::SemanticEval(format!("the verifier: {}", error.message)))
    }
}
