//! One request to a provider, from its bytes to the beginning of an answer.

use std::time::SystemTime;

use farthing_core::limits::{PROVIDER_ANSWER_BYTES_MAX, PROVIDER_ERROR_BYTES_MAX};
use farthing_core::wire::provider::{Fault, ProviderApi, ProviderRequest, StreamReader, UsageWish};
use farthing_core::wire::{AnswerHead, Endpoint};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response};
use tokio::time::{Instant, timeout, timeout_at};

use super::answered::{Answer, StreamedAnswer};
use super::failure::{Failure, FailureKind};
use super::hints::asked_wait;
use super::model::ProviderModel;

/// The version of Anthropic's API that we speak.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// What is asked, and in which form the answer is wanted.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    pub endpoint: Endpoint,
    pub request: &'a ProviderRequest,
    pub head: &'a AnswerHead,
    pub form: AnswerForm,
}

/// How an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerForm {
    Whole,
    Streamed(UsageWish),
}

/// Asks once. Dropping this future, or the answer, ends the request at the provider.
pub(super) async fn attempt(
    model: &std::sync::Arc<ProviderModel>,
    question: &Question<'_>,
) -> Result<Answer, Failure> {
    let timeouts = model.provider.timeouts;
    let begun = Instant::now();
    let patience = match question.form {
        AnswerForm::Whole => timeouts.answer,
        AnswerForm::Streamed(_) => timeouts.first_byte,
    };
    let deadline = begun + patience;
    let sending = model
        .provider
        .client
        .request(http_request(model, question)?);
    let response = match timeout_at(deadline, sending).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) if error.is_connect() => return Err(Failure::new(FailureKind::Connect)),
        Ok(Err(_)) => return Err(Failure::new(FailureKind::Cut)),
        Err(_) => return Err(Failure::new(FailureKind::TimedOut)),
    };
    if !response.status().is_success() {
        return Err(refusal(model, response, deadline).await);
    }
    if is_encoded(response.headers()) {
        return Err(Fault::malformed().into());
    }
    match question.form {
        AnswerForm::Whole => whole(model, question, response, deadline).await,
        AnswerForm::Streamed(wish) => streamed(model, question, response, (wish, deadline)).await,
    }
}

fn http_request(
    model: &ProviderModel,
    question: &Question<'_>,
) -> Result<Request<Full<Bytes>>, Failure> {
    let provider = &model.provider;
    let accept = match question.form {
        AnswerForm::Whole => "application/json",
        AnswerForm::Streamed(_) => "text/event-stream",
    };
    let mut builder = Request::builder()
        .method(Method::POST)
        .uri(provider.base_url.with(&question.request.path))
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, accept)
        .header(USER_AGENT, concat!("farthing/", env!("CARGO_PKG_VERSION")));
    if provider.api == ProviderApi::Anthropic {
        builder = builder.header("anthropic-version", ANTHROPIC_VERSION);
    }
    if let Some((name, value)) = provider
        .key
        .as_ref()
        .and_then(|key| key.header(provider.api))
    {
        builder = builder.header(name, value);
    }
    let body = Full::new(Bytes::from(question.request.body.clone()));
    // The configuration has seen to the address, and the rest is ours.
    builder
        .body(body)
        .map_err(|_| Failure::new(FailureKind::Connect))
}

/// What an answer with a status that is not 2xx means. Redirects are not followed: they would carry
/// the key to who knows where.
async fn refusal(
    model: &ProviderModel,
    response: Response<Incoming>,
    deadline: Instant,
) -> Failure {
    let (head, body) = response.into_parts();
    let provider = &model.provider;
    // A body that does not come leaves the status to tell.
    let read = timeout_at(deadline, read(body, PROVIDER_ERROR_BYTES_MAX, model)).await;
    let body = read.map(Result::unwrap_or_default).unwrap_or_default();
    let fault = provider.api.fault(head.status.as_u16(), &body);
    let failure = redacted(model, fault);
    let asked = asked_wait(
        |name| head.headers.get(name)?.to_str().ok(),
        SystemTime::now(),
    );
    let asked = asked.filter(|_| failure.passes());
    Failure {
        retry_after: asked.or(failure.retry_after),
        ..failure
    }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    let is_plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    !headers.get_all(CONTENT_ENCODING).iter().all(is_plain)
}

async fn whole(
    model: &ProviderModel,
    question: &Question<'_>,
    response: Response<Incoming>,
    deadline: Instant,
) -> Result<Answer, Failure> {
    let reading = read(response.into_body(), PROVIDER_ANSWER_BYTES_MAX, model);
    let Ok(body) = timeout_at(deadline, reading).await else {
        return Err(Failure::new(FailureKind::TimedOut));
    };
    let api = model.provider.api;
    let answer = api.answer(question.endpoint, question.head, &body?);
    Ok(Answer::Whole(
        answer.map_err(|fault| redacted(model, fault))?,
    ))
}

/// Waits for the first event, so that what fails before it can still be asked elsewhere.
async fn streamed(
    model: &std::sync::Arc<ProviderModel>,
    question: &Question<'_>,
    response: Response<Incoming>,
    (wish, deadline): (UsageWish, Instant),
) -> Result<Answer, Failure> {
    let kind = response.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let media_type = kind.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("text/event-stream") {
        return Err(Fault::malformed().into());
    }
    let reader = StreamReader::new(
        model.provider.api,
        question.endpoint,
        question.head.clone(),
        wish,
    );
    let mut answer = StreamedAnswer::new(model, response.into_body(), reader);
    match timeout_at(deadline, answer.open()).await {
        Ok(Ok(())) => Ok(Answer::Streamed(Box::new(answer))),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::new(FailureKind::TimedOut)),
    }
}

/// Reads a body whole, with no silence longer than the provider is allowed.
async fn read(
    mut body: Incoming,
    bytes_max: usize,
    model: &ProviderModel,
) -> Result<Vec<u8>, Failure> {
    let idle = model.provider.timeouts.idle;
    let mut bytes = Vec::new();
    loop {
        let frame = match timeout(idle, body.frame()).await {
            Err(_) => return Err(Failure::new(FailureKind::TimedOut)),
            Ok(None) => return Ok(bytes),
            Ok(Some(Err(_))) => return Err(Failure::new(FailureKind::Cut)),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > bytes_max {
                return Err(Failure::new(FailureKind::TooLarge));
            }
            bytes.extend_from_slice(&data);
        }
    }
}

/// A fault whose words do not repeat our key.
pub(super) fn redacted(model: &ProviderModel, mut fault: Fault) -> Failure {
    if let (Some(key), Some(message)) = (&model.provider.key, &mut fault.message) {
        *message = key.redact(message);
    }
    fault.into()
}
