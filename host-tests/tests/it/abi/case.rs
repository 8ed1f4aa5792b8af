//! A case file: what is configured, and what arrives at the filter in which order. One step a line:
//!
//! ```text
//! # why this case exists
//! config {"budget": {"window_s": 60, "usd": 0.001}}       replaces top-level fields of the base
//! vm 1                                                     further streams are on this worker
//! clock 5000                                               milliseconds pass
//! tick                                                     the worker's timer, if it is set
//! corrupt                                                  damages all shared data
//! ask ID CREDENTIAL [split=N] BODY [| header: value]...    a whole chat request; `-`: nobody's
//! open ID METHOD PATH [end] [| header: value]...             request headers, nothing added
//! body ID [split=N] [more|trailers] BODY                   request body
//! answer ID STATUS CONTENT-TYPE [split=N] [trailers] BODY [| header: value]...  to its end
//! head ID STATUS CONTENT-TYPE [| header: value]...           response headers
//! data ID BODY                                             part of a response body
//! leave ID                                                 the stream is gone
//! ```
//!
//! A BODY is `@name` or `@name{"field": ...}` (a fixture, with fields replaced), `bytes:N` (so many
//! `x`), or the rest of the line as it is.

use serde_json::Value;

/// One line of a case.
#[derive(Clone, Debug)]
pub struct Step {
    pub verb: String,
    pub words: Vec<String>,
    /// Bytes of each part that a body arrives in.
    pub split: Option<usize>,
    pub ending: Ending,
    pub body: Vec<u8>,
    pub headers: Vec<(String, String)>,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    WithLastByte,
    WithTrailers,
    NotYet,
}

/// The case's configuration and its steps, each with the line that it came from.
pub struct Case {
    pub configuration: Value,
    pub steps: Vec<(String, Step)>,
}

/// Reads a case. `fixtures.config` is the base configuration.
pub fn parse(text: &str, fixtures: &Value) -> Case {
    let mut configuration = fixtures["config"].clone();
    let mut steps = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.strip_prefix("config ") {
            Some(fields) => merge(&mut configuration, fields),
            None => steps.push((line.to_string(), step(line, fixtures))),
        }
    }
    Case {
        configuration,
        steps,
    }
}

fn step(line: &str, fixtures: &Value) -> Step {
    let mut parts = line.split(" | ");
    let mut rest = parts.next().unwrap_or_default();
    let header = |part: &str| {
        let (name, value) = part
            .split_once(':')
            .unwrap_or_else(|| panic!("no header: {part}"));
        (name.trim().to_string(), value.trim().to_string())
    };
    let verb = word(&mut rest);
    let fixed_words = match verb.as_str() {
        "vm" | "clock" | "body" | "data" | "leave" => 1,
        "ask" => 2,
        "open" | "answer" | "head" => 3,
        "tick" | "corrupt" => 0,
        other => panic!("no such step: {other}"),
    };
    let words = (0..fixed_words).map(|_| word(&mut rest)).collect();
    let mut step = Step {
        verb,
        words,
        split: None,
        ending: Ending::WithLastByte,
        body: Vec::new(),
        headers: parts.map(header).collect(),
    };
    loop {
        let before = rest;
        match word(&mut rest).as_str() {
            "more" => step.ending = Ending::NotYet,
            "trailers" => step.ending = Ending::WithTrailers,
            option => match option.strip_prefix("split=") {
                Some(size) => step.split = Some(size.parse().expect("split=N")),
                None => {
                    step.body = body(before.trim(), fixtures);
                    return step;
                }
            },
        }
    }
}

fn word(rest: &mut &str) -> String {
    let (word, after) = rest
        .trim_start()
        .split_once(' ')
        .unwrap_or((rest.trim_start(), ""));
    *rest = after;
    word.to_string()
}

fn body(text: &str, fixtures: &Value) -> Vec<u8> {
    if let Some(size) = text.strip_prefix("bytes:") {
        return vec![b'x'; size.parse().expect("bytes:N")];
    }
    let Some(reference) = text.strip_prefix('@') else {
        return text.as_bytes().to_vec();
    };
    let end = reference.find('{').unwrap_or(reference.len());
    let (name, fields) = reference.split_at(end);
    let mut value = fixtures[name].clone();
    assert!(!value.is_null(), "no fixture is called {name}");
    if !fields.is_empty() {
        merge(&mut value, fields);
    }
    match value {
        Value::String(text) => text.into_bytes(),
        json => json.to_string().into_bytes(),
    }
}

/// Replaces fields of an object; null removes one.
fn merge(value: &mut Value, fields: &str) {
    let fields: Value = serde_json::from_str(fields).unwrap_or_else(|e| panic!("{fields}: {e}"));
    let object = value
        .as_object_mut()
        .expect("only an object has fields to replace");
    for (name, field) in fields.as_object().expect("fields are an object") {
        match field {
            Value::Null => object.remove(name),
            field => object.insert(name.clone(), field.clone()),
        };
    }
}
