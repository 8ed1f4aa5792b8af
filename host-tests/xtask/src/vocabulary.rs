//! The vocabulary files of OpenAI's encodings, made from the tokens as tiktoken (MIT) has them:
//! what the filter counts with where it sends requests to such models.

use crate::error::XtaskError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use farthing_core::bpe::{Bpe, PreTokenizer, SpecialKind, SpecialToken};
use farthing_core::vocabulary::{Framing, Vocabulary};
use farthing_host_tests::paths;
use std::fs;
use std::path::{Path, PathBuf};

/// The encodings and their control tokens.
const ENCODINGS: [(&str, &[&str]); 2] = [
    (
        "cl100k_base",
        &[
            "<|endoftext|>",
            "<|fim_prefix|>",
            "<|fim_middle|>",
            "<|fim_suffix|>",
            "<|endofprompt|>",
        ],
    ),
    ("o200k_base", &["<|endoftext|>", "<|endofprompt|>"]),
];

/// What OpenAI documents for chats
/// (<https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken_4>).
const FRAMING: Framing = Framing::PerMessage {
    message: 3,
    name: 1,
    reply: 3,
};

/// Where the file of that name is.
pub fn path(name: &str) -> PathBuf {
    paths::vocabularies().join(format!("{name}.vocabulary"))
}

/// Makes all of them. What is there already is not written again.
pub fn make() -> Result<(), XtaskError> {
    let folder = paths::vocabularies();
    fs::create_dir_all(&folder).map_err(XtaskError::file("make", &folder))?;
    for (name, control) in ENCODINGS {
        let file = path(name);
        let made = encode(name, control)?;
        if fs::read(&file).is_ok_and(|found| found == made) {
            continue;
        }
        fs::write(&file, &made).map_err(XtaskError::file("write", &file))?;
        eprintln!("vocabulary: {} ({} bytes)", file.display(), made.len());
    }
    Ok(())
}

fn encode(name: &str, control: &[&str]) -> Result<Vec<u8>, XtaskError> {
    let source = paths::tiktoken(name);
    let text = fs::read_to_string(&source).map_err(XtaskError::file("read", &source))?;
    let tokens = tokens(&text).ok_or_else(|| unusable(&source, "a line is no token"))?;
    let specials = control.iter().map(|text| SpecialToken {
        text: (*text).to_owned(),
        id: 0,
        kind: SpecialKind::Control,
    });
    let bpe = PreTokenizer::from_name(name).and_then(|pre_tokenizer| {
        let bytes = tokens.iter().map(Vec::as_slice);
        Bpe::from_ranks(bytes, specials.collect(), pre_tokenizer)
    });
    let bpe = bpe.map_err(|error| unusable(&source, &error.to_string()))?;
    Ok(Vocabulary::new(bpe, false, Some(FRAMING)).to_file())
}

/// One token a line: its bytes in Base64, a space and its rank, which is its line's number.
fn tokens(text: &str) -> Option<Vec<Vec<u8>>> {
    let token = |(line, number): (&str, usize)| {
        let (bytes, rank) = line.split_once(' ')?;
        let bytes = STANDARD.decode(bytes).ok()?;
        (rank.parse() == Ok(number)).then_some(bytes)
    };
    text.lines().zip(0..).map(token).collect()
}

fn unusable(file: &Path, reason: &str) -> XtaskError {
    XtaskError::Unexpected(format!("{}: {reason}", file.display()))
}
