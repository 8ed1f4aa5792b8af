//! One choice of a streamed answer, put together from its deltas.

use super::{Entries, set_once};
use crate::limits::TOOLS_MAX;
use crate::wire::endpoint::Endpoint;
use crate::wire::json::Json;

/// Fields of a delta whose texts are appended. The last two are how vLLM and others send reasoning.
pub(in crate::wire) const TEXTS: [&str; 5] = [
    "content",
    "refusal",
    "text",
    "reasoning_content",
    "reasoning",
];

/// The choice so far.
#[derive(Debug)]
pub(super) struct PartialChoice {
    index: u64,
    role: Option<String>,
    texts: Vec<(String, String)>,
    tool_calls: Vec<ToolCall>,
    logprobs: Json,
    finish_reason: Json,
    other: Entries,
}

#[derive(Debug, Default)]
struct ToolCall {
    index: u64,
    id: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    arguments: String,
}

impl PartialChoice {
    pub(super) fn new(index: u64) -> Self {
        Self {
            index,
            role: None,
            texts: Vec::new(),
            tool_calls: Vec::new(),
            logprobs: Json::Null,
            finish_reason: Json::Null,
            other: Vec::new(),
        }
    }

    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// Merges one event's entry of this choice and says how many bytes that added.
    pub(super) fn absorb(
        &mut self,
        endpoint: Endpoint,
        entries: Entries,
        event_bytes: usize,
    ) -> Option<usize> {
        let mut bytes = 0;
        for (key, value) in entries {
            match (key.as_str(), value) {
                ("index", _) | (_, Json::Null) => {}
                ("delta", Json::Object(delta)) if endpoint == Endpoint::ChatCompletions => {
                    for (key, value) in delta {
                        bytes += self.merge_delta(&key, value)?;
                    }
                }
                ("text", text @ Json::String(_)) if endpoint == Endpoint::Completions => {
                    bytes += self.merge_delta("text", text)?;
                }
                ("delta" | "text" | "message", _) => return None,
                ("finish_reason", reason) => self.finish_reason = reason,
                ("logprobs", logprobs) => {
                    merge_logprobs(&mut self.logprobs, logprobs)?;
                    // Log probabilities make up most of the event that carries them.
                    bytes += event_bytes;
                }
                (key, value) => bytes += set_once(&mut self.other, key, value)?,
            }
        }
        Some(bytes)
    }

    /// Appends to a text that there is already; says whether there was.
    pub(super) fn append(&mut self, field: &str, text: &str) -> bool {
        let known = self.texts.iter_mut().find(|(name, _)| name == field);
        known.map(|(_, whole)| whole.push_str(text)).is_some()
    }

    /// Merges one field of a delta and says how many bytes that added.
    fn merge_delta(&mut self, key: &str, value: Json) -> Option<usize> {
        match (key, value) {
            (_, Json::Null) => Some(0),
            ("role", Json::String(role)) => {
                let bytes = role.len();
                let same = *self.role.get_or_insert_with(|| role.clone()) == role;
                same.then_some(bytes)
            }
            (key, Json::String(text)) if TEXTS.contains(&key) => {
                let known = self.texts.iter_mut().find(|(name, _)| name == key);
                let bytes = text.len();
                match known {
                    Some((_, whole)) => whole.push_str(&text),
                    None => self.texts.push((key.to_owned(), text)),
                }
                Some(bytes)
            }
            ("tool_calls", Json::Array(calls)) => calls
                .into_iter()
                .try_fold(0, |bytes, call| Some(bytes + self.merge_call(call)?)),
            _ => None,
        }
    }

    fn merge_call(&mut self, call: Json) -> Option<usize> {
        let index = call.get("index")?.as_u64()?;
        let position = self.tool_calls.iter().position(|call| call.index == index);
        if position.is_none() {
            if self.tool_calls.len() >= TOOLS_MAX {
                return None;
            }
            self.tool_calls.push(ToolCall {
                index,
                ..ToolCall::default()
            });
        }
        let into = match position {
            Some(position) => self.tool_calls.get_mut(position)?,
            None => self.tool_calls.last_mut()?,
        };
        into.merge(call)
    }

