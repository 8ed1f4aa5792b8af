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

/// What is wrong with a form, and with what it says of itself.
#[track_caller]
fn check_wrong(fields: Value, param: &str, code: &'static str) {
    assert_eq!(
        form(fields.clone()),
        Err((param.to_owned(), code)),
        "{fields}"
    );
}

const MISSING: &str = "missing_field";
const KIND: &str = "invalid_type";
const VALUE: &str = "invalid_value";

#[test]
fn a_wrong_response_format_is_named() {
    let of = |named: Value| format(json!({"type": "json_schema", "json_schema": named}));
    let named = "response_format.json_schema";
    let schema = "response_format.json_schema.schema";
    check_wrong(format(json!({"type": "json_schema"})), named, MISSING);
    check_wrong(of(json!(7)), named, KIND);
    let name = "response_format.json_schema.name";
    check_wrong(of(json!({"schema": {}})), name, MISSING);
    check_wrong(of(json!({"name": "n"})), schema, MISSING);
    check_wrong(of(json!({"name": "n", "schema": "{}"})), schema, KIND);
    check_wrong(of(json!({"name": "n", "schema": true})), schema, KIND);
    let strict = json!({"name": "n", "schema": {}, "strict": "yes"});
    check_wrong(of(strict), "response_format.json_schema.strict", KIND);
    let long = json!({"title": "x".repeat(ANSWER_SCHEMA_BYTES_MAX)});
    check_wrong(of(json!({"name": "n", "schema": long})), schema, VALUE);
}

#[test]
fn wrong_structured_outputs_are_named() {
    let check = |fields: Value, field: &str, code: &'static str| {
        check_wrong(
            structured(fields),
            &format!("structured_outputs{field}"),
            code,
        );
    };
    check(json!(7), "", KIND);
    check(json!({}), "", VALUE);
    check(json!({"json_object": false}), "", VALUE);
    check(json!({"regex": "a", "grammar": "b"}), "", VALUE);
    check(json!({"json": "{"}), ".json", VALUE);
    check(json!({"json": "[]"}), ".json", KIND);
    check(json!({"regex": 7}), ".regex", KIND);
    let long = "x".repeat(ANSWER_GRAMMAR_BYTES_MAX + 1);
    check(json!({"regex": long}), ".regex", VALUE);
    check(json!({"choice": [long]}), ".choice", VALUE);
    check(json!({"choice": []}), ".choice", VALUE);
    check(json!({"choice": ["a", ""]}), ".choice[1]", VALUE);
    check(json!({"choice": ["a", 1]}), ".choice[1]", KIND);
    let many = vec!["a"; ANSWER_TEXTS_MAX + 1];
    check(json!({"choice": many}), ".choice", VALUE);
    check(json!({"structural_tag": "x"}), ".structural_tag", VALUE);
    for older in [
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
    ] {
        check_wrong(json!({older: "a"}), older, VALUE);
    }
    let mut both = format(json!({"type": "json_object"}));
    both["structured_outputs"] = json!({"regex": "a"});
    check_wrong(both, "structured_outputs", VALUE);
}
