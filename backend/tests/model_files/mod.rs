//! The two chat models that the tests run on, as `cargo xtask` fetches them.

// Each test binary uses another part.
#![allow(dead_code)]

use farthing_backend::model::gguf::Gguf;
use farthing_backend::text::TokenizerSource;
use std::path::{Path, PathBuf};

pub const SMOLLM2: &str = "smollm2-135m-instruct";
pub const QWEN: &str = "qwen2.5-coder-0.5b-instruct";
pub const BOTH: [&str; 2] = [SMOLLM2, QWEN];

/// Where a model of this id lies.
pub fn path(id: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../.farthing/models")
        .join(id)
}

/// What a model's file says about its tokenizer.
pub fn tokenizer_source(id: &str) -> TokenizerSource {
    let file = path(&format!("{id}.gguf"));
    let gguf = Gguf::open(&file).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; `cargo xtask test` fetches the models",
            file.display()
        )
    });
    TokenizerSource::from_gguf(&gguf.metadata()).expect("the file has a tokenizer")
}
