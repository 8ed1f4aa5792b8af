//! Vocabulary files and what is counted with them, on the real vocabularies that `cargo xtask`
//! makes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

#[path = "../../../../backend/tests/adversarial/mod.rs"]
mod adversarial;
mod chats;
mod files;
mod loading;
mod remembering;
mod tiktoken;

use farthing_core::vocabulary::Vocabulary;
use std::path::Path;

/// The bytes of a vocabulary file.
fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.farthing/vocabularies");
    let path = folder.join(format!("{name}.vocabulary"));
    std::fs::read(&path).unwrap_or_else(|error| {
        let hint = "`cargo xtask vocabulary` makes it";
        panic!("{}: {error}; {hint}", path.display())
    })
}

fn vocabulary(name: &str) -> Vocabulary {
    Vocabulary::from_file(file(name).into()).expect("a valid file")
}
