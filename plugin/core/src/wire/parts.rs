//! Parts of a request's JSON that decisions need beside its types.

use super::endpoint::Endpoint;
use super::json::Json;
use super::request::Request;
use super::responses;

/// Fields that have no say in the answer, or that the decision replaces: the model that serves it
/// and the length that is asked for are known by then, and how the answer travels is replayed.
const DECIDED: [&str; 6] = [
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
];

/// Fields whose contents the model reads beside the messages: tools and the form of the answer,
/// which `/v1/responses` calls `text` and `/v1/messages` `output_config`.
const SHOWN: [&str; 5] = [
    "tools",
    "functions",
    "response_format",
    "text",
    "output_config",
];

impl Request {
    /// Every field that can change the answer, those that we do not know included, in the order of
    /// the text. A null at the top level is an absent field, as in the OpenAI API; nested ones are
    /// kept, because there we do not know.
    pub fn answer_fields(&self) -> impl Iterator<Item = &(String, Json)> {
        let entries = self.json.as_object().unwrap_or_default();
        entries
            .iter()
            .filter(|(name, value)| !value.is_null() && !DECIDED.contains(&name.as_str()))
    }

    /// What the model reads beside the messages: the tools and the form of the answer.
    pub fn shown_fields(&self) -> impl Iterator<Item = &Json> {
        SHOWN
            .iter()
            .filter_map(|name| self.json.get(name))
            .filter(|value| !value.is_null())
    }

    /// Are the messages what the client wrote as such, text by text? Of `/v1/responses` some are
    /// what we made of items of other kinds.
    pub fn is_plain(&self) -> bool {
        self.endpoint != Endpoint::Responses || responses::is_plain(&self.json)
    }
}
