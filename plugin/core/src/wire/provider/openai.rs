//! Providers that speak OpenAI's own API. What we do not know passes as it came; only the model's
//! name is ours, and the usage is asked for and taken out again.

use super::stream::{Progress, UsageWish};
use super::turns::unsupported;
use super::{ProviderAnswer, ProviderRequest, Target, object, string};
use crate::error::ApiError;
use crate::limits::ANSWER_CHOICES_MAX;
use crate::wire::endpoint::Endpoint;
use crate::wire::json::Json;
use crate::wire::request::Request;
use crate::wire::response::AnswerHead;
use crate::wire::rewrite::{MaxTokensRewrite, Rewrite, set};
use crate::wire::sse;
use crate::wire::usage::Usage;

/// Our own field, which no provider knows.
const OURS: &str = "farthing";

/// Writes the request: the client's, with the provider's name of the model.
pub(super) fn request(request: &Request, target: &Target<'_>) -> Result<ProviderRequest, ApiError> {
    if request.sampling.confidence {
        return Err(unsupported("farthing.confidence".to_owned()));
    }
    let rewrite = Rewrite {
        model: Some(target.model.to_owned()),
        max_tokens: request
            .max_tokens
            .and_then(|limit| MaxTokensRewrite::new(request, target.max_tokens_field, limit)),
        include_usage: request.stream,
    };
    let mut json = request.json.clone();
    if let Json::Object(entries) = &mut json {
        entries.retain(|(key, _)| key != OURS);
    }
    let path = match request.endpoint {
        Endpoint::Completions => "/completions",
        _ => "/chat/completions",
    };
    Ok(ProviderRequest {
        path: path.to_owned(),
        body: rewrite.apply(json),
    })
}

/// Reads a whole answer.
pub(super) fn answer(
    endpoint: Endpoint,
    head: &AnswerHead,
    mut json: Json,
) -> Option<ProviderAnswer> {
    let choices = json.get("choices").and_then(Json::as_array)?;
    let named = json.get("object").and_then(Json::as_str) == Some(endpoint.answer_object());
    if choices.is_empty() || !named {
        return None;
    }
    let usage = Usage::of_answer(&json);
    if let Json::Object(entries) = &mut json {
        set(entries, "model", string(&head.model));
    }
    Some(ProviderAnswer {
        body: json.to_bytes(),
        usage,
    })
}

/// The chunks of one stream.
#[derive(Debug)]
pub(super) struct OpenAiEvents {
    endpoint: Endpoint,
    /// With the provider's own id and time, once they are known.
    head: AnswerHead,
    wish: UsageWish,
    /// As it came.
    usage: Option<Json>,
    /// Each choice that began, and whether it has ended.
    choices: Vec<(u64, bool)>,
}

impl OpenAiEvents {
    pub(super) fn new(endpoint: Endpoint, head: AnswerHead, wish: UsageWish) -> Self {
        Self {
            endpoint,
            head,
            wish,
            usage: None,
            choices: Vec::new(),
        }
    }

    pub(super) fn event(&mut self, json: Json, out: &mut Vec<u8>) -> Option<Progress> {
        let Json::Object(mut entries) = json else {
            return None;
        };
        set(&mut entries, "model", string(&self.head.model));
        self.take_usage(&mut entries);
        let json = Json::Object(entries);
        let choices = json.get("choices").and_then(Json::as_array)?;
        if choices.is_empty() {
            // The usage, or what Azure found in the prompt: many clients index the first choice.
            return Some(Progress::More);
        }
        for choice in choices {
            self.note(choice)?;
        }
        if let Some(id) = json.get("id").and_then(Json::as_str) {
            id.clone_into(&mut self.head.id);
        }
        if let Some(created) = json.get("created").and_then(Json::as_u64) {
            self.head.created_unix_s = created;
        }
        sse::event(&json.to_bytes(), out);
        Some(Progress::More)
    }

    /// Some servers report the usage in the last chunk with a choice; ours comes in one of its own.
    fn take_usage(&mut self, entries: &mut Vec<(String, Json)>) {
        let Some(at) = entries.iter().position(|(key, _)| key == "usage") else {
            return;
        };
        let mut value = Json::Null;
        if let Some((_, usage)) = entries.get_mut(at) {
            std::mem::swap(usage, &mut value);
        }
        if value.as_object().is_some() {
            self.usage = Some(value);
        }
        if self.wish == UsageWish::NotWanted {
            entries.remove(at);
        }
    }

    fn note(&mut self, choice: &Json) -> Option<()> {
        let index = choice.get("index")?.as_u64()?;
        let ended = choice
            .get("finish_reason")
            .is_some_and(|reason| !reason.is_null());
        let known = self.choices.iter_mut().find(|(known, _)| *known == index);
        if let Some((_, has_ended)) = known {
            *has_ended |= ended;
        } else if self.choices.len() < ANSWER_CHOICES_MAX {
            self.choices.push((index, ended));
        } else {
            return None;
        }
        Some(())
    }

    /// Has every choice ended? Then a missing `[DONE]` takes nothing away.
    pub(super) fn is_whole(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|(_, ended)| *ended)
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        Usage::from_json(self.usage.as_ref()?)
    }

    pub(super) fn usage_event(&self, out: &mut Vec<u8>) {
        if let Some(usage) = &self.usage {
            let event = object([
                ("id", string(&self.head.id)),
                ("object", string(self.endpoint.chunk_object())),
                ("created", Json::unsigned(self.head.created_unix_s)),
                ("model", string(&self.head.model)),
                ("choices", Json::Array(Vec::new())),
                ("usage", usage.clone()),
            ]);
            sse::event(&event.to_bytes(), out);
        }
    }
}
