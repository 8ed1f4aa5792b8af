//! A whole message as an answer.

use crate::wire::json::Json;
use crate::wire::provider::ProviderAnswer;
use crate::wire::provider::turns::field;
use crate::wire::provider::whole::{self, Choice, Finish, Report, ToolCall};
use crate::wire::response::AnswerHead;
use crate::wire::usage::Usage;

/// Reads a message.
pub(in crate::wire::provider) fn answer(head: &AnswerHead, json: &Json) -> Option<ProviderAnswer> {
    if field(json, "type") != Some("message") {
        return None;
    }
    let mut choice = Choice {
        finish: finish(field(json, "stop_reason")?),
        ..Choice::default()
    };
    for block in json.get("content")?.as_array()? {
        match field(block, "type")? {
            "text" => choice.text.push_str(field(block, "text")?),
            "thinking" => choice.reasoning.push_str(field(block, "thinking")?),
            "tool_use" => {
                let of = |key| field(block, key).map(str::to_owned);
                let input = block.get("input")?.to_bytes();
                let arguments = String::from_utf8(input).ok()?;
                let call = ToolCall::new(of("id")?, of("name")?, arguments);
                choice.calls.push(call);
            }
            // What was thought and is not shown, and what is new.
            _ => {}
        }
    }
    let report = json.get("usage").and_then(report);
    Some(whole::answer(head, vec![choice], report))
}

pub(super) fn report(usage: &Json) -> Option<Report> {
    Some(Report {
        usage: Usage::from_json(usage)?,
        // Thinking is among the output and not counted apart.
        reasoning_tokens: None,
    })
}

/// What OpenAI calls a reason to stop. One that we do not know is none that a whole answer has.
pub(super) fn finish(reason: &str) -> Finish {
    match reason {
        "end_turn" | "stop_sequence" => Finish::Stop,
        "max_tokens" | "model_context_window_exceeded" | "pause_turn" => Finish::Length,
        "tool_use" => Finish::ToolCalls,
        _ => Finish::ContentFilter,
    }
}
