//! Other providers' APIs in OpenAI's words, both ways: a chat becomes their request, and their
//! answers, streams and errors become ours.
//!
//! Requests: [`turns`] and [`tools`] read what the APIs place differently, [`options`] refuses by
//! name what a provider cannot be told, and each API's `request` writes. Answers: each API's
//! `answer` and `events` read, [`whole`] and [`chunks`] write. [`stream`] takes a stream's bytes,
//! cut anywhere, [`fault`] says what an error means.
//!
//! The shapes are those of platform.openai.com/docs/api-reference/chat,
//! docs.anthropic.com/en/api/messages and ai.google.dev/api/generate-content.

mod anthropic;
mod chunks;
mod fault;
mod gemini;
mod openai;
mod options;
mod stream;
mod tools;
mod turns;
mod whole;

use super::endpoint::Endpoint;
use super::fields::invalid_value;
use super::json::Json;
use super::request::Request;
use super::response::AnswerHead;
use super::usage::Usage;
use crate::config::MaxTokensField;
use crate::error::ApiError;

pub use fault::{Fault, FaultKind};
pub use stream::{StreamReader, UsageWish};

/// Whose words a provider understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProviderApi {
    /// OpenAI's own, and what follows it: `POST /chat/completions`, `POST /completions`.
    OpenAi,
    /// Anthropic's Messages: `POST /messages`.
    Anthropic,
    /// Google's Gemini: `POST /models/NAME:generateContent`.
    Gemini,
}

/// The model at the provider.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Its name there.
    pub model: &'a str,
    /// The only name by which it knows the limit of a chat's answer, if it knows one only.
    pub max_tokens_field: Option<MaxTokensField>,
    /// The limit where the client names none and the API needs one.
    pub max_tokens_default: u32,
}

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderRequest {
    /// Path and query below the provider's base address, from a slash on.
    pub path: String,
    /// The JSON.
    pub body: Vec<u8>,
}

/// A whole answer, in OpenAI's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderAnswer {
    /// The JSON.
    pub body: Vec<u8>,
    /// What it took, if the provider says.
    pub usage: Option<Usage>,
}

impl ProviderApi {
    /// Its name in configurations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }

    /// Writes a request in the provider's words.
    ///
    /// # Errors
    /// `InvalidValue` at a field that the provider has no word for and that changes the answer.
    pub fn request(
        self,
        request: &Request,
        target: &Target<'_>,
    ) -> Result<ProviderRequest, ApiError> {
        match (self, request.endpoint) {
            (Self::OpenAi, _) => openai::request(request, target),
            (Self::Anthropic, Endpoint::ChatCompletions) => anthropic::request(request, target),
            (Self::Gemini, Endpoint::ChatCompletions) => gemini::request(request, target),
            _ => {
                let message = "this model answers chats only; use /v1/chat/completions";
                Err(invalid_value("model", message))
            }
        }
    }

    /// Reads the body of a whole answer with a 2xx status. `head` names the model as our clients
    /// know it, and the answer where the provider's own name for it is none of OpenAI's.
    ///
    /// # Errors
    /// The provider reports a fault under a good status, or what it sent is no answer.
    pub fn answer(
        self,
        endpoint: Endpoint,
        head: &AnswerHead,
        body: &[u8],
    ) -> Result<ProviderAnswer, Fault> {
        let json = Json::parse(body).map_err(|_| Fault::malformed())?;
        if let Some(fault) = Fault::within(&json) {
            return Err(fault);
        }
        let answer = match self {
            Self::OpenAi => openai::answer(endpoint, head, json),
            Self::Anthropic => anthropic::answer(head, &json),
            Self::Gemini => gemini::answer(head, &json),
        };
        answer.ok_or_else(Fault::malformed)
    }
}

/// An object of these fields.
fn object<const N: usize>(entries: [(&str, Json); N]) -> Json {
    let owned = |(key, value): (&str, Json)| (key.to_owned(), value);
    Json::Object(entries.map(owned).into())
}

fn string(text: &str) -> Json {
    Json::String(text.to_owned())
}

/// Appends a field.
fn put(entries: &mut Vec<(String, Json)>, key: &str, value: Json) {
    entries.push((key.to_owned(), value));
}

/// Appends the request's own field under the provider's name for it, if it is there.
fn put_same(entries: &mut Vec<(String, Json)>, name: &str, request: &Request, key: &str) {
    if let Some(value) = request.json.get(key).filter(|value| !value.is_null()) {
        put(entries, name, value.clone());
    }
}

/// Media type and data of a `data:` URL in Base64; `None` for an address.
fn data_url<'a>(url: &'a str, path: &str) -> Result<Option<(&'a str, &'a str)>, ApiError> {
    let scheme = url.get(..5).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("data:") {
        return Ok(None);
    }
    let described = url.get(5..).and_then(|rest| rest.split_once(','));
    let inline = described.and_then(|(of, data)| Some((of.strip_suffix(";base64")?, data)));
    match inline {
        Some((media_type, data)) if !media_type.is_empty() => Ok(Some((media_type, data))),
        _ => {
            let message = format!("{path} must name its media type and be in Base64");
            Err(invalid_value(path, message))
        }
    }
}
