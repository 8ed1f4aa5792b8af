//! A folder as Hugging Face's hub has them (config.json, safetensors, tokenizer.json), seen as the
//! GGUF file that it would be: the same names, order of dimensions, keys and order of rows. Weights
//! in F32, F16 and BF16 stay in the mapped files; 4-bit matrices of GPTQ and AWQ become GGML's
//! blocks when they are asked for.

mod config;
mod int4;
mod metadata;
mod names;
mod parts;
mod permute;
mod safetensors;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use farthing_core::limits;
use farthing_kernels::Dtype;
use serde::Deserialize;

use super::gguf::{Gguf, Tensor};
use super::mapped::Bytes;
use crate::error::BackendError;
use config::Config;
use int4::{Int4Format, Int4Matrix};
use names::Part;
use permute::PairsSideBySide;
use safetensors::{Element, Entry};

/// A folder whose headers are valid.
pub struct Checkpoint {
    /// A GGUF file without tensors, with the pairs that the folder's would have.
    header: Gguf,
    shards: Vec<Bytes>,
    /// By GGUF's names.
    tensors: HashMap<String, Source>,
}

/// Where a tensor comes from.
struct Source {
    /// GGML's order: a row's length first.
    dims: Vec<usize>,
    order: Option<PairsSideBySide>,
    data: Data,
}

enum Data {
    Whole { dtype: Dtype, place: Place },
    Int4(Int4Source),
}

struct Int4Source {
    format: Int4Format,
    group: usize,
    weights: Place,
    zeros: Place,
    scales: Place,
    scale_element: Element,
    groups: Option<Place>,
}

/// Bytes of one of the files.
#[derive(Clone)]
struct Place {
    shard: usize,
    bytes: std::ops::Range<usize>,
}

/// A tensor of a file, and which file.
type Found = (usize, Entry);

/// What the folder's tensors are, before they are checked against each other.
#[derive(Default)]
struct Parts {
    whole: HashMap<String, Found>,
    int4: HashMap<String, HashMap<Part, Found>>,
}

/// Whether a folder holds a model that generates text: it says so in config.json.
pub fn generates_text(folder: &Path) -> bool {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(default)]
        model_type: String,
        #[serde(default)]
        architectures: Vec<String>,
    }
    let json = metadata::optional(folder, CONFIG, limits::CONFIG_BYTES_MAX);
    let kind = json
        .ok()
        .flatten()
        .and_then(|json| serde_json::from_slice::<Kind>(&json).ok());
    kind.is_some_and(|kind| {
        let causal = |name: &String| name.ends_with("ForCausalLM");
        kind.architectures.iter().any(causal) || matches!(&*kind.model_type, "llama" | "qwen2")
    })
}

/// The files with a folder's weights, in order of their names: `model.safetensors`, or its parts,
/// or whatever safetensors there are.
///
/// # Errors
/// The folder cannot be read, or has none or too many.
pub fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, BackendError> {
    let io = |source| BackendError::Io {
        what: folder.display().to_string(),
        source,
    };
    let whole = folder.join("model.safetensors");
    if whole.is_file() {
        return Ok(vec![whole]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            files.push(path);
        }
        if files.len() > limits::CHECKPOINT_FILES_MAX {
            let max = limits::CHECKPOINT_FILES_MAX;
            return Err(wrong(format!("over {max} files of weights")));
        }
    }
    let is_part = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("model-") && name.contains("-of-")
    };
    if files.iter().any(is_part) {
        files.retain(is_part);
    }
    files.sort();
    if files.is_empty() {
        return Err(wrong("no *.safetensors".to_owned()));
    }
    Ok(files)
}

/// Checks the header of a safetensors file that something else will read.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check_safetensors(file: &[u8]) -> Result<(), BackendError> {
    safetensors::entries(file).map(drop)
}

const CONFIG: &str = "config.json";
const EMBEDDING: &str = "token_embd.weight";
const OUTPUT: &str = "output.weight";

// === impl Checkpoint ===

