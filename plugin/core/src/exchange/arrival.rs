//! What the headers of a request alone decide: is it ours to judge, may it pass unjudged, or is it
//! refused before its body is read?

use super::Headers;
use crate::config::{Passthrough, Secret};
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
    /// Listed as what may pass unjudged.
    PassThrough,
    /// The endpoint is the one whose path it begins with, if any: its clients read its errors.
    Refuse(Option<Endpoint>, ApiError),
}

/// Headers by which servers let a client say another method than the request line does.
const METHOD_OVERRIDES: [&str; 3] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// Its form in a query string.
const METHOD_PARAMETER: &[u8] = b"_method";

/// Headers by which some servers take another path than that of the request line.
pub(super) const PATH_OVERRIDES: [&str; 2] = ["x-original-url", "x-rewrite-url"];

/// Judges the headers. Only the exact paths of our endpoints are judged, with any query string;
/// another spelling of one of them, which an upstream might read as the endpoint, is refused like
/// every path that is not listed.
pub(super) fn classify(headers: &Headers<'_>, passthrough: &Passthrough) -> Arrival {
    let target = headers.first(":path").unwrap_or_default();
    let mut parts = target.splitn(2, |byte| *byte == b'?');
    let path = parts.next().unwrap_or_default();
    let query = parts.next().unwrap_or_default();
    let method = headers.first(":method").unwrap_or_default();
    let endpoint = Endpoint::ALL
        .into_iter()
        .find(|endpoint| path == endpoint.path().as_bytes());
    if let Some(error) = disguise(headers, method, query) {
        return Arrival::Refuse(endpoint.or_else(|| nearest(path)), error);
    }
    match endpoint {
        Some(endpoint) => match refusal(headers, endpoint) {
            Some(error) => Arrival::Refuse(Some(endpoint), error),
            None => Arrival::Judge(endpoint),
        },
        None if passthrough.admits(method, path) => Arrival::PassThrough,
        None => {
            let message = "no such path, or not with this method; `passthrough` lists what may \
                           pass beside the endpoints";
            let error = ApiError::new(ErrorKind::NotFound, message);
            Arrival::Refuse(nearest(path), error)
        }
    }
}

/// The endpoint that a path we do not serve lies under, such as `/v1/messages/count_tokens`.
fn nearest(path: &[u8]) -> Option<Endpoint> {
    Endpoint::ALL
        .into_iter()
        .find(|endpoint| path.starts_with(endpoint.path().as_bytes()))
}

/// Refuses what is not the request that its line says: another method in a header or in the query,
/// a tunnel, or the wish to speak another protocol from here on.
fn disguise(headers: &Headers<'_>, method: &[u8], query: &[u8]) -> Option<ApiError> {
    let refuse = |kind, message: &str| Some(ApiError::new(kind, message));
    if METHOD_OVERRIDES
        .iter()
        .any(|name| headers.first(name).is_some())
        || overrides_method(query)
    {
        let message = "a method override is not taken; send the request with its own method";
        return refuse(ErrorKind::MethodNotAllowed, message);
    }
    let tunnel = method == b"CONNECT" || headers.first(":protocol").is_some();
    if tunnel || headers.first("upgrade").is_some() {
        let message = "tunnels and protocol upgrades are not taken; send a plain request";
        return refuse(ErrorKind::UnsupportedUpgrade, message);
    }
    None
}

/// Has the query a parameter that servers take for the method, in any case and with escapes?
fn overrides_method(query: &[u8]) -> bool {
    query
        .split(|byte| matches!(byte, b'&' | b';'))
        .filter_map(|parameter| parameter.split(|byte| *byte == b'=').next())
        .any(|name| percent_decoded(name).eq_ignore_ascii_case(METHOD_PARAMETER))
}

/// `%XX` as the byte that it stands for; a `%` without two digits stays.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
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
            let parts = [8, now_unix_ns, 8, sequence].map(u64::to_le_bytes);
            let made =
                KeyedHash::once(secret.hash_keys(), Purpose::RequestId, parts.as_flattened());
            to_hex(made.get(..16).unwrap_or_default())
        }
    }
}
