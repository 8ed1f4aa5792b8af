//! A whole `GenerateContentResponse` as an answer.

use super::candidate::{self, Piece};
use crate::limits::ANSWER_CHOICES_MAX;
use crate::wire::json::Json;
use crate::wire::provider::ProviderAnswer;
use crate::wire::provider::whole::{self, Choice, Finish};
use crate::wire::response::AnswerHead;

/// Reads a response.
pub(in crate::wire::provider) fn answer(head: &AnswerHead, json: &Json) -> Option<ProviderAnswer> {
    let candidates = json.get("candidates").and_then(Json::as_array);
    let mut candidates: Vec<&Json> = candidates.unwrap_or_default().iter().collect();
    if candidates.len() > ANSWER_CHOICES_MAX {
        return None;
    }
    candidates.sort_by_key(|candidate| candidate::index(candidate));
    let mut calls = 0;
    let mut choices = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        choices.push(choice(head, candidate, &mut calls)?);
    }
    if choices.is_empty() {
        if !candidate::is_blocked(json) {
            return None;
        }
        choices.push(Choice {
            finish: Finish::ContentFilter,
            ..Choice::default()
        });
    }
    Some(whole::answer(head, choices, candidate::report(json)))
}

fn choice(head: &AnswerHead, candidate: &Json, calls: &mut usize) -> Option<Choice> {
    let mut choice = Choice::default();
    for piece in candidate::pieces(head, candidate, calls)? {
        match piece {
            Piece::Text(text) => choice.text.push_str(text),
            Piece::Thought(text) => choice.reasoning.push_str(text),
            Piece::Call(call) => choice.calls.push(call),
        }
    }
    choice.finish = candidate::finish(candidate, choice.calls.len())?;
    Some(choice)
}
