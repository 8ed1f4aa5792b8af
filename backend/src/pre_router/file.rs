//! The file of a pre-router, and what it says of a prompt.

use std::path::Path;

use farthing_core::limits::{
    CALIBRATION_ROWS_MAX, CALIBRATION_ROWS_MIN, GAIN_QUANTILES, MODEL_WIDTH_MAX,
    PRE_ROUTER_FILE_BYTES_MAX,
};
use farthing_core::store;
use serde::{Deserialize, Serialize};

use super::Gain;
use super::features::{FEATURES, features, names};
use super::head::Head;
use crate::error::BackendError;
use crate::semantic::index::{Quantized, VectorIndex};

/// The last character is the version.
const MAGIC: [u8; 4] = *b"FPR1";

/// Known prompts that have a say.
pub(super) const NEIGHBOURS: usize = 50;
/// How much of a say.
const NEIGHBOURS_SHARE: f32 = 0.2;
/// Nothing is certain to gain most.
const RANK_MAX: f32 = 0.999_999;

/// A pre-router, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Learned {
    /// The names of the features that it was made for.
    pub features: Vec<String>,
    /// What each is reduced by and then divided by.
    pub means: Vec<f32>,
    pub deviations: Vec<f32>,
    /// Over the features and then the embedding: of the strong model being right where the weak
    /// one is wrong, of the reverse, and of the weak one being right.
    pub better: Head,
    pub worse: Head,
    pub weak_right: Head,
    /// Gains that equal parts of the calibration's prompts do not reach, ascending.
    pub quantiles: Vec<f32>,
    /// The cosine from which on a prompt is like one that is known.
    pub near_min: f32,
    /// Embeddings of the prompts that it was made from.
    pub scales: Vec<f32>,
    #[serde(with = "packed")]
    pub numbers: Vec<i8>,
    /// Of each 1 if the weak model was right, and 2 more if the strong one was.
    #[serde(with = "packed")]
    pub outcomes: Vec<i8>,
    pub measured: Measured,
}

/// How good it was on prompts that it had not seen. It changes no decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    pub rows: u64,
    /// Area under the recovered share of the gap between the models; 0.5 is chance. By
    /// cross-validation; none where the strong model is not the better one.
    pub apgr: Option<f64>,
    /// The same where whole files were left out; none with one file.
    pub apgr_files_out: Option<f64>,
    /// The same by the length of the prompt alone.
    pub apgr_length: Option<f64>,
    /// By how much the stated probability that the weak model is right was off, on average.
    pub ece: f64,
    /// Of the policy that asks the strong model where the gain is above 0: the share of right
    /// answers, and of prompts that go to the strong model.
    pub accuracy: f64,
    pub cost_share: f64,
}

/// A pre-router that is ready.
#[derive(Debug)]
pub struct PreRouter {
    learned: Learned,
    index: VectorIndex,
}

// === impl PreRouter ===

impl PreRouter {
    /// Reads a file of `farthing calibrate router --embedding-model`.
    ///
    /// # Errors
    /// It is none, of another version, damaged, or made from too few rows.
    pub fn load(path: &Path) -> Result<PreRouter, BackendError> {
        let io = |source| BackendError::Io {
            what: path.display().to_string(),
            source,
        };
        let bytes = std::fs::metadata(path).map_err(io)?.len();
        if bytes > PRE_ROUTER_FILE_BYTES_MAX {
            let reason = format!("has {bytes} bytes, over {PRE_ROUTER_FILE_BYTES_MAX}");
            return Err(BackendError::PreRouter(reason).in_file(path));
        }
        PreRouter::decode(&std::fs::read(path).map_err(io)?).map_err(|error| error.in_file(path))
    }

    /// Whether a file begins like one of any version.
    pub fn is_file(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC[..3])
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// As [`PreRouter::load`].
    pub fn decode(bytes: &[u8]) -> Result<PreRouter, BackendError> {
        let refuse = |reason: &str| BackendError::PreRouter(reason.to_owned());
        if PreRouter::is_file(bytes) && !bytes.starts_with(&MAGIC) {
            return Err(refuse(
                "is of another version; calibrate again with this version's `farthing`",
            ));
        }
        let damaged = "is no pre-router, or is damaged";
        let cbor = store::open(MAGIC, bytes).ok_or_else(|| refuse(damaged))?;
        let learned = ciborium::from_reader(cbor).map_err(|_| refuse(damaged))?;
        PreRouter::new(learned)
    }

    pub(super) fn new(learned: Learned) -> Result<PreRouter, BackendError> {
        learned.check().map_err(BackendError::PreRouter)?;
        let width = learned.width();
        let mut index = VectorIndex::new(width);
        let vectors = learned
            .scales
            .iter()
            .zip(learned.numbers.chunks_exact(width));
        for (scale, numbers) in vectors {
            index.push(&Quantized {
                scale: *scale,
                numbers: numbers.to_vec(),
            });
        }
        Ok(PreRouter { learned, index })
    }

    /// The bytes of its file.
    pub fn encode(&self) -> Vec<u8> {
        let mut cbor = Vec::new();
        // Memory does not refuse a write; an empty payload would be refused on reading.
        let _ = ciborium::into_writer(&self.learned, &mut cbor);
        store::seal(MAGIC, &cbor)
    }