    pub(super) fn into_json(self, endpoint: Endpoint) -> Json {
        let mut entries = vec![("index".to_owned(), Json::unsigned(self.index))];
        match endpoint {
            Endpoint::ChatCompletions => {
                let role = self.role.unwrap_or_else(|| "assistant".to_owned());
                let mut message = vec![("role".to_owned(), Json::String(role))];
                // An unstreamed message always has the field, null when it only calls tools.
                if !self.texts.iter().any(|(key, _)| key == "content") {
                    message.push(("content".to_owned(), Json::Null));
                }
                message.extend(
                    self.texts
                        .into_iter()
                        .map(|(key, text)| (key, Json::String(text))),
                );
                if !self.tool_calls.is_empty() {
                    let mut calls = self.tool_calls;
                    calls.sort_by_key(|call| call.index);
                    let calls = calls.into_iter().map(ToolCall::into_json).collect();
                    message.push(("tool_calls".to_owned(), Json::Array(calls)));
                }
                entries.push(("message".to_owned(), Json::Object(message)));
            }
            _ => {
                let texts = self.texts.into_iter();
                entries.extend(texts.map(|(key, text)| (key, Json::String(text))));
            }
        }
        entries.push(("logprobs".to_owned(), self.logprobs));
        entries.push(("finish_reason".to_owned(), self.finish_reason));
        entries.extend(self.other);
        Json::Object(entries)
    }
}

impl ToolCall {
    fn merge(&mut self, call: Json) -> Option<usize> {
        let Json::Object(entries) = call else {
            return None;
        };
        let mut bytes = 0;
        for (key, value) in entries {
            match (key.as_str(), value) {
                ("index", _) | (_, Json::Null) => {}
                ("id", Json::String(id)) => bytes += first_text(&mut self.id, id),
                ("type", Json::String(kind)) => bytes += first_text(&mut self.kind, kind),
                ("function", Json::Object(function)) => {
                    for (key, value) in function {
                        match (key.as_str(), value) {
                            (_, Json::Null) => {}
                            ("name", Json::String(name)) => {
                                bytes += first_text(&mut self.name, name);
                            }
                            ("arguments", Json::String(arguments)) => {
                                bytes += arguments.len();
                                self.arguments.push_str(&arguments);
                            }
                            _ => return None,
                        }
                    }
                }
                _ => return None,
            }
        }
        Some(bytes)
    }

    fn into_json(self) -> Json {
        let text = |text: Option<String>| text.map_or(Json::Null, Json::String);
        let function = vec![
            ("name".to_owned(), text(self.name)),
            ("arguments".to_owned(), Json::String(self.arguments)),
        ];
        Json::Object(vec![
            ("id".to_owned(), text(self.id)),
            (
                "type".to_owned(),
                Json::String(self.kind.unwrap_or_else(|| "function".to_owned())),
            ),
            ("function".to_owned(), Json::Object(function)),
        ])
    }
}

/// Keeps the first text that is not empty; servers repeat a call's name or send it empty.
fn first_text(into: &mut Option<String>, text: String) -> usize {
    if text.is_empty() || into.is_some() {
        return 0;
    }
    let bytes = text.len();
    *into = Some(text);
    bytes
}

/// Both of OpenAI's shapes are objects of lists with one item a token: the lists are appended.
fn merge_logprobs(into: &mut Json, logprobs: Json) -> Option<()> {
    if into.is_null() {
        *into = Json::Object(Vec::new());
    }
    let (Json::Object(lists), Json::Object(entries)) = (into, logprobs) else {
        return None;
    };
    for (key, value) in entries {
        match (lists.iter_mut().find(|(known, _)| *known == key), value) {
            (None, value @ (Json::Null | Json::Array(_))) => lists.push((key, value)),
            (Some((_, Json::Array(list))), Json::Array(items)) => list.extend(items),
            (Some((_, Json::Null)), Json::Null) => {}
            _ => return None,
        }
    }
    Some(())
}
