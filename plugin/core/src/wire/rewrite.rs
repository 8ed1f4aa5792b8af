//! Changes to a request on its way upstream. Everything that is not named here travels as it came.

use super::endpoint::Endpoint;
use super::json::{Json, Number, write_string};
use super::request::Request;
use crate::config::MaxTokensField;

/// What all changes together usually take.
const CHANGES_BYTES: usize = 256;

const STREAM_OPTIONS: &str = "stream_options";

/// What must read differently upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The name that the upstream knows the model by.
    pub model: Option<String>,
    /// The limit of the answer.
    pub max_tokens: Option<MaxTokensRewrite>,
    /// Ask for the usage at the end of the stream.
    pub include_usage: bool,
}

/// The limit of an answer where the client's own does not stand: it is put in, replaces a larger
/// wish, or goes by the other of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxTokensRewrite {
    value: u32,
    /// The fields that get it.
    set: Vec<&'static str>,
    /// The other name, where the model does not know it.
    remove: Option<&'static str>,
}

impl MaxTokensRewrite {
    /// What must change so that `request` asks for at most `value` tokens, in `field` if the
    /// model's chat knows one name only. `None` if nothing must.
    pub fn new(request: &Request, field: Option<MaxTokensField>, value: u32) -> Option<Self> {
        let stands = request.max_tokens == Some(value);
        let (set, remove) = match request.endpoint {
            Endpoint::Embeddings => return None,
            Endpoint::Responses => (vec!["max_output_tokens"], None),
            Endpoint::Messages | Endpoint::Completions => (vec!["max_tokens"], None),
            Endpoint::ChatCompletions => chat_fields(request, field),
        };
        (!stands || remove.is_some()).then_some(Self { value, set, remove })
    }

    fn apply(&self, entries: &mut Vec<(String, Json)>) {
        let tokens = Json::Number(Number::Unsigned(u64::from(self.value)));
        entries.retain(|(key, _)| Some(key.as_str()) != self.remove);
        for field in &self.set {
            set(entries, field, tokens.clone());
        }
    }
}

/// The fields of a chat to set: both names, if the client sent both, as they must not differ.
fn chat_fields(
    request: &Request,
    field: Option<MaxTokensField>,
) -> (Vec<&'static str>, Option<&'static str>) {
    let sent = MaxTokensField::ALL.into_iter().filter(|field| {
        let value = request.json.get(field.as_str());
        value.is_some_and(|value| !value.is_null())
    });
    let sent: Vec<&'static str> = sent.map(MaxTokensField::as_str).collect();
    match field {
        Some(field) => {
            let other = sent.into_iter().find(|name| *name != field.as_str());
            (vec![field.as_str()], other)
        }
        None if sent.is_empty() => (vec![MaxTokensField::MaxTokens.as_str()], None),
        None => (sent, None),
    }
}

impl Rewrite {
    /// Does the request travel as it came?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The body to send, made of the body that came: all but what changes goes on as it is spelled.
    /// `None` if `request` is not what that body says.
    pub fn splice(&self, request: &Request, body: &[u8]) -> Option<Vec<u8>> {
        let (entries, members) = (request.json.as_object()?, &request.layout.members);
        if request.is_compacted || entries.len() != members.len() || members.is_empty() {
            return None;
        }
        let changes = self.changes(&request.json);
        let mut out = Vec::with_capacity(body.len().saturating_add(CHANGES_BYTES));
        for ((key, _), member) in entries.iter().zip(members) {
            let change = changes.iter().find(|(name, _)| name == key);
            let spelled_to = match change {
                None => member.to,
                Some((_, Some(_))) => member.value_from,
                Some((_, None)) => continue,
            };
            out.push(if out.is_empty() { b'{' } else { b',' });
            out.extend_from_slice(body.get(member.key_from..spelled_to)?);
            if let Some((_, Some(value))) = change {
                value.write(&mut out);
            }
        }
        let is_new = |name: &str| entries.iter().all(|(key, _)| key != name);
        for (name, value) in changes {
            if let Some(value) = value.filter(|_| is_new(name)) {
                out.push(if out.is_empty() { b'{' } else { b',' });
                write_string(name, &mut out);
                out.push(b':');
                value.write(&mut out);
            }
        }
        out.push(b'}');
        Some(out)
    }

    /// The fields that change, in the order in which those that are new come; without a value they
    /// go.
    fn changes(&self, json: &Json) -> Vec<(&'static str, Option<Json>)> {
        let mut changes = Vec::new();
        if let Some(model) = &self.model {
            changes.push(("model", Some(Json::String(model.clone()))));
        }
        if let Some(MaxTokensRewrite { value, set, remove }) = &self.max_tokens {
            changes.extend(remove.map(|name| (name, None)));
            let tokens = || Some(Json::unsigned(u64::from(*value)));
            changes.extend(set.iter().map(|name| (*name, tokens())));
        }
        if self.include_usage {
            let options = match json.get("stream_options") {
                Some(options @ Json::Object(_)) => options.clone(),
                _ => Json::Object(Vec::new()),
            };
            let mut options = vec![("stream_options".to_owned(), options)];
            include_usage(&mut options);
            changes.extend(
                options
                    .pop()
                    .map(|(_, options)| (STREAM_OPTIONS, Some(options))),
            );
        }
        changes
    }

