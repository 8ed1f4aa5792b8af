//! `farthing vocabulary`: makes the file from which the filter counts a model's prompts, of a GGUF
//! file or of Hugging Face's `tokenizer.json`.

use std::fs;
use std::path::Path;

use crate::cli::VocabularyArgs;
use crate::error::BackendError;
use crate::model::gguf::Gguf;
use crate::text::{ChatTemplate, Tokenizer, TokenizerSource, vocabulary_file};

/// How a GGUF file begins.
const GGUF_MAGIC: &[u8] = b"GGUF";

/// Reads the one file and writes the other.
///
/// # Errors
/// A file cannot be read or written, or its tokenizer is none that we have.
pub fn run(args: &VocabularyArgs) -> Result<(), BackendError> {
    let mut source = read(&args.from).map_err(|error| error.in_file(&args.from))?;
    if let Some(path) = &args.chat_template {
        let template = fs::read_to_string(path).map_err(|error| failed("read", path, error))?;
        source.chat_template = Some(template);
    }
    let file = make(&source).map_err(|error| error.in_file(&args.from))?;
    fs::write(&args.out, file).map_err(|error| failed("write", &args.out, error))
}

fn read(path: &Path) -> Result<TokenizerSource, BackendError> {
    let bytes = fs::read(path).map_err(|error| failed("read", path, error))?;
    if bytes.starts_with(GGUF_MAGIC) {
        drop(bytes);
        return TokenizerSource::from_gguf(&Gguf::open(path)?.metadata());
    }
    TokenizerSource::from_hugging_face(&bytes)
}

fn make(source: &TokenizerSource) -> Result<Vec<u8>, BackendError> {
    let tokenizer = Tokenizer::new(source)?;
    let template = source.chat_template.as_deref();
    let template = template.map(|jinja| ChatTemplate::new(jinja, &tokenizer));
    Ok(vocabulary_file(&tokenizer, template.transpose()?.as_ref()))
}

fn failed(what: &str, path: &Path, source: std::io::Error) -> BackendError {
    let what = format!("cannot {what} {}", path.display());
    BackendError::Io { what, source }
}