    pub fn measured(&self) -> Measured {
        self.learned.measured
    }

    /// Numbers of the embeddings that it takes.
    pub fn width(&self) -> usize {
        self.learned.width()
    }

    /// What is expected of both models on a prompt, whose embedding has [`PreRouter::width`]
    /// numbers; what it lacks counts as 0.
    pub fn gain(&self, prompt: &str, embedding: &[f32]) -> Gain {
        let row = self.learned.row(&features(prompt), embedding);
        let found = self.index.nearest(&Quantized::of(embedding), NEIGHBOURS);
        let near = found.iter().map(|near| (near.cosine, near.slot));
        self.learned.gain(&row, near)
    }
}

// === impl Learned ===

impl Learned {
    /// Numbers of an embedding.
    fn width(&self) -> usize {
        self.better.weights.len().saturating_sub(FEATURES)
    }

    /// What the heads read: the features, each by its deviation, and the embedding.
    pub(super) fn row(&self, features: &[f64; FEATURES], embedding: &[f32]) -> Vec<f32> {
        let standard = features.iter().zip(&self.means).zip(&self.deviations);
        let standard = standard.map(|((x, mean), deviation)| (*x as f32 - mean) / deviation);
        standard.chain(embedding.iter().copied()).collect()
    }

    /// The gain by the heads and by known prompts, given with their cosines, nearest first.
    pub(super) fn gain(&self, row: &[f32], near: impl Iterator<Item = (f32, usize)>) -> Gain {
        let better = self.better.probability(row);
        let (mut value, mut weak) = (
            better - self.worse.probability(row),
            self.weak_right.probability(row),
        );
        let mut is_known = false;
        let (mut weights, mut gained, mut right) = (0.0, 0.0, 0.0);
        for (cosine, at) in near {
            is_known |= cosine >= self.near_min;
            let weight = cosine.max(0.0);
            let outcome = self.outcomes.get(at).copied().unwrap_or_default();
            let (weak, strong) = (f32::from(outcome & 1), f32::from(outcome >> 1 & 1));
            weights += weight;
            gained += weight * (strong - weak);
            right += weight * weak;
        }
        if is_known && weights > 0.0 {
            value += NEIGHBOURS_SHARE * (gained / weights - value);
            weak += NEIGHBOURS_SHARE * (right / weights - weak);
        }
        Gain {
            value,
            rank: self.rank(value),
            p_weak_right: weak,
            p_strong_right: (weak + value).clamp(0.0, 1.0),
            is_known,
        }
    }

    fn rank(&self, gain: f32) -> f32 {
        let below = self.quantiles.partition_point(|quantile| *quantile < gain);
        let steps = self.quantiles.len().saturating_sub(1).max(1) as f32;
        let low = below.checked_sub(1).and_then(|at| self.quantiles.get(at));
        match low.zip(self.quantiles.get(below)) {
            Some((low, high)) => (below as f32 - 1.0 + (gain - low) / (high - low)) / steps,
            None if below == 0 => 0.0,
            None => RANK_MAX,
        }
        .min(RANK_MAX)
    }

    fn check(&self) -> Result<(), String> {
        let rows = self.outcomes.len();
        if rows < CALIBRATION_ROWS_MIN || self.measured.rows != rows as u64 {
            return Err(format!(
                "was made from {rows} rows, which are too few: {CALIBRATION_ROWS_MIN} are needed"
            ));
        }
        let width = self.width();
        let heads = [&self.better, &self.worse, &self.weak_right];
        let is_shaped = self.features.iter().map(String::as_str).eq(names())
            && self.means.len() == FEATURES
            && self.deviations.len() == FEATURES
            && heads
                .iter()
                .all(|head| head.weights.len() == FEATURES + width);
        if !is_shaped || !(1..=MODEL_WIDTH_MAX).contains(&width) {
            let reason = "was made for other features; calibrate again with this `farthing`";
            return Err(reason.to_owned());
        }
        let fits = rows <= CALIBRATION_ROWS_MAX
            && self.scales.len() == rows
            && self.numbers.len() == rows * width;
        if !fits {
            return Err("has not one embedding for each of its rows".to_owned());
        }
        let finite = [&self.means, &self.deviations, &self.scales, &self.quantiles];
        let finite = finite
            .into_iter()
            .chain(heads.map(|head| &head.weights))
            .flatten();
        let biases = heads.iter().map(|head| &head.bias).chain([&self.near_min]);
        let is_finite = finite.chain(biases).all(|number| number.is_finite());
        if !is_finite || self.deviations.iter().any(|deviation| *deviation <= 0.0) {
            return Err("has a number that is not finite, or a deviation of 0".to_owned());
        }
        if self.quantiles.len() != GAIN_QUANTILES || !self.quantiles.is_sorted() {
            return Err(format!(
                "must have {GAIN_QUANTILES} quantiles in ascending order"
            ));
        }
        Ok(())
    }
}

/// Small numbers as CBOR's byte string: a list of them takes twice the room.
mod packed {
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(numbers: &[i8], to: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = numbers
            .iter()
            .map(|number| number.cast_unsigned())
            .collect();
        to.serialize_bytes(&bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<i8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<i8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<i8>, E> {
                Ok(bytes.iter().map(|byte| byte.cast_signed()).collect())
            }
        }
        from.deserialize_byte_buf(Bytes)
    }
}
