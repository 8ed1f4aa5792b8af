//! `/farthing/v1/vocabularies/{name}`: what filters count prompts with, one for each model by its
//! id, and the files of a folder by their names. All are made at start and kept as bytes.

use std::collections::BTreeMap;
use std::path::Path;

use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::limits;
use farthing_core::vocabulary::Vocabulary;
use http_body_util::{Either, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::{Response, StatusCode};
use sha2::{Digest, Sha256};

use super::reply::ReplyBody;
use crate::error::BackendError;
use crate::model::ModelInfo;
use crate::text::vocabulary_file;

/// The extension of vocabulary files.
const EXTENSION: &str = "vocabulary";

/// Vocabulary files by name.
#[derive(Debug, Default)]
pub struct Vocabularies(BTreeMap<String, File>);

#[derive(Debug)]
struct File {
    bytes: Bytes,
    etag: HeaderValue,
}

impl Vocabularies {
    /// Makes those of the models and reads those of the folder; a model's own wins.
    ///
    /// # Errors
    /// A file of the folder that cannot be read or is no vocabulary, by its name.
    pub fn load<'a>(
        models: impl Iterator<Item = &'a ModelInfo>,
        folder: Option<&Path>,
    ) -> Result<Vocabularies, BackendError> {
        let mut files = match folder {
            Some(folder) => read(folder)?,
            None => BTreeMap::new(),
        };
        for model in models {
            let bytes = vocabulary_file(&model.tokenizer, model.chat_template.as_ref());
            files.insert(model.id.clone(), File::new(bytes));
        }
        Ok(Vocabularies(files))
    }

    /// One file, or 304 for a client that has it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn answer(&self, name: &str, headers: &HeaderMap) -> Result<Response<ReplyBody>, ApiError> {
        let Some(file) = self.0.get(name) else {
            let message = "there is no vocabulary of this name";
            return Err(ApiError::new(ErrorKind::NotFound, message));
        };
        let known = headers
            .get_all(IF_NONE_MATCH)
            .iter()
            .any(|etag| etag == file.etag);
        let (status, body) = if known {
            (StatusCode::NOT_MODIFIED, Bytes::new())
        } else {
            (StatusCode::OK, file.bytes.clone())
        };
        let mut response = Response::new(Either::Left(Full::new(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(ETAG, file.etag.clone());
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        Ok(response)
    }
}

impl File {
    fn new(bytes: Vec<u8>) -> File {
        let digest = Sha256::digest(&bytes);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let etag = HeaderValue::from_str(&format!("\"{hex}\""));
        File {
            bytes: Bytes::from(bytes),
            etag: etag.expect("hexadecimal digits are visible ASCII"),
        }
    }
}

fn read(folder: &Path) -> Result<BTreeMap<String, File>, BackendError> {
    let unreadable = |path: &Path| {
        let what = path.display().to_string();
        move |source| BackendError::Io { what, source }
    };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        if path
            .extension()
            .is_none_or(|extension| extension != EXTENSION)
        {
            continue;
        }
        let size = std::fs::metadata(&path).map_err(unreadable(&path))?.len();
        if files.len() == limits::VOCABULARY_FILES_MAX
            || size > limits::VOCABULARY_FILE_BYTES_MAX as u64
        {
            let reason = format!(
                "{}: more than {} files, or one of more than {} bytes",
                path.display(),
                limits::VOCABULARY_FILES_MAX,
                limits::VOCABULARY_FILE_BYTES_MAX
            );
            return Err(BackendError::Vocabulary(reason));
        }
        let bytes = std::fs::read(&path).map_err(unreadable(&path))?;
        Vocabulary::from_file(bytes.clone().into())
            .map_err(|error| BackendError::Vocabulary(format!("{}: {error}", path.display())))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        files.insert(name.into_owned(), File::new(bytes));
    }
    Ok(files)
}
