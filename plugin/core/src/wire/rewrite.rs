//! Changes to a request on its way upstream. Everything that is not named here travels as it came.

use super::json::{Json, Number};
use super::request::Request;

/// What must read differently upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The name that the upstream knows the model by.
    pub model: Option<String>,
    /// Put in, or in the place of the client's larger wish.
    pub max_tokens: Option<u32>,
    /// Ask for the usage at the end of the stream.
    pub include_usage: bool,
}

impl Rewrite {
    /// Does the request travel as it came?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The whole body to send.
    pub fn apply(&self, request: &Request) -> Vec<u8> {
        let mut json = request.json.clone();
        if let Json::Object(entries) = &mut json {
            if let Some(model) = &self.model {
                set(entries, "model", Json::String(model.clone()));
            }
            if let Some(max_tokens) = self.max_tokens {
                let tokens = Json::Number(Number::Unsigned(u64::from(max_tokens)));
                let newer = entries
                    .iter()
                    .any(|(key, value)| key == "max_completion_tokens" && !value.is_null());
                if newer {
                    set(entries, "max_completion_tokens", tokens.clone());
                }
                // Both names, if the client sent both: they must not differ.
                let older = entries
                    .iter()
                    .any(|(key, value)| key == "max_tokens" && !value.is_null());
                if older || !newer {
                    set(entries, "max_tokens", tokens);
                }
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
    let options = entries.iter_mut().find(|(key, _)| key == "stream_options");
    match options {
        Some((_, Json::Object(options))) => set(options, "include_usage", asked),
        _ => {
            let options = Json::Object(vec![("include_usage".to_owned(), asked)]);
            set(entries, "stream_options", options);
        }
    }
}

fn set(entries: &mut Vec<(String, Json)>, key: &str, value: Json) {
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
        assert_eq!(
            String::from_utf8(rewrite.apply(&request)).unwrap(),
            expected
        );
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
        let cap = Rewrite {
            max_tokens: Some(7),
            ..Rewrite::default()
        };
        check(
            r#"{"max_completion_tokens":90,"model":"a","messages":[{"role":"user","content":"x"}]}"#,
            cap.clone(),
            r#"{"max_completion_tokens":7,"model":"a","messages":[{"role":"user","content":"x"}]}"#,
        );
        check(
            r#"{"model":"a","max_tokens":null,"messages":[{"role":"user","content":"x"}]}"#,
            cap,
            r#"{"model":"a","max_tokens":7,"messages":[{"role":"user","content":"x"}]}"#,
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
