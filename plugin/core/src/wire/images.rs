//! The images of a prompt: how many there are, and whether two requests with the same address of
//! one show the model the same picture.

use super::fields::{Fields, Path, invalid_value, missing};
use super::json::Json;
use crate::error::ApiError;
use crate::limits::IMAGES_MAX;

/// What a prompt shows beside its text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Images {
    /// How many.
    pub count: u32,
    /// Whether all of them travel in the request. Others are fetched or looked up by whoever serves
    /// the model, and what is found there may change.
    pub source: ImageSource,
    /// Path of the first, for whoever refuses it.
    pub first: Option<String>,
}

/// Where the images of a prompt are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ImageSource {
    /// All in the request itself, if there are any.
    #[default]
    Inline,
    /// At least one is elsewhere.
    Elsewhere,
}

impl Images {
    /// One more, at `path`.
    pub(super) fn add(&mut self, path: Path<'_>, source: ImageSource) -> Result<(), ApiError> {
        if self.count >= IMAGES_MAX {
            let message = format!("{path} is one image too many; at most {IMAGES_MAX} are allowed");
            return Err(invalid_value(path, message));
        }
        self.count = self.count.saturating_add(1);
        if source == ImageSource::Elsewhere {
            self.source = source;
        }
        self.first.get_or_insert_with(|| path.to_string());
        Ok(())
    }

    /// The `url` of an image: the data itself, or an address.
    pub(super) fn source_of_url(path: Path<'_>, url: &str) -> Result<ImageSource, ApiError> {
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme.to_ascii_lowercase().as_str() {
            "data" => Ok(ImageSource::Inline),
            "http" | "https" => Ok(ImageSource::Elsewhere),
            _ => Err(invalid_value(
                path,
                format!("{path} must be a data, https or http URL"),
            )),
        }
    }

    /// OpenAI's chat part: `{"type":"image_url","image_url":{"url","detail"}}`.
    pub(super) fn add_chat_part(&mut self, part: &Fields<'_>) -> Result<(), ApiError> {
        let image = part
            .object("image_url")?
            .ok_or_else(|| missing(part.path("image_url")))?;
        let source = Self::source_of_url(image.path("url"), image.required_string("url")?)?;
        image.string("detail")?;
        self.add(part.path("type"), source)
    }

    /// The part of `/v1/responses`: `{"type":"input_image","image_url"|"file_id","detail"}`.
    pub(super) fn add_input_image(&mut self, part: &Fields<'_>) -> Result<(), ApiError> {
        part.string("detail")?;
        let source = match (part.string("image_url")?, part.string("file_id")?) {
            (Some(url), _) => Self::source_of_url(part.path("image_url"), url)?,
            (None, Some(_)) => ImageSource::Elsewhere,
            (None, None) => return Err(missing(part.path("image_url"))),
        };
        self.add(part.path("type"), source)
    }

    /// Anthropic's block: `{"type":"image","source":{"type":"base64"|"url"|"file",…}}`.
    pub(super) fn add_image_block(&mut self, block: &Fields<'_>) -> Result<(), ApiError> {
        let source = block
            .object("source")?
            .ok_or_else(|| missing(block.path("source")))?;
        let found = match source.required_string("type")? {
            "base64" => {
                source.required_string("data")?;
                source.required_string("media_type")?;
                ImageSource::Inline
            }
            "url" => {
                source.required_string("url")?;
                ImageSource::Elsewhere
            }
            "file" => {
                source.required_string("file_id")?;
                ImageSource::Elsewhere
            }
            other => {
                let path = source.path("type");
                let echo = super::json::echo(other);
                let message = format!("{path} must be base64, url or file, but it is \"{echo}\"");
                return Err(invalid_value(path, message));
            }
        };
        self.add(block.path("type"), found)
    }
}

/// The refusal of a content part that is neither text nor an image. What is in it cannot be
/// counted here, so no budget could cover it.
pub(super) fn unsupported_part(part: &Fields<'_>, kind: &str) -> ApiError {
    let path = part.path("type");
    let kind = super::json::echo(kind);
    let message = format!("{path} \"{kind}\" is not supported; only text and images are");
    invalid_value(path, message)
}

/// The bytes of a JSON value that a model reads as text: appended in a line of their own.
pub(super) fn append_json(text: &mut String, json: &Json) {
    append_line(text, &String::from_utf8_lossy(&json.to_bytes()));
}

/// Appends a piece of a content that is given in several.
pub(super) fn append_line(text: &mut String, piece: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(piece);
}
