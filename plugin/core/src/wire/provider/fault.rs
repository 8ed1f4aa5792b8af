//! What a provider's error means, whatever its shape: OpenAI's `{"error":{"message","type","param",
//! "code"}}`, Anthropic's `{"type":"error","error":{"type","message"}}`, Google's
//! `{"error":{"code","message","status","details"}}`, alone or in a list.

use super::ProviderApi;
use super::turns::field;
use crate::error::{ApiError, ErrorKind};
use crate::limits::{PROVIDER_MESSAGE_CHARS_MAX, PROVIDER_PARAM_BYTES_MAX};
use crate::wire::json::Json;

/// One failure of a provider, or of a request there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What went wrong.
    pub kind: FaultKind,
    /// The provider's own words, kept only where they are about the request: of others a client
    /// can make no use, and they may name credentials.
    pub message: Option<String>,
    /// The field at fault, if the provider names one.
    pub param: Option<String>,
    /// How long the provider asks to be left alone, if the body says.
    pub retry_after_ms: Option<u64>,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The provider does not take the request.
    Request,
    /// The prompt is too long for the model there.
    ContextLength,
    /// It does not take our key.
    Credentials,
    /// It does not know the model.
    UnknownModel,
    /// Our account there is spent.
    Quota,
    /// Too many requests or tokens.
    RateLimited,
    /// It has too much to do, for all its clients.
    Overloaded,
    /// It failed.
    Failed,
    /// What it sent is no answer.
    Malformed,
}

impl FaultKind {
    /// Its name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "refused",
            Self::ContextLength => "context_length",
            Self::Credentials => "credentials",
            Self::UnknownModel => "unknown_model",
            Self::Quota => "quota",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Failed => "failed",
            Self::Malformed => "malformed",
        }
    }

    /// Is it the request's own doing, so that it would meet the same elsewhere?
    pub const fn is_of_request(self) -> bool {
        matches!(self, Self::Request | Self::ContextLength)
    }

    /// Does it pass by itself?
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::RateLimited | Self::Overloaded | Self::Failed)
    }
}

impl ProviderApi {
    /// What an answer with a status that is not 2xx means. Words count more than the status: of
    /// OpenAI's 429s one is an empty account, and Google's 400 may be a wrong key.
    pub fn fault(self, status: u16, body: &[u8]) -> Fault {
        let json = Json::parse(body).ok();
        let error = json.as_ref().and_then(error_object);
        let Some(error) = error else {
            return Fault::of_kind(by_status(status).unwrap_or(FaultKind::Failed));
        };
        let kind = by_words(error)
            .or_else(|| by_status(status))
            .or_else(|| by_type(error));
        Fault::read(kind.unwrap_or(FaultKind::Failed), error)
    }
}

impl Fault {
    /// What was sent is no answer.
    pub fn malformed() -> Self {
        Self::of_kind(FaultKind::Malformed)
    }

    /// A fault of which nothing more is known.
    pub fn of_kind(kind: FaultKind) -> Self {
        Self {
            kind,
            message: None,
            param: None,
            retry_after_ms: None,
        }
    }

    /// The fault that a body or an event with a good status reports, if it reports one.
    pub(super) fn within(json: &Json) -> Option<Self> {
        let error = error_object(json)?;
        let kind = by_words(error).or_else(|| by_type(error));
        Some(Self::read(kind.unwrap_or(FaultKind::Failed), error))
    }

    fn read(kind: FaultKind, error: &Json) -> Self {
        let said = field(error, "message").unwrap_or_default();
        let kind = match kind {
            FaultKind::Request if says_too_long(said) => FaultKind::ContextLength,
            kind => kind,
        };
        let message = kind.is_of_request().then(|| sane(said));
        let param = field(error, "param").filter(|_| kind.is_of_request());
        Self {
            kind,
            message: message.filter(|message| !message.is_empty()),
            param: param.filter(|param| is_path(param)).map(str::to_owned),
            retry_after_ms: retry_delay_ms(error),
        }
    }

