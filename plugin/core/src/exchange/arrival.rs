//! What the headers of a request alone decide: is it ours to judge, does it pass through, or is it
//! refused before its body is read?

use super::Headers;
use crate::config::Secret;
use crate::error::{ApiError, ErrorKind};
use crate::keyed_hash::{KeyedHash, Purpose};
use crate::limits::{REQUEST_BODY_BYTES_MAX, REQUEST_ID_BYTES_MAX};
use crate::tenant::to_hex;
use crate::wire::Endpoint;

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

/// Judges the headers. Only the exact paths are ours, with any query string. Another spelling of
/// one of them is refused: an upstream that reads it as the endpoint would answer unjudged.
pub(super) fn classify(headers: &Headers<'_>) -> Arrival {
    let target = headers.first(":path").unwrap_or_default();
    let path = target.split(|byte| *byte == b'?').next();
    let spelled = path.unwrap_or_default();
    let path = canonical(spelled);
    let Some(endpoint) = Endpoint::from_path(&path) else {
        return Arrival::PassThrough;
    };
    if path.as_bytes() != spelled {
        let message = format!("no such path; the endpoint is spelled {path}");
        return Arrival::Refuse(endpoint, ApiError::new(ErrorKind::NotFound, message));
    }
    match refusal(headers, endpoint) {
        Some(error) => Arrival::Refuse(endpoint, error),
        None => Arrival::Judge(endpoint),
    }
}

/// The path as the most lenient server would read it, to compare only: every `%XX` decoded (many
/// decode a `%2F` too), empty and dot segments gone (RFC 3986, section 5.2.4), in its own case.
fn canonical(path: &[u8]) -> String {
    let decoded = percent_decoded(path);
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in decoded.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            named => segments.push(named),
        }
    }
    let joined = segments.join(&b'/');
    format!("/{}", String::from_utf8_lossy(&joined))
}

/// `%XX` as the byte that it stands for; a `%` without two digits stays.
fn percent_decoded(path: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, after)) = rest.split_first() {
        let byte = match after {
            [high, low, ..] if first == b'%' => digit(*high)
                .zip(digit(*low))
                .and_then(|(high, low)| u8::try_from(high * 16 + low).ok()),
            _ => None,
        };
        decoded.push(byte.unwrap_or(first));
        let taken = if byte.is_some() { 2 } else { 0 };
        rest = after.get(taken..).unwrap_or_default();
    }
    decoded
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
pub(super) fn request_id(
    secret: &Secret,
    headers: &Headers<'_>,
    now_unix_ns: u64,
    sequence: u64,
) -> String {
    let harmless = |id: &&str| {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.bytes().all(token)
    };
    match headers.text("x-request-id").filter(harmless) {
        Some(id) => id.to_owned(),
        None => {
            let mut made = KeyedHash::new(secret.hash_keys(), Purpose::RequestId);
            made.part(&now_unix_ns.to_le_bytes());
            made.part(&sequence.to_le_bytes());
            let made = made.finish();
            to_hex(made.get(..16).unwrap_or_default())
        }
    }
}
