//! What a candidate holds, whole or in parts: both have one shape.

use crate::wire::json::Json;
use crate::wire::provider::turns::field;
use crate::wire::provider::whole::{Finish, Report, ToolCall};
use crate::wire::response::AnswerHead;
use crate::wire::usage::Usage;

/// A piece of a candidate.
pub(super) enum Piece<'a> {
    Text(&'a str),
    Thought(&'a str),
    Call(ToolCall),
}

/// The place of a candidate among the choices.
pub(super) fn index(candidate: &Json) -> u64 {
    candidate.get("index").and_then(Json::as_u64).unwrap_or(0)
}

/// The pieces of a candidate, in their order. `calls` is how many calls the answer has so far, for
/// the ids of those that come without one. `None` if a part cannot be read.
pub(super) fn pieces<'a>(
    head: &AnswerHead,
    candidate: &'a Json,
    calls: &mut usize,
) -> Option<Vec<Piece<'a>>> {
    let content = candidate.get("content");
    let parts = content.and_then(|content| content.get("parts")?.as_array());
    let mut pieces = Vec::new();
    for part in parts.unwrap_or_default() {
        if let Some(text) = field(part, "text") {
            match part.get("thought") {
                Some(Json::Bool(true)) => pieces.push(Piece::Thought(text)),
                _ => pieces.push(Piece::Text(text)),
            }
        } else if let Some(call) = part.get("functionCall") {
            let name = field(call, "name")?.to_owned();
            let given = field(call, "id").filter(|id| !id.is_empty());
            let id = given.map_or_else(|| call_id(head, *calls), str::to_owned);
            *calls = calls.saturating_add(1);
            let args = call.get("args").filter(|args| !args.is_null());
            let args = args.map_or_else(|| b"{}".to_vec(), Json::to_bytes);
            let call = ToolCall::new(id, name, String::from_utf8(args).ok()?);
            pieces.push(Piece::Call(call.signed(field(part, "thoughtSignature"))));
        }
    }
    Some(pieces)
}

/// Unique among all answers, as the answer's own id is.
fn call_id(head: &AnswerHead, nth: usize) -> String {
    let (_, unique) = head.id.split_once('-').unwrap_or(("", &head.id));
    format!("call_{unique}_{nth}")
}

/// Why a candidate ended, if it has. Any reason but the first two is one of the provider's own.
pub(super) fn finish(candidate: &Json, calls: usize) -> Option<Finish> {
    match field(candidate, "finishReason")? {
        "" | "FINISH_REASON_UNSPECIFIED" => None,
        "STOP" if calls > 0 => Some(Finish::ToolCalls),
        "STOP" => Some(Finish::Stop),
        "MAX_TOKENS" => Some(Finish::Length),
        _ => Some(Finish::ContentFilter),
    }
}

/// Did the provider refuse the prompt itself?
pub(super) fn is_blocked(json: &Json) -> bool {
    let feedback = json.get("promptFeedback");
    feedback.is_some_and(|feedback| field(feedback, "blockReason").is_some())
}

/// What it took so far. Thoughts are counted beside the candidates.
pub(super) fn report(json: &Json) -> Option<Report> {
    let usage = json.get("usageMetadata")?;
    let count = |key| usage.get(key).and_then(Json::as_u64);
    let prompt = count("promptTokenCount")?;
    let of_tools = count("toolUsePromptTokenCount").unwrap_or(0);
    let prompt_tokens = prompt.saturating_add(of_tools);
    let thoughts = count("thoughtsTokenCount");
    let candidates = count("candidatesTokenCount").unwrap_or(0);
    let cached = count("cachedContentTokenCount").unwrap_or(0);
    Some(Report {
        usage: Usage {
            prompt_tokens,
            completion_tokens: candidates.saturating_add(thoughts.unwrap_or(0)),
            cached_tokens: cached.min(prompt_tokens),
            ..Usage::default()
        },
        reasoning_tokens: thoughts,
    })
}