    /// What our client is told. The provider goes by its name in our configuration.
    pub fn error(&self, provider: &str) -> ApiError {
        let (kind, says) = match self.kind {
            FaultKind::Request => (ErrorKind::ProviderRefused, "does not take the request"),
            FaultKind::ContextLength => (
                ErrorKind::ContextLengthExceeded,
                "has no room for the prompt",
            ),
            FaultKind::Credentials => (ErrorKind::ProviderFailed, "does not take our key"),
            FaultKind::UnknownModel => (ErrorKind::ProviderFailed, "does not know the model"),
            FaultKind::Quota => (ErrorKind::ProviderFailed, "has no quota left for us"),
            FaultKind::RateLimited => (ErrorKind::RateLimited, "limits our rate"),
            FaultKind::Overloaded => (ErrorKind::Unavailable, "is overloaded"),
            FaultKind::Failed => (ErrorKind::ProviderFailed, "failed"),
            FaultKind::Malformed => (ErrorKind::ProviderFailed, "sent what is no answer"),
        };
        let message = match &self.message {
            Some(said) => format!("the provider {provider} {says}: {said}"),
            None => format!("the provider {provider} {says}"),
        };
        let mut error = ApiError::new(kind, message);
        error.param.clone_from(&self.param);
        let waits = matches!(kind, ErrorKind::RateLimited | ErrorKind::Unavailable);
        let seconds = self
            .retry_after_ms
            .map_or(1, |ms| ms.div_ceil(1_000).max(1));
        error.retry_after_s = waits.then(|| u32::try_from(seconds).unwrap_or(u32::MAX));
        error
    }
}

/// The `error` of a body, which Google's streams without events wrap in a list.
fn error_object(json: &Json) -> Option<&Json> {
    let first = json.as_array().and_then(<[Json]>::first);
    let error = first.unwrap_or(json).get("error")?;
    (!error.is_null()).then_some(error)
}

/// By the most exact words: OpenAI's `code`, Google's `status` and reasons.
fn by_words(error: &Json) -> Option<FaultKind> {
    let details = error.get("details").and_then(Json::as_array);
    let reasons = details.unwrap_or_default().iter();
    let mut reasons = reasons.filter_map(|detail| field(detail, "reason"));
    if reasons.any(|reason| matches!(reason, "API_KEY_INVALID" | "API_KEY_EXPIRED")) {
        return Some(FaultKind::Credentials);
    }
    match field(error, "code")? {
        "context_length_exceeded" | "string_above_max_length" => Some(FaultKind::ContextLength),
        "invalid_api_key" => Some(FaultKind::Credentials),
        "insufficient_quota" | "billing_hard_limit_reached" => Some(FaultKind::Quota),
        "model_not_found" => Some(FaultKind::UnknownModel),
        "rate_limit_exceeded" => Some(FaultKind::RateLimited),
        _ => None,
    }
}

fn by_status(status: u16) -> Option<FaultKind> {
    Some(match status {
        400 | 413 | 422 => FaultKind::Request,
        401 | 403 => FaultKind::Credentials,
        402 => FaultKind::Quota,
        404 => FaultKind::UnknownModel,
        429 => FaultKind::RateLimited,
        529 => FaultKind::Overloaded,
        _ => return None,
    })
}

/// By Anthropic's `type` or Google's `status`, which is all that an error within a stream has.
fn by_type(error: &Json) -> Option<FaultKind> {
    let word = field(error, "status").or_else(|| field(error, "type"))?;
    Some(match word {
        "invalid_request_error"
        | "request_too_large"
        | "INVALID_ARGUMENT"
        | "FAILED_PRECONDITION" => FaultKind::Request,
        "authentication_error" | "permission_error" | "UNAUTHENTICATED" | "PERMISSION_DENIED" => {
            FaultKind::Credentials
        }
        "billing_error" | "insufficient_quota" => FaultKind::Quota,
        "not_found_error" | "NOT_FOUND" => FaultKind::UnknownModel,
        "rate_limit_error" | "RESOURCE_EXHAUSTED" => FaultKind::RateLimited,
        "overloaded_error" | "UNAVAILABLE" => FaultKind::Overloaded,
        _ => return None,
    })
}

/// Anthropic and Google have no code for it, only these sentences.
fn says_too_long(message: &str) -> bool {
    message.starts_with("prompt is too long") || message.contains("input token count")
}

/// The provider's words as we repeat them: short, and with nothing that could break a log line.
fn sane(message: &str) -> String {
    let chars = message.chars().take(PROVIDER_MESSAGE_CHARS_MAX);
    chars
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn is_path(param: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.[]".contains(&byte);
    param.len() <= PROVIDER_PARAM_BYTES_MAX && param.bytes().all(known)
}

/// Google's `RetryInfo`: `"retryDelay":"34.07s"`.
fn retry_delay_ms(error: &Json) -> Option<u64> {
    let details = error.get("details").and_then(Json::as_array)?;
    let delay = details
        .iter()
        .find_map(|detail| field(detail, "retryDelay"))?;
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    // A cast of a float that is too large or no number saturates or gives 0.
    (seconds >= 0.0).then_some((seconds * 1_000.0) as u64)
}
