//! The form that an answer must have: which fields say so, and how they can be wrong.

use farthing_core::limits::{ANSWER_GRAMMAR_BYTES_MAX, ANSWER_SCHEMA_BYTES_MAX, ANSWER_TEXTS_MAX};
use farthing_core::wire::{Endpoint, Form, parse};
use serde_json::{Value, json};

/// The form of a chat with these fields, with its field, or the field at fault with the code.
fn form(fields: Value) -> Result<Option<(Form, &'static str)>, (String, &'static str)> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    let Value::Object(fields) = fields else {
        panic!("fields are an object")
    };
    body.as_object_mut().unwrap().extend(fields);
    let request = parse(Endpoint::ChatCompletions, body.to_string().as_bytes()).unwrap();
    let form = request.answer_form();
    let form = form.map_err(|error| (error.param.clone().unwrap_or_default(), error.code()))?;
    Ok(form.map(|found| (found.form, found.param)))
}

fn format(format: Value) -> Value {
    json!({"response_format": format})
}

fn structured(fields: Value) -> Value {
    json!({"structured_outputs": fields})
}

#[test]
fn forms_and_their_fields() {
    let schema = |text: &str| Form::JsonSchema(text.as_bytes().to_vec());
    let check = |fields: Value, expected: Option<(Form, &'static str)>| {
        assert_eq!(form(fields.clone()), Ok(expected), "{fields}");
    };
    check(json!({}), None);
    check(format(json!(null)), None);
    check(format(json!({"type": "text"})), None);
    check(structured(json!(null)), None);
    check(
        format(json!({"type": "json_object"})),
        Some((Form::JsonObject, "response_format")),
    );
    let named = json!({"name": "n", "strict": true, "schema": {"type": "object"}});
    check(
        format(json!({"type": "json_schema", "json_schema": named})),
        Some((
            schema("{\"type\":\"object\"}"),
            "response_format.json_schema.schema",
        )),
    );
    for given in [json!({"type": "null"}), json!("{ \"type\": \"null\" }")] {
        check(
            structured(json!({"json": given, "regex": null, "json_object": false})),
            Some((schema("{\"type\":\"null\"}"), "structured_outputs.json")),
        );
    }
    check(
        structured(json!({"regex": "[a-z]+"})),
        Some((Form::Regex("[a-z]+".into()), "structured_outputs.regex")),
    );
    check(
        structured(json!({"choice": ["a", "b"]})),
        Some((
            Form::OneOf(vec!["a".into(), "b".into()]),
            "structured_outputs.choice",
        )),
    );
    check(
        structured(json!({"grammar": "start: \"a\""})),
        Some((
            Form::Grammar("start: \"a\"".into()),
            "structured_outputs.grammar",
        )),
    );
    check(
        structured(json!({"json_object": true})),
        Some((Form::JsonObject, "structured_outputs.json_object")),
    );
}

#[test]
fn what_is_wrong_is_named() {
    let check = |fields: Value, param: &str, code: &'static str| {
        assert_eq!(
            form(fields.clone()),
            Err((param.to_owned(), code)),
            "{fields}"
        );
    };
    let of = |named: Value| format(json!({"type": "json_schema", "json_schema": named}));
    let (missing, kind, value) = ("missing_field", "invalid_type", "invalid_value");
    check(
        format(json!({"type": "json_schema"})),
        "response_format.json_schema",
        missing,
    );
    check(of(json!(7)), "response_format.json_schema", kind);
    check(
        of(json!({"schema": {}})),
        "response_format.json_schema.name",
        missing,
    );
    check(
        of(json!({"name": "n"})),
        "response_format.json_schema.schema",
        missing,
    );
    check(
        of(json!({"name": "n", "schema": "{}"})),
        "response_format.json_schema.schema",
        kind,
    );
    check(
        of(json!({"name": "n", "schema": true})),
        "response_format.json_schema.schema",
        kind,
    );
    check(
        of(json!({"name": "n", "schema": {}, "strict": "yes"})),
        "response_format.json_schema.strict",
        kind,
    );
    let long = json!({"title": "x".repeat(ANSWER_SCHEMA_BYTES_MAX)});
    check(
        of(json!({"name": "n", "schema": long})),
        "response_format.json_schema.schema",
        value,
    );
    check(structured(json!(7)), "structured_outputs", kind);
    check(structured(json!({})), "structured_outputs", value);
    check(
        structured(json!({"json_object": false})),
        "structured_outputs",
        value,
    );
    check(
        structured(json!({"regex": "a", "grammar": "b"})),
        "structured_outputs",
        value,
    );
    check(
        structured(json!({"json": "{"})),
        "structured_outputs.json",
        value,
    );
    check(
        structured(json!({"json": "[]"})),
        "structured_outputs.json",
        kind,
    );
    check(
        structured(json!({"regex": 7})),
        "structured_outputs.regex",
        kind,
    );
    let long = "x".repeat(ANSWER_GRAMMAR_BYTES_MAX + 1);
    check(
        structured(json!({"regex": long})),
        "structured_outputs.regex",
        value,
    );
    check(
        structured(json!({"choice": [long]})),
        "structured_outputs.choice",
        value,
    );
    check(
        structured(json!({"choice": []})),
        "structured_outputs.choice",
        value,
    );
    check(
        structured(json!({"choice": ["a", ""]})),
        "structured_outputs.choice[1]",
        value,
    );
    check(
        structured(json!({"choice": ["a", 1]})),
        "structured_outputs.choice[1]",
        kind,
    );
    let many = vec!["a"; ANSWER_TEXTS_MAX + 1];
    check(
        structured(json!({"choice": many})),
        "structured_outputs.choice",
        value,
    );
    check(
        structured(json!({"structural_tag": "x"})),
        "structured_outputs.structural_tag",
        value,
    );
    for older in [
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
    ] {
        check(json!({older: "a"}), older, value);
    }
    let mut both = format(json!({"type": "json_object"}));
    both["structured_outputs"] = json!({"regex": "a"});
    check(both, "structured_outputs", value);
}
