//! Everything the server holds while it runs, and the names by which requests find models in it.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;

use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::limits;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::cascades::Cascade;
use super::identity::Salts;
use super::log;
use super::overhead::Overheads;
use super::semantic::Semantic;
use super::stores;
use super::vocabularies::Vocabularies;
use crate::config::{Config, ModelKind};
use crate::embed::{self, EmbedHandle};
use crate::engine::{self, EngineHandle};
use crate::error::BackendError;
use crate::metrics::Metrics;
use crate::model::{LoadedModel, ModelInfo, ModelOptions, load_model};
use crate::provider::{ProviderModel, Providers};
use crate::remote::Link;
use crate::store::ResponseStore;

/// Shared by all connections; nothing in it changes but counters.
pub struct State {
    /// The configuration in force.
    pub config: Config,
    /// The way to the model thread.
    pub engine: EngineHandle,
    /// Embedding models, in the order of the configuration.
    pub embedders: Vec<EmbedHandle>,
    /// Models that others serve.
    pub providers: Providers,
    /// Counters of requests.
    pub metrics: Arc<Metrics>,
    /// Places for prompts that are being prepared or wait for it.
    pub prompt_places: Arc<Semaphore>,
    /// Cache salts and response ids.
    pub salts: Salts,
    /// The Redis that keeps what is shared with other backends.
    pub redis: Option<Arc<Link>>,
    /// Answers that outlive the process.
    pub store: Option<Arc<dyn ResponseStore>>,
    /// Answers to questions in other words.
    pub semantic: Option<Arc<Semantic>>,
    /// What filters count prompts with.
    pub vocabularies: Vocabularies,
    /// What each chat model's answers come from, by its id. Empty of files where no answers are
    /// kept.
    pub revisions: HashMap<String, String>,
    /// Models that answer one after the other, by the name of all.
    pub cascades: BTreeMap<String, Arc<Cascade>>,
    /// What is owed for what else was computed than answers.
    pub overheads: Arc<Overheads>,
}

