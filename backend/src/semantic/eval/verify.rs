//! The verifier of an evaluation: a chat model in an engine of its own.

use std::path::Path;
use std::sync::Arc;

use farthing_core::error::ApiError;
use farthing_core::price::ServiceTier;

use crate::engine::{self, EngineConfig, EngineEvent, EngineHandle};
use crate::error::BackendError;
use crate::model::{ModelInfo, ModelOptions, load_model};
use crate::semantic::asking;
use crate::semantic::conversation::Asked;
use crate::semantic::verifier::Verifier;

/// What the model is called here.
const ID: &str = "verifier";

/// The longest pair of conversations and questions.
const CONTEXT_TOKENS: usize = 8_192;

/// A chat model that is asked.
pub(super) struct ModelVerifier {
    engine: EngineHandle,
    model: Arc<ModelInfo>,
}

impl ModelVerifier {
    pub(super) fn load(path: &Path) -> Result<ModelVerifier, BackendError> {
        let options = ModelOptions {
            context_tokens: Some(CONTEXT_TOKENS),
            kv_tokens: Some(CONTEXT_TOKENS),
            kv_dtype: farthing_kernels::KvDtype::F16,
        };
        let model = load_model(ID, path, options)?;
        let info = Arc::clone(&model.info);
        Ok(ModelVerifier {
            engine: engine::start(vec![model], EngineConfig::default()),
            model: info,
        })
    }

    fn ask(&self, cached: &Asked, asking: &Asked) -> Result<Option<f32>, ApiError> {
        let tier = ServiceTier::Standard;
        let request = asking::request(&self.model, (cached, asking), tier, [0; 32])?;
        let mut events = self.engine.submit(request)?;
        while let Some(event) = events.blocking_recv() {
            if let Some(sure) = asking::read(&event) {
                return Ok(Some(sure));
            }
            if let EngineEvent::Failed(error) = event {
                return Err(error);
            }
        }
        Ok(None)
    }
}

impl Verifier for ModelVerifier {
    fn sure(&mut self, cached: &Asked, asking: &Asked) -> Result<Option<f32>, BackendError> {
        let asked = self.ask(cached, asking);
        asked
            .map_err(|error| BackendError::SemanticEval(format!("the verifier: {}", error.message)))
    }
}
