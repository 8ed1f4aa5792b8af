//! The semantic cache: answers to questions that were asked in other words.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use farthing_core::limits;
use serde::{Deserialize, Serialize};

use super::place::{FileRules, Place, PlaceName, RawPlace};
use super::{ModelKind, ModelSource, RedisConfig, at_most, wrong};
use crate::error::BackendError;

/// The semantic cache. `semantic_cache: {max_wrong: 0.01}` turns it on.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(into = "RawSemantic")]
pub struct SemanticConfig {
    /// Largest share of all answers that may be wrong for it.
    pub max_wrong: f64,
    /// What routes begin with, as `farthing calibrate cache` wrote it; this build's own if absent.
    pub calibration: Option<PathBuf>,
    /// Where it is.
    pub place: Place,
    /// How long an answer is kept that is as good tomorrow.
    pub ttl_s: NonZeroU32,
    /// The embedding model that compares questions; the first one if absent.
    pub embedding_model: Option<String>,
    /// The chat model that is asked whether two questions are the same.
    pub verifier: Option<String>,
    /// How long a request waits for the verifier before it goes to its model.
    pub verify_ms: NonZeroU32,
}

/// As it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSemantic {
    /// Largest share of all answers that may be wrong for it, held with 95 % confidence on samples
    /// that are generated again, for each route by itself: above 0 and below 0.5.
    max_wrong: f64,
    /// A file that `farthing calibrate cache` wrote: with which score a route begins to serve. By
    /// this build's own calibration if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    calibration: Option<PathBuf>,
    /// `file` or `redis`, which then needs to have vector search.
    #[serde(default, rename = "in")]
    place: PlaceName,
    /// The file; it is made if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    /// Bytes that all entries together take in the file and, without their answers, in memory;
    /// those make room whose answers save least.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_max: Option<NonZeroU64>,
    /// How long an answer is kept that is as good tomorrow; one about prices, hours or versions a
    /// twenty-fourth of that, and one that depends on the moment not at all.
    #[serde(default = "ttl_s")]
    ttl_s: NonZeroU32,
    /// The embedding model that compares questions; the first one if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_model: Option<String>,
    /// The chat model that is asked whether two questions are the same where the score is not
    /// enough to say so; nobody is asked if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    verifier: Option<String>,
    /// How long a request waits for the verifier before it goes to its model.
    #[serde(default = "verify_ms")]
    verify_ms: NonZeroU32,
}

impl RawSemantic {
    /// Refuses what is out of its bounds or names a model that is not there, by its path.
    pub(super) fn check(
        self,
        models: &[ModelSource],
        redis: Option<&RedisConfig>,
    ) -> Result<SemanticConfig, BackendError> {
        let rules = FileRules {
            store: "semantic_cache",
            path: Some(path()),
            bytes_max_default: bytes_max(),
            bytes_min: limits::SEMANTIC_BYTES_MIN,
            bytes_max: limits::SEMANTIC_BYTES_MAX,
        };
        let place = RawPlace {
            name: self.place,
            path: self.path,
            bytes_max: self.bytes_max,
        };
        let config = SemanticConfig {
            max_wrong: self.max_wrong,
            calibration: self.calibration,
            place: place.check(rules, redis)?,
            ttl_s: self.ttl_s,
            embedding_model: self.embedding_model,
            verifier: self.verifier,
            verify_ms: self.verify_ms,
        };
        config.check(models)?;
        Ok(config)
    }
}

impl From<SemanticConfig> for RawSemantic {
    fn from(semantic: SemanticConfig) -> RawSemantic {
        let place = RawPlace::from(semantic.place);
        RawSemantic {
            max_wrong: semantic.max_wrong,
            calibration: semantic.calibration,
            place: place.name,
            path: place.path,
            bytes_max: place.bytes_max,
            ttl_s: semantic.ttl_s,
            embedding_model: semantic.embedding_model,
            verifier: semantic.verifier,
            verify_ms: semantic.verify_ms,
        }
    }
}

impl SemanticConfig {
    fn check(&self, models: &[ModelSource]) -> Result<(), BackendError> {
        if !(self.max_wrong > 0.0 && self.max_wrong < 0.5) {
            let reason = format!("{} is not above 0 and below 0.5", self.max_wrong);
            return Err(wrong("semantic_cache.max_wrong", reason));
        }
        at_most(
            "semantic_cache.ttl_s",
            self.ttl_s.get().into(),
            limits::CACHE_TTL_S_MAX.into(),
        )?;
        at_most(
            "semantic_cache.verify_ms",
            self.verify_ms.get().into(),
            limits::SEMANTIC_VERIFY_MS_MAX.into(),
        )?;
        if self.embedding_model(models).is_none() {
            let reason = match &self.embedding_model {
                Some(id) => format!("{id} is no embedding model of this configuration"),
                None => "an embedding model is needed to compare questions".to_owned(),
            };
            return Err(wrong("semantic_cache.embedding_model", reason));
        }
        match &self.verifier {
            Some(id) if find(models, id, ModelKind::Chat).is_none() => {
                let reason = format!("{id} is no chat model of this configuration");
                Err(wrong("semantic_cache.verifier", reason))
            }
            _ => Ok(()),
        }
    }

    /// The id of the embedding model.
    pub fn embedding_model<'a>(&'a self, models: &'a [ModelSource]) -> Option<&'a str> {
        match &self.embedding_model {
            Some(id) => find(models, id, ModelKind::Embedding),
            None => models
                .iter()
                .find(|model| model.kind == ModelKind::Embedding)
                .map(|model| model.id.as_str()),
        }
    }
}

fn find<'a>(models: &'a [ModelSource], id: &str, kind: ModelKind) -> Option<&'a str> {
    let is_it = |model: &&ModelSource| model.id == id && model.kind == kind;
    models.iter().find(is_it).map(|model| model.id.as_str())
}

/// In the folder in which the backend runs.
fn path() -> PathBuf {
    PathBuf::from("semantic-cache.farthing")
}

/// 256 MiB: a hundred thousand answers of usual length.
const fn bytes_max() -> NonZeroU64 {
    NonZeroU64::new(256 << 20).expect("it is not zero")
}

/// A day.
const fn ttl_s() -> NonZeroU32 {
    NonZeroU32::new(24 * 60 * 60).expect("it is not zero")
}

/// A prompt of a hundred tokens on a card; a CPU may take longer.
const fn verify_ms() -> NonZeroU32 {
    NonZeroU32::new(500).expect("it is not zero")
}