/// Who serves a model.
pub enum ServedBy<'a> {
    /// This process.
    Engine(&'a Arc<ModelInfo>),
    /// A provider.
    Provider(&'a Arc<ProviderModel>),
    /// Several, one after the other.
    Cascade(&'a Arc<Cascade>),
}

impl State {
    /// Loads every model of the configuration and starts the model thread.
    ///
    /// # Errors
    /// The first model that cannot be loaded, by its file; a provider's key that is not there.
    pub fn load(config: Config) -> Result<State, BackendError> {
        let providers = Providers::load(&config)?;
        let redis = stores::open_redis(&config)?;
        let store = stores::open_store(&config, redis.as_ref())?;
        let provided = providers.models().iter();
        let mut revisions: HashMap<String, String> = provided
            .map(|model| (model.id.clone(), model.revision()))
            .collect();
        let mut chat = Vec::new();
        let mut embedders = Vec::new();
        for source in &config.models {
            let started = std::time::Instant::now();
            match source.kind {
                ModelKind::Chat => {
                    let options = ModelOptions {
                        context_tokens: source.context_tokens.map(NonZeroUsize::get),
                        kv_tokens: source.kv_tokens.map(NonZeroUsize::get),
                        kv_dtype: source.kv_dtype.into(),
                    };
                    chat.push(load_model(&source.id, &source.path, options)?);
                    if store.is_some() || config.semantic_cache.is_some() {
                        let revision = stores::revision(&source.path, redis.as_ref())?;
                        revisions.insert(source.id.clone(), revision);
                    }
                }
                ModelKind::Embedding => embedders.push(embed::load(&source.id, &source.path)?),
            }
            let elapsed_ms = started.elapsed().as_millis();
            log::event(
                "loaded",
                &[("model", &source.id), ("elapsed_ms", &elapsed_ms)],
            );
        }
        pair_drafts(&config, &mut chat)?;
        let infos = chat.iter().map(|model| model.info.as_ref());
        let vocabularies = Vocabularies::load(infos, config.vocabularies_dir.as_deref())?;
        let salts = Salts::new()?;
        let cascades = Cascade::load_all(&config, (&infos_by_id(&chat), &providers, &embedders))?;
        for (name, cascade) in &cascades {
            revisions.insert(name.clone(), cascade.revision(&revisions));
        }
        let semantic = stores::open_semantic(&config, redis.as_ref(), &embedders, &salts)?;
        let engine = engine::start(chat, config.engine());
        let own = config.models.iter().map(|source| &source.id);
        let provided = config.provider_models.iter().map(|model| &model.id);
        let metrics = Arc::new(Metrics::new(own.chain(provided).cloned()));
        Ok(State {
            engine,
            embedders,
            providers,
            metrics,
            prompt_places: Arc::new(Semaphore::new(limits::PROMPT_QUEUE_MAX)),
            salts,
            redis,
            store,
            semantic,
            vocabularies,
            revisions,
            cascades,
            overheads: Arc::new(Overheads::new(&config)),
            config,
        })
    }

    /// The thread that has ended, if one has: the service is broken until a restart.
    pub fn stopped_worker(&self) -> Option<String> {
        if !self.engine.liveness().is_alive() {
            return Some("the model thread".to_owned());
        }
        let ended = |embedder: &&EmbedHandle| !embedder.liveness().is_alive();
        let embedder = self.embedders.iter().find(ended)?;
        Some(format!("the thread of {}", embedder.id))
    }

    /// Waits until a thread ends, of the models or of an embedding model.
    pub async fn worker_stopped(&self) {
        let mut ends = JoinSet::new();
        ends.spawn(self.engine.liveness().clone().ended());
        for embedder in &self.embedders {
            ends.spawn(embedder.liveness().clone().ended());
        }
        let _ = ends.join_next().await;
    }

    /// Who answers chats for `name`: the model of this id, or the first behind a virtual name.
    ///
    /// # Errors
    /// `ModelNotFound`; `InvalidValue` for an embedding model.
    pub fn served_by(&self, name: &str) -> Result<ServedBy<'_>, ApiError> {
        if let Some(cascade) = self.cascades.get(name) {
            return Ok(ServedBy::Cascade(cascade));
        }
        let behind = self
            .config
            .virtual_models
            .get(name)
            .and_then(|ids| ids.first());
        let id = behind.map_or(name, String::as_str);
        if let Some(model) = self.engine.model(id) {
            return Ok(ServedBy::Engine(model));
        }
        if let Some(model) = self.providers.model(id) {
            return Ok(ServedBy::Provider(model));
        }
        if self.embedders.iter().any(|embedder| embedder.id == name) {
            let message = format!("the model {name} embeds text; use /v1/embeddings");
            return Err(ApiError::new(ErrorKind::InvalidValue, message).param("model"));
        }
        Err(model_not_found(name))
    }

    /// The embedding model of this id.
    ///
    /// # Errors
    /// `ModelNotFound`; `InvalidValue` for a model that generates text.
    pub fn embedder(&self, name: &str) -> Result<&EmbedHandle, ApiError> {
        if let Some(embedder) = self.embedders.iter().find(|embedder| embedder.id == name) {
            return Ok(embedder);
        }
        if self.served_by(name).is_ok() {
            let message = format!("the model {name} does not embed text");
            return Err(ApiError::new(ErrorKind::InvalidValue, message).param("model"));
        }
        Err(model_not_found(name))
    }
}

fn infos_by_id(chat: &[LoadedModel]) -> HashMap<String, Arc<ModelInfo>> {
    let infos = chat.iter().map(|model| &model.info);
    infos
        .map(|info| (info.id.clone(), Arc::clone(info)))
        .collect()
}

/// Gives each chat model the one that drafts for it.
fn pair_drafts(config: &Config, chat: &mut [LoadedModel]) -> Result<(), BackendError> {
    let known: HashMap<String, _> = chat
        .iter()
        .map(|model| {
            let (info, decoder) = (Arc::clone(&model.info), Arc::clone(&model.decoder));
            (model.info.id.clone(), (info, decoder))
        })
        .collect();
    if config.speculative.tokens == 0 {
        return Ok(());
    }
    for source in &config.models {
        let draft = source.draft_model.as_ref().and_then(|id| known.get(id));
        let model = chat.iter_mut().find(|model| model.info.id == source.id);
        if let (Some((info, decoder)), Some(model)) = (draft, model) {
            let paired = model.set_draft(info, Arc::clone(decoder));
            paired.map_err(|error| BackendError::Config {
                path: format!("models[{}].draft_model", source.position),
                message: error.to_string(),
            })?;
        }
    }
    Ok(())
}

/// No model has this name. Names are printable ASCII (the parser saw to that), so it can be echoed.
pub fn model_not_found(name: &str) -> ApiError {
    let message = format!("the model {name} does not exist");
    ApiError::new(ErrorKind::ModelNotFound, message).param("model")
}
