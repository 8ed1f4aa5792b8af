//! An answer in OpenAI's shape, made of what another API says.

use super::ProviderAnswer;
use crate::wire::response::AnswerHead;
use crate::wire::to_json;
use crate::wire::usage::Usage;
use serde::Serialize;

/// One choice.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub text: String,
    /// What the model thought aloud: `reasoning_content`, as vLLM and others name it.
    pub reasoning: String,
    pub calls: Vec<ToolCall>,
    pub finish: Finish,
}

/// Why a choice ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Finish {
    #[default]
    Stop,
    Length,
    ToolCalls,
    /// The provider ended it for a reason of its own.
    ContentFilter,
}

/// One call of a tool.
#[derive(Debug, Default, Serialize)]
pub(super) struct ToolCall {
    /// Of a chunk only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    pub function: Function,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_content: Option<ExtraContent>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Function {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub arguments: String,
}

/// What must come back with the call, by the name that Google's own OpenAI endpoint has for it.
#[derive(Debug, Serialize)]
pub(super) struct ExtraContent {
    google: Google,
}

#[derive(Debug, Serialize)]
struct Google {
    thought_signature: String,
}

/// What an answer took, with what OpenAI's clients read beside the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    pub usage: Usage,
    /// Of the completion, if the provider says.
    pub reasoning_tokens: Option<u64>,
}

#[derive(Serialize)]
struct WireAnswer<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<WireChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<WireUsage>,
}

#[derive(Serialize)]
struct WireChoice {
    index: usize,
    message: Message,
    logprobs: Option<()>,
    finish_reason: Finish,
}

#[derive(Serialize)]
struct Message {
    role: &'static str,
    content: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning_content: String,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
}

#[derive(Serialize)]
pub(super) struct WireUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    /// OpenRouter's name, which our filter reads; OpenAI has none.
    #[serde(skip_serializing_if = "is_zero")]
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl ToolCall {
    /// A call with all of its arguments.
    pub(super) fn new(id: String, name: String, arguments: String) -> Self {
        Self {
            index: None,
            id: Some(id),
            kind: Some("function"),
            function: Function {
                name: Some(name),
                arguments,
            },
            extra_content: None,
        }
    }

    /// The same, with what Gemini wants back.
    pub(super) fn signed(mut self, signature: Option<&str>) -> Self {
        self.extra_content = signature.map(|signature| ExtraContent {
            google: Google {
                thought_signature: signature.to_owned(),
            },
        });
        self
    }
}

impl From<Report> for WireUsage {
    fn from(report: Report) -> Self {
        let usage = report.usage;
        let reasoning = |reasoning_tokens| CompletionDetails { reasoning_tokens };
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.total_tokens(),
            prompt_tokens_details: PromptDetails {
                cached_tokens: usage.cached_tokens,
                cache_write_tokens: usage
                    .cache_write_tokens
                    .saturating_add(usage.cache_write_1h_tokens),
            },
            completion_tokens_details: report.reasoning_tokens.map(reasoning),
        }
    }
}

/// The answer.
pub(super) fn answer(
    head: &AnswerHead,
    choices: Vec<Choice>,
    report: Option<Report>,
) -> ProviderAnswer {
    let choices = choices.into_iter().enumerate();
    let choices = choices.map(|(index, choice)| WireChoice {
        index,
        finish_reason: choice.finish,
        logprobs: None,
        message: Message {
            role: "assistant",
            content: (choice.calls.is_empty() || !choice.text.is_empty()).then_some(choice.text),
            reasoning_content: choice.reasoning,
            refusal: None,
            tool_calls: choice.calls,
        },
    });
    let body = to_json(&WireAnswer {
        id: &head.id,
        object: "chat.completion",
        created: head.created_unix_s,
        model: &head.model,
        choices: choices.collect(),
        usage: report.map(WireUsage::from),
    });
    ProviderAnswer {
        body,
        usage: report.map(|report| report.usage),
    }
}
