//! Opening what outlives the process: the response store and the semantic cache, each in a file or
//! in the Redis that several backends share.

use std::path::Path;
use std::sync::Arc;

use super::identity::Salts;
use super::log;
use super::semantic::Semantic;
use crate::config::{Config, Place};
use crate::embed::EmbedHandle;
use crate::error::BackendError;
use crate::remote::Link;
use crate::semantic::bound::{MaxWrong, RouteBound};
use crate::semantic::cache::SemanticCache;
use crate::semantic::calibration::CacheCalibration;
use crate::semantic::store::{EmbeddedStore, RedisSemanticStore, SemanticStore};
use crate::store::{self, DiskStore, RedisStore, ResponseStore, Told};

/// The way to Redis, if anything is there.
pub(super) fn open_redis(config: &Config) -> Result<Option<Arc<Link>>, BackendError> {
    let store = config.response_store.as_ref().map(|store| &store.place);
    let semantic = config.semantic_cache.as_ref().map(|cache| &cache.place);
    match &config.redis {
        Some(redis) if [store, semantic].contains(&Some(&Place::Redis)) => {
            Ok(Some(Arc::new(Link::start(redis)?)))
        }
        _ => Ok(None),
    }
}

/// What a model's answers come from. Where they are shared, it must be the same on each machine.
pub(super) fn revision(path: &Path, redis: Option<&Arc<Link>>) -> Result<String, BackendError> {
    let told = match redis {
        Some(_) => Told::ByPieces,
        None => Told::ByTime,
    };
    store::revision(path, told).map_err(|source| BackendError::Io {
        what: path.display().to_string(),
        source,
    })
}

/// The response store, if there is one.
pub(super) fn open_store(
    config: &Config,
    redis: Option<&Arc<Link>>,
) -> Result<Option<Arc<dyn ResponseStore>>, BackendError> {
    let Some(store) = &config.response_store else {
        return Ok(None);
    };
    Ok(match (&store.place, redis.zip(config.redis.as_ref())) {
        (Place::File { path, bytes_max }, _) => {
            Some(Arc::new(DiskStore::open(path, bytes_max.get())?))
        }
        (Place::Redis, Some((link, redis))) => {
            Some(Arc::new(RedisStore::start(link, &redis.prefix)?))
        }
        // The configuration has been checked for it.
        (Place::Redis, None) => None,
    })
}

fn open_semantic_store(
    config: &Config,
    (place, embedder): (&Place, &str),
    redis: Option<&Arc<Link>>,
) -> Result<Option<Arc<dyn SemanticStore>>, BackendError> {
    match (place, redis.zip(config.redis.as_ref())) {
        (Place::File { path, bytes_max }, _) => {
            let store = EmbeddedStore::open(path, bytes_max.get())?;
            let damage = store.damage();
            if damage.places > 0 {
                let fields: [(&str, &dyn std::fmt::Display); 2] =
                    [("places", &damage.places), ("bytes", &damage.bytes)];
                log::event("semantic_store_damaged", &fields);
            }
            Ok(Some(Arc::new(store)))
        }
        (Place::Redis, Some((link, redis))) => {
            let source = config.models.iter().find(|source| source.id == embedder);
            let revision = source.map(|source| revision(&source.path, Some(link)));
            let revision = revision.transpose()?.unwrap_or_default();
            let store = RedisSemanticStore::start(link, &redis.prefix, &revision)?;
            Ok(Some(Arc::new(store)))
        }
        // The configuration has been checked for it.
        (Place::Redis, None) => Ok(None),
    }
}

/// The semantic cache, if there is one.
pub(super) fn open_semantic(
    config: &Config,
    redis: Option<&Arc<Link>>,
    embedders: &[EmbedHandle],
    salts: &Salts,
) -> Result<Option<Arc<Semantic>>, BackendError> {
    let Some(semantic) = &config.semantic_cache else {
        return Ok(None);
    };
    let id = semantic.embedding_model(&config.models);
    let embedder = embedders
        .iter()
        .find(|embedder| Some(embedder.id.as_str()) == id);
    // The configuration has been checked for both.
    let (Some(embedder), Some(max_wrong)) = (embedder, MaxWrong::new(semantic.max_wrong)) else {
        return Ok(None);
    };
    let place = (&semantic.place, embedder.id.as_str());
    let Some(store) = open_semantic_store(config, place, redis)? else {
        return Ok(None);
    };
    let begun = match &semantic.calibration {
        None => RouteBound::new(max_wrong),
        Some(path) => {
            let wrong = |error: BackendError| BackendError::Config {
                path: "semantic_cache.calibration".to_owned(),
                message: error.to_string(),
            };
            let learned = CacheCalibration::load(path).map_err(wrong)?;
            RouteBound::begun_at(max_wrong, learned.threshold(max_wrong))
        }
    };
    let seed = salts
        .fresh()
        .iter()
        .take(8)
        .fold(0, |seed, byte| seed << 8 | u64::from(*byte));
    Ok(Some(Arc::new(Semantic {
        cache: SemanticCache::new(begun, store, seed),
        embedder: embedder.clone(),
    })))
}