impl Checkpoint {
    /// Maps a folder's weights and checks its headers.
    ///
    /// # Errors
    /// A file cannot be read or is not valid, or belongs to a model that cannot run here.
    pub fn open(folder: &Path) -> Result<Checkpoint, BackendError> {
        let json = metadata::required(folder, CONFIG, limits::CONFIG_BYTES_MAX)?;
        let config = Config::parse(&json)?;
        let files = weight_files(folder)?;
        let shards: Vec<Bytes> = files
            .iter()
            .map(|file| Bytes::map(file))
            .collect::<Result<_, _>>()?;
        let mut found = Parts::default();
        for (shard, (bytes, path)) in shards.iter().zip(&files).enumerate() {
            let entries = safetensors::entries(bytes).map_err(|error| error.in_file(path))?;
            for (name, entry) in entries {
                found.add(&name, (shard, entry), bytes)?;
            }
        }
        if config.tie_word_embeddings {
            found.whole.remove(OUTPUT);
        } else if !found.whole.contains_key(OUTPUT) {
            return Err(wrong(
                "lm_head.weight is missing (tie_word_embeddings is false)".to_owned(),
            ));
        }
        let mut tensors = found.sources(&config)?;
        parts::drop_groups_in_order(&mut tensors, &shards);
        let embedding = tensors.get(EMBEDDING).map(|source| source.dims.as_slice());
        let Some([_, vocab_size]) = embedding else {
            return Err(wrong(
                "model.embed_tokens.weight is missing or no matrix".to_owned(),
            ));
        };
        if *vocab_size > limits::MODEL_VOCAB_MAX {
            return Err(wrong(format!(
                "{vocab_size} rows of model.embed_tokens.weight"
            )));
        }
        let pairs = metadata::pairs(folder, &config, *vocab_size)?;
        Ok(Checkpoint {
            header: Gguf::from_bytes(pairs.header(&[]))?,
            shards,
            tensors,
        })
    }

    pub(super) fn header(&self) -> &Gguf {
        &self.header
    }

    pub(super) fn optional_tensor(&self, name: &str) -> Result<Option<Tensor<'_>>, BackendError> {
        let Some(source) = self.tensors.get(name) else {
            return Ok(None);
        };
        let tensor = self.read(source);
        tensor
            .map(Some)
            .map_err(|error| wrong(format!("the tensor '{name}': {error}")))
    }

    /// The order of the files' names, then of their places in them.
    pub(super) fn tensor_names(&self) -> Vec<&str> {
        let place = |source: &Source| match &source.data {
            Data::Whole { place, .. } => (place.shard, place.bytes.start),
            Data::Int4(int4) => (int4.weights.shard, int4.weights.bytes.start),
        };
        let names = self.tensors.iter();
        let mut names: Vec<_> = names
            .map(|(name, source)| (place(source), name.as_str()))
            .collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name).collect()
    }

    pub(super) fn format(&self, name: &str) -> Option<(Dtype, &[usize])> {
        let source = self.tensors.get(name)?;
        let dtype = match &source.data {
            Data::Whole { dtype, .. } => *dtype,
            Data::Int4(int4) => self.int4(int4, source).dtype(),
        };
        Some((dtype, source.dims.as_slice()))
    }

    pub(super) fn release(&self, name: &str) {
        let places = match self.tensors.get(name).map(|source| &source.data) {
            None => Vec::new(),
            Some(Data::Whole { place, .. }) => vec![place],
            Some(Data::Int4(int4)) => vec![&int4.weights, &int4.zeros, &int4.scales],
        };
        for place in places {
            self.shards[place.shard].release(place.bytes.clone());
        }
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|bytes| bytes.len() as u64).sum()
    }

    fn read<'a>(&'a self, source: &'a Source) -> Result<Tensor<'a>, BackendError> {
        let dims = source.dims.as_slice();
        let (dtype, bytes) = match &source.data {
            Data::Whole { dtype, place } => {
                let bytes = self.bytes(place);
                let bytes = match source.order {
                    None => Cow::Borrowed(bytes),
                    Some(order) => Cow::Owned(reordered(bytes, dims, order)),
                };
                (*dtype, bytes)
            }
            Data::Int4(int4) => {
                let matrix = self.int4(int4, source);
                (matrix.dtype(), Cow::Owned(matrix.blocks()?))
            }
        };
        Ok(Tensor { dtype, dims, bytes })
    }

    fn int4<'a>(&'a self, int4: &Int4Source, source: &Source) -> Int4Matrix<'a> {
        Int4Matrix {
            packing: int4.format.packing,
            rows: source.dims[1],
            cols: source.dims[0],
            group: int4.group,
            weights: self.bytes(&int4.weights),
            zeros: self.bytes(&int4.zeros),
            scales: self.bytes(&int4.scales),
            scale_element: int4.scale_element,
            groups: int4.groups.as_ref().map(|place| self.bytes(place)),
            order: source.order,
        }
    }

    fn bytes(&self, place: &Place) -> &[u8] {
        &self.shards[place.shard][place.bytes.clone()]
    }
}

/// Rows in GGUF's order.
fn reordered(bytes: &[u8], dims: &[usize], order: PairsSideBySide) -> Vec<u8> {
    let rows = dims.last().copied().unwrap_or(1).max(1);
    let row_bytes = bytes.len() / rows;
    let mut out = Vec::with_capacity(bytes.len());
    for row in 0..rows {
        let at = order.source_row(row) * row_bytes;
        out.extend_from_slice(&bytes[at..at + row_bytes]);
    }
    out
}

fn wrong(what: String) -> BackendError {
    BackendError::Checkpoint(what)
}