    /// The whole body to send, made of the whole body that came.
    pub fn apply(&self, mut json: Json) -> Vec<u8> {
        if let Json::Object(entries) = &mut json {
            if let Some(model) = &self.model {
                set(entries, "model", Json::String(model.clone()));
            }
            if let Some(max_tokens) = &self.max_tokens {
                max_tokens.apply(entries);
            }
            if self.include_usage {
                include_usage(entries);
            }
        }
        json.to_bytes()
    }
}

fn include_usage(entries: &mut Vec<(String, Json)>) {
    let asked = Json::Bool(true);
    let options = entries.iter_mut().find(|(key, _)| key == STREAM_OPTIONS);
    match options {
        Some((_, Json::Object(options))) => set(options, "include_usage", asked),
        _ => {
            let options = Json::Object(vec![("include_usage".to_owned(), asked)]);
            set(entries, STREAM_OPTIONS, options);
        }
    }
}

pub(super) fn set(entries: &mut Vec<(String, Json)>, key: &str, value: Json) {
    match entries.iter_mut().find(|(name, _)| name == key) {
        Some((_, old)) => *old = value,
        None => entries.push((key.to_owned(), value)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics fails")]
mod tests {
    use super::*;
    use crate::wire::{Endpoint, parse};

    #[track_caller]
    fn check(body: &str, rewrite: Rewrite, expected: &str) {
        let request = parse(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
        let spliced = rewrite.splice(&request, body.as_bytes()).unwrap();
        assert_eq!(Json::parse(&spliced), Json::parse(expected.as_bytes()));
        assert_eq!(
            String::from_utf8(rewrite.apply(request.json)).unwrap(),
            expected
        );
    }

    #[test]
    fn what_does_not_change_is_spelled_as_it_came() {
        let body = "{ \"messages\" : [{\"role\":\"user\",\"content\":\"\\u00b2\"} ],\n\
            \"temperature\":1.50 , \"mod\\u0065l\":\"a\", \"max_tokens\":null}";
        let request = parse(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
        let rewrite = Rewrite {
            model: Some("b".to_owned()),
            include_usage: true,
            ..limit(body, None, 7)
        };
        let spliced = rewrite.splice(&request, body.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(spliced).unwrap(),
            "{\"messages\" : [{\"role\":\"user\",\"content\":\"\\u00b2\"} ],\
             \"temperature\":1.50,\"mod\\u0065l\":\"b\",\"max_tokens\":7,\
             \"stream_options\":{\"include_usage\":true}}"
        );
    }

    fn limit(body: &str, field: Option<MaxTokensField>, value: u32) -> Rewrite {
        let request = parse(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
        Rewrite {
            max_tokens: MaxTokensRewrite::new(&request, field, value),
            ..Rewrite::default()
        }
    }

    #[test]
    fn a_limit_goes_by_the_name_that_the_model_knows() {
        use MaxTokensField::{MaxCompletionTokens, MaxTokens};
        let chat = |limits: &str| {
            format!(r#"{{"model":"a","messages":[{{"role":"user","content":"x"}}]{limits}}}"#)
        };
        let older = r#","max_tokens":7"#;
        let newer = r#","max_completion_tokens":7"#;
        let both = [older, newer].concat();
        for (sent, field, expected) in [
            ("", None, older),
            (r#","max_tokens":90"#, None, older),
            (r#","max_completion_tokens":90"#, None, newer),
            (&both, None, &both),
            (r#","max_tokens":null"#, None, older),
            ("", Some(MaxTokens), older),
            ("", Some(MaxCompletionTokens), newer),
            (older, Some(MaxCompletionTokens), newer),
            (newer, Some(MaxTokens), older),
            (&both, Some(MaxCompletionTokens), newer),
            (newer, Some(MaxCompletionTokens), newer),
        ] {
            let body = chat(sent);
            check(&body, limit(&body, field, 7), &chat(expected));
        }
        let stands = chat(older);
        assert!(limit(&stands, Some(MaxTokens), 7).is_empty());
        assert!(limit(&stands, None, 7).is_empty());
    }

    #[test]
    fn only_what_is_named_changes() {
        let model = Rewrite {
            model: Some("b".to_owned()),
            ..Rewrite::default()
        };
        check(
            r#"{"model":"a","messages":[{"role":"user","content":"x"}],"new_field":{"z":1.50}}"#,
            model,
            r#"{"model":"b","messages":[{"role":"user","content":"x"}],"new_field":{"z":1.5}}"#,
        );
        let usage = Rewrite {
            include_usage: true,
            ..Rewrite::default()
        };
        check(
            r#"{"model":"a","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":false,"y":1}}"#,
            usage,
            r#"{"model":"a","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true,"y":1}}"#,
        );
    }
}
