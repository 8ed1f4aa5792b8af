//! The APIs that are judged.

use crate::error::ErrorShape;

/// Which API a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/responses`
    Responses,
    /// `/v1/messages`, Anthropic's.
    Messages,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Messages,
    ];

    /// The endpoint that serves `path` (no query), if it is one of ours.
    pub fn from_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.path() == path)
    }

    /// Its path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
        }
    }

    /// What its clients take for an error.
    pub const fn error_shape(self) -> ErrorShape {
        match self {
            Self::Messages => ErrorShape::Anthropic,
            _ => ErrorShape::OpenAi,
        }
    }

    /// Has its stream a usage event only where `stream_options.include_usage` asks for it?
    pub const fn has_usage_option(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions)
    }

    /// The field that holds the prompt.
    pub const fn prompt_field(self) -> &'static str {
        match self {
            Self::ChatCompletions | Self::Messages => "messages",
            Self::Completions => "prompt",
            Self::Embeddings | Self::Responses => "input",
        }
    }

    /// `object` of a whole answer (`type` of a message).
    pub(super) const fn answer_object(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat.completion",
            Self::Completions => "text_completion",
            Self::Embeddings => "list",
            Self::Responses => "response",
            Self::Messages => "message",
        }
    }

    /// `object` of an event of a streamed answer, where events are answers in parts.
    pub(super) const fn chunk_object(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat.completion.chunk",
            _ => self.answer_object(),
        }
    }
}
