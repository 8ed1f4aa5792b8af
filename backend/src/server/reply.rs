//! Responses: bytes that are complete, or a stream of events.

use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::money::Nanousd;
use http_body_util::{Either, Full};
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::provided_stream::ProvidedStream;
use super::stream::EventStream;

/// A response body: whole, or a stream of our own or of a provider's.
pub type ReplyBody = Either<Full<Bytes>, Either<EventStream, ProvidedStream>>;

/// Where the answer comes from.
const SOURCE: HeaderName = HeaderName::from_static("x-farthing-source");
/// The model that made it.
const MODEL: HeaderName = HeaderName::from_static("x-farthing-model");

/// The models of a cascade that were asked in vain, in their order.
const TRIED: HeaderName = HeaderName::from_static("x-farthing-tried");
/// What was spent besides the answer, in dollars: on those models, on comparing it with others, and
/// on what was done after the tenant's answers before it.
const WASTED: HeaderName = HeaderName::from_static("x-farthing-wasted-usd");

/// Says to a proxy that nothing was computed, so that it may ask another replica: a completion is
/// not idempotent otherwise.
const NOT_STARTED: HeaderName = HeaderName::from_static("x-farthing-not-started");
/// The content type of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// A complete body of this content type.
pub fn full(status: u16, content_type: &'static str, bytes: Vec<u8>) -> Response<ReplyBody> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(bytes))));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// 200 with a JSON body.
pub fn json(bytes: Vec<u8>) -> Response<ReplyBody> {
    full(200, "application/json", bytes)
}

/// OpenAI's error object, with `retry-after` where trying again makes sense and
/// `x-farthing-not-started` where a queue was full.
pub fn error(error: &ApiError) -> Response<ReplyBody> {
    let mut response = full(error.status(), "application/json", error.body());
    if let Some(retry_after_s) = error.retry_after_s {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(retry_after_s));
    }
    if error.kind == ErrorKind::Overloaded {
        let headers = response.headers_mut();
        headers.insert(NOT_STARTED, HeaderValue::from_static("true"));
    }
    response
}

/// Says which models were asked before the one that answers.
pub fn after(mut response: Response<ReplyBody>, tried: &[&str]) -> Response<ReplyBody> {
    if !tried.is_empty()
        && let Ok(tried) = HeaderValue::from_str(&tried.join(","))
    {
        response.headers_mut().insert(TRIED, tried);
    }
    response
}

/// Says what was spent besides the answer.
pub fn with_overhead(mut response: Response<ReplyBody>, amount: Nanousd) -> Response<ReplyBody> {
    if amount > Nanousd::ZERO
        && let Ok(amount) = HeaderValue::from_str(&amount.to_string())
    {
        response.headers_mut().insert(WASTED, amount);
    }
    response
}

/// 200 with server-sent events.
pub fn events(stream: EventStream) -> Response<ReplyBody> {
    streamed(Either::Left(stream))
}

/// The same, from a provider.
pub fn provided_events(stream: ProvidedStream) -> Response<ReplyBody> {
    streamed(Either::Right(stream))
}

fn streamed(stream: Either<EventStream, ProvidedStream>) -> Response<ReplyBody> {
    let mut response = Response::new(Either::Right(stream));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Says that `model` computed the answer.
pub fn from_model(response: Response<ReplyBody>, model: &str) -> Response<ReplyBody> {
    from_source(response, "model", model)
}

/// Says where an answer comes from that `model` computed.
pub fn from_source(
    mut response: Response<ReplyBody>,
    source: &'static str,
    model: &str,
) -> Response<ReplyBody> {
    response
        .headers_mut()
        .insert(SOURCE, HeaderValue::from_static(source));
    if let Ok(model) = HeaderValue::from_str(model) {
        response.headers_mut().insert(MODEL, model);
    }
    response
}
