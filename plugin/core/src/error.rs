//! What a request can be refused for. The filter and the backend answer with the same bytes, so a
//! client cannot tell (and need not care) which of them found the fault.

use serde::Serialize;

/// What the client did wrong, or what we cannot do. [`ErrorKind::row`] is the one table from a kind
/// to what the client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The body is not JSON, or is JSON that two parsers could read differently.
    InvalidJson,
    /// An object names a key twice.
    DuplicateKey,
    /// Arrays and objects are nested deeper than `JSON_DEPTH_MAX`.
    TooDeep,
    /// A field holds another JSON type than it must.
    InvalidType,
    /// A field has the right type and a value outside what is allowed.
    InvalidValue,
    /// A required field is absent or null.
    MissingField,
    /// Prompt and `max_tokens` do not fit the model's context.
    ContextLengthExceeded,
    /// No model has this id.
    ModelNotFound,
    /// No such path.
    NotFound,
    /// The path exists and does not answer this method.
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The body is larger than `REQUEST_BODY_BYTES_MAX`.
    BodyTooLarge,
    /// More headers, or more bytes of them, than `HTTP_HEADERS_MAX` and `HTTP_HEAD_BYTES_MAX`.
    HeadersTooLarge,
    /// The content type is not JSON.
    UnsupportedMediaType,
    /// The body is compressed.
    UnsupportedEncoding,
    /// A tunnel, or the wish to go on in another protocol.
    UnsupportedUpgrade,
    /// The tenant's budget of this window is spent.
    BudgetExhausted,
    /// A queue is full; the same request may succeed later.
    Overloaded,
    /// Not serving: starting, stopping, or no upstream.
    Unavailable,
    /// The provider that the request went to does not take it.
    ProviderRefused,
    /// The provider limits our rate.
    RateLimited,
    /// The provider failed, or does not take what is ours to give it.
    ProviderFailed,
    /// The provider did not answer in time.
    ProviderTimeout,
    /// Our fault.
    Internal,
}

/// One refusal, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Which row of the table this is.
    pub kind: ErrorKind,
    /// One sentence for a person. Never holds a prompt or a credential.
    pub message: String,
    /// Path of the field at fault, such as `messages[2].content[0].type`.
    pub param: Option<String>,
    /// Seconds after which trying again makes sense: the `retry-after` header.
    pub retry_after_s: Option<u32>,
}

/// Whose clients read an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorShape {
    /// `{"error":{"message","type","param","code"}}`
    OpenAi,
    /// `{"type":"error","error":{"type","message"}}`, as `/v1/messages` answers.
    Anthropic,
}

/// OpenAI's error envelope.
#[derive(Serialize)]
struct Envelope<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'static str,
}

/// Anthropic's error envelope. It has no place for the field at fault: the message names it.
#[derive(Serialize)]
struct AnthropicEnvelope<'a> {
    r#type: &'static str,
    error: AnthropicBody<'a>,
}

#[derive(Serialize)]
struct AnthropicBody<'a> {
    r#type: &'static str,
    message: &'a str,
}

impl ErrorKind {
    /// The table: HTTP status, OpenAI's `error.type`, and `error.code`.
    const fn row(self) -> (u16, &'static str, &'static str) {
        const REQUEST: &str = "invalid_request_error";
        match self {
            Self::InvalidJson => (400, REQUEST, "invalid_json"),
            Self::DuplicateKey => (400, REQUEST, "duplicate_key"),
            Self::TooDeep => (400, REQUEST, "json_too_deep"),
            Self::InvalidType => (400, REQUEST, "invalid_type"),
            Self::InvalidValue => (400, REQUEST, "invalid_value"),
            Self::MissingField => (400, REQUEST, "missing_field"),
            Self::ContextLengthExceeded => (400, REQUEST, "context_length_exceeded"),
            Self::ModelNotFound => (404, REQUEST, "model_not_found"),
            Self::NotFound => (404, REQUEST, "not_found"),
            Self::MethodNotAllowed => (405, REQUEST, "method_not_allowed"),
            Self::RequestTimeout => (408, REQUEST, "request_timeout"),
            Self::HeadersTooLarge => (431, REQUEST, "headers_too_large"),
            Self::BodyTooLarge => (413, REQUEST, "body_too_large"),
            Self::UnsupportedMediaType => (415, REQUEST, "unsupported_media_type"),
            Self::UnsupportedEncoding => (415, REQUEST, "unsupported_encoding"),
            Self::UnsupportedUpgrade => (400, REQUEST, "unsupported_upgrade"),
            Self::BudgetExhausted => (429, "insufficient_quota", "insufficient_quota"),
            Self::Overloaded => (429, "rate_limit_error", "overloaded"),
            Self::Unavailable => (503, "server_error", "unavailable"),
            Self::ProviderRefused => (400, REQUEST, "provider_refused"),
            Self::RateLimited => (429, "rate_limit_error", "rate_limit_exceeded"),
            Self::ProviderFailed => (502, "server_error", "provider_failed"),
            Self::ProviderTimeout => (504, "server_error", "provider_timeout"),
            Self::Internal => (500, "server_error", "internal_error"),
        }
    }

    /// HTTP status.
    pub const fn status(self) -> u16 {
        self.row().0
    }

    /// Anthropic's `error.type`, which follows the status
    /// (docs.anthropic.com/en/api/errors).
    const fn anthropic_type(self) -> &'static str {
        match self.status() {
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            500 | 502 => "api_error",
            504 => "timeout_error",
            503 => "overloaded_error",
            _ => "invalid_request_error",
        }
    }

    /// `error.code` of the body: a stable word for programs.
    pub const fn code(self) -> &'static str {
        self.row().2
    }
}

impl ApiError {
    /// A refusal that names no field.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            param: None,
            retry_after_s: None,
        }
    }

    /// Names the field at fault.
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says when to try again.
    pub fn retry_after_s(mut self, retry_after_s: u32) -> Self {
        self.retry_after_s = Some(retry_after_s);
        self
    }

    /// HTTP status of the answer.
    pub fn status(&self) -> u16 {
        self.kind.status()
    }

    /// `error.code` of the body.
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// The body of the answer in one of its shapes.
    pub fn body_in(&self, shape: ErrorShape) -> Vec<u8> {
        match shape {
            ErrorShape::OpenAi => self.body(),
            ErrorShape::Anthropic => crate::wire::to_json(&AnthropicEnvelope {
                r#type: "error",
                error: AnthropicBody {
                    r#type: self.kind.anthropic_type(),
                    message: &self.message,
                },
            }),
        }
    }

    /// `{"error":{"message","type","param","code"}}`, `param` null when no field is named. It is
    /// also the data of the event that ends a stream which fails midway.
    pub fn body(&self) -> Vec<u8> {
        let (_, r#type, code) = self.kind.row();
        let param = self.param.as_deref();
        let error = Body {
            message: &self.message,
            r#type,
            param,
            code,
        };
        crate::wire::to_json(&Envelope { error })
    }
}
