//! Models that others serve: which of them is asked, how often and with what patience.
//!
//! What is decided is pure, with time and seeds as arguments: [`hints`] reads how long a provider
//! asks to be left alone, [`retry`] whether the same one is asked again, [`breaker`] whether it is
//! asked at all, [`failure`] what a failure leads to. The rest moves bytes: [`client`] opens
//! connections, [`key`] holds a credential, [`attempt`] makes one request, [`answered`] reads its
//! stream, [`ask`] makes as many as it takes.
//!
//! Which JSON is sent and read is `farthing_core::wire::provider`'s to know.

pub mod answered;
mod ask;
mod attempt;
pub mod breaker;
pub mod client;
pub mod failure;
pub mod hints;
pub mod key;
mod metrics;
mod model;
pub mod retry;

use std::sync::Arc;
use std::time::Instant;

pub use answered::{Answer, StreamedAnswer};
pub use ask::{AnswerForm, Asked, Question, ask};
pub use failure::Failure;
pub use model::{Provider, ProviderModel, Timeouts};

use crate::config::Config;
use crate::error::BackendError;
use crate::metrics::Page;
use crate::store::now_unix_s;

/// All models that others serve.
#[derive(Debug, Default)]
pub struct Providers {
    models: Vec<Arc<ProviderModel>>,
    started_unix_s: u64,
}

// === impl Providers ===

impl Providers {
    /// Reads keys and certificates, and opens nothing yet.
    ///
    /// # Errors
    /// A key that is not there or cannot be a key, or certificates that are none, by the field
    /// that names them.
    pub fn load(config: &Config) -> Result<Providers, BackendError> {
        let clock = Instant::now();
        let mut providers = Vec::with_capacity(config.providers.len());
        for (index, provider) in config.providers.iter().enumerate() {
            let at = format!("providers[{index}]");
            providers.push(Arc::new(Provider::load(provider, &at, clock)?));
        }
        let of = |name: &str| providers.iter().find(|provider| provider.name == name);
        let models = config.provider_models.iter().filter_map(|model| {
            // The configuration has seen to it that there is one.
            let provider = Arc::clone(of(&model.provider)?);
            Some(Arc::new(ProviderModel::new(model, provider)))
        });
        Ok(Providers {
            models: models.collect(),
            started_unix_s: now_unix_s(),
        })
    }

    /// The model of this id.
    pub fn model(&self, id: &str) -> Option<&Arc<ProviderModel>> {
        self.models.iter().find(|model| model.id == id)
    }

    /// All of them, in the order of the configuration.
    pub fn models(&self) -> &[Arc<ProviderModel>] {
        &self.models
    }

    /// Since when they are served.
    pub fn started_unix_s(&self) -> u64 {
        self.started_unix_s
    }

    /// Writes what is counted of them.
    pub fn write_metrics(&self, page: &mut Page) {
        metrics::write(&self.models, page);
    }
}
