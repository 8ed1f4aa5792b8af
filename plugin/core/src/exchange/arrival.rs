//! What the headers of a request alone decide: is it ours to judge, does it pass through, or is it
//! refused before its body is read?

use super::Headers;
use crate::error::{ApiError, ErrorKind};
use crate::limits::{REQUEST_BODY_BYTES_MAX, REQUEST_ID_BYTES_MAX};
use crate::tenant::to_hex;
use crate::wire::Endpoint;
use sha2::{Digest, Sha256};

/// Headers with this prefix are ours; what a client sends under it is removed and never read.
pub(super) const RESERVED_PREFIX: &str = "x-farthing-";

#[derive(Debug, PartialEq)]
pub(super) enum Arrival {
    /// A request to one of our endpoints.
    Judge(Endpoint),
    /// Not ours.
    PassThrough,
    Refuse(Endpoint, ApiError),
}

/// Judges the headers. Only the exact paths are ours; a query string does not matter.
pub(super) fn classify(headers: &Headers<'_>) -> Arrival {
    let path = headers.text(":path").unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let Some(endpoint) = Endpoint::from_path(path) else {
        return Arrival::PassThrough;
    };
    match refusal(headers, endpoint) {
        Some(error) => Arrival::Refuse(endpoint, error),
        None => Arrival::Judge(endpoint),
    }
}

fn refusal(headers: &Headers<'_>, endpoint: Endpoint) -> Option<ApiError> {
    if headers.first(":method") != Some(b"POST") {
        let message = format!("{} takes POST only", endpoint.path());
        return Some(ApiError::new(ErrorKind::MethodNotAllowed, message));
    }
    if headers
        .all("content-encoding")
        .any(|value| !is_identity(value))
    {
        let message = "the body must not be compressed: send it without content-encoding";
        return Some(ApiError::new(ErrorKind::UnsupportedEncoding, message));
    }
    if headers
        .first("content-type")
        .is_some_and(|value| !is_json(value))
    {
        let message = "content-type must be application/json";
        return Some(ApiError::new(ErrorKind::UnsupportedMediaType, message));
    }
    let length = headers
        .text("content-length")
        .and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > REQUEST_BODY_BYTES_MAX as u64) {
        return Some(too_large());
    }
    None
}

pub(super) fn too_large() -> ApiError {
    let message = format!("the body must have at most {REQUEST_BODY_BYTES_MAX} bytes");
    ApiError::new(ErrorKind::BodyTooLarge, message)
}

fn is_identity(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    value.is_empty() || value.eq_ignore_ascii_case(b"identity")
}

/// `application/json`, with or without parameters.
pub(super) fn is_json(value: &[u8]) -> bool {
    media_type(value).eq_ignore_ascii_case(b"application/json")
}

/// `text/event-stream`, with or without parameters.
pub(super) fn is_event_stream(value: &[u8]) -> bool {
    media_type(value).eq_ignore_ascii_case(b"text/event-stream")
}

fn media_type(value: &[u8]) -> &[u8] {
    value
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii()
}

/// Envoy's `x-request-id` if it is harmless in a header and in a log, else one made from the time
/// and the worker's count of requests.
pub(super) fn request_id(headers: &Headers<'_>, now_unix_ns: u64, sequence: u64) -> String {
    let harmless = |id: &&str| {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.bytes().all(token)
    };
    match headers.text("x-request-id").filter(harmless) {
        Some(id) => id.to_owned(),
        None => {
            let made = Sha256::new()
                .chain_update(b"farthing request id 1")
                .chain_update(now_unix_ns.to_le_bytes())
                .chain_update(sequence.to_le_bytes())
                .finalize();
            to_hex(made.get(..16).unwrap_or_default())
        }
    }
}
