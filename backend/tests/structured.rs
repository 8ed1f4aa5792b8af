//! Answers of a given form, by SmolLM2, which by itself rarely writes sound JSON.

mod running;
mod schema_check;

use farthing_backend::engine::random::SplitMix64;
use farthing_backend::engine::{
    Confidence, EngineConfig, EngineHandle, FinishReason, GenerateRequest, TokenConfidence, start,
};
use farthing_backend::text::Grammar;
use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::wire::{AnswerForm, Form, Sampling};
use running::{SMOLLM2, Text, answer, greedy, load, together};
use schema_check::violation;
use serde_json::{Value, json};

fn engine() -> EngineHandle {
    start(vec![load(SMOLLM2, 8_192)], EngineConfig::default())
}

fn compile(engine: &EngineHandle, form: Form) -> Result<Grammar, ApiError> {
    let param = "response_format.json_schema.schema";
    let info = engine.model(SMOLLM2).expect("loaded");
    info.grammars.compile(&AnswerForm { form, param })
}

fn schema_form(schema: &Value) -> Form {
    Form::JsonSchema(schema.to_string().into_bytes())
}

fn with_form(engine: &EngineHandle, question: &str, form: Form) -> GenerateRequest {
    GenerateRequest {
        grammar: Some(compile(engine, form).expect("it can be followed")),
        ..greedy(engine, SMOLLM2, question, 600)
    }
}

/// Schemas as people write them.
fn written() -> Vec<Value> {
    let text = json!({"type": "string", "maxLength": 12});
    let digit = json!({"type": "integer", "minimum": 0, "maximum": 9});
    vec![
        json!({"type": "object", "properties": {"name": text, "age": digit},
            "required": ["name", "age"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
            "additionalProperties": false}),
        json!({"enum": ["red", "green", "blue"]}),
        json!({"const": {"fixed": [1, 2, {"x": null}]}}),
        json!({"type": "array", "items": digit, "minItems": 2, "maxItems": 4}),
        json!({"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3}),
        json!({"type": "null"}),
        json!({"type": "boolean"}),
        json!({"type": "integer", "minimum": -50, "maximum": 50}),
        json!({"type": "integer", "minimum": 100, "maximum": 199, "multipleOf": 5}),
        json!({"type": "array", "items": {"type": ["boolean", "null"]}, "maxItems": 2}),
        json!({"type": "string", "minLength": 3, "maxLength": 8}),
        json!({"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}),
        json!({"type": "string", "format": "date"}),
        json!({"type": ["string", "null"], "maxLength": 5}),
        json!({"anyOf": [digit, text, {"type": "null"}]}),
        json!({"$defs": {"point": {"type": "object", "properties": {"x": digit, "y": digit},
                "required": ["x", "y"], "additionalProperties": false}},
            "type": "array", "items": {"$ref": "#/$defs/point"}, "minItems": 1, "maxItems": 2}),
        json!({"$defs": {"leaf": {"type": "object", "properties": {"value": digit},
                "required": ["value"], "additionalProperties": false},
                "tree": {"type": "object", "properties": {"value": digit,
                "children": {"type": "array", "items": {"$ref": "#/$defs/leaf"}, "maxItems": 2}},
                "required": ["value"], "additionalProperties": false}},
            "$ref": "#/$defs/tree"}),
        json!({"type": "object", "properties": {"steps": {"type": "array", "items": {
                "type": "object", "properties": {"explanation": text, "output": text},
                "required": ["explanation", "output"], "additionalProperties": false},
                "maxItems": 3}, "final_answer": text},
            "required": ["steps", "final_answer"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"city": text, "country": text,
                "population": {"type": "integer", "minimum": 0, "maximum": 99_999_999}},
            "required": ["city", "country", "population"], "additionalProperties": false}),
        json!({"title": "Person", "description": "Someone", "type": "object",
            "properties": {"first name": text, "größe": digit}, "required": ["größe"],
            "additionalProperties": false}),
        json!({"type": "object", "properties": {"a": {"type": "object", "properties": {
                "b": {"type": "object", "properties": {"c": {"enum": [1, 2, 3]}},
                "required": ["c"], "additionalProperties": false}},
                "required": ["b"], "additionalProperties": false}},
            "required": ["a"], "additionalProperties": false}),
        json!({"type": "object", "properties": {}, "additionalProperties": false}),
        json!({"type": "array", "items": {"type": "array", "items": digit, "maxItems": 2},
            "minItems": 2, "maxItems": 2}),
        json!({"anyOf": [
            {"type": "object", "properties": {"kind": {"const": "dog"},
                "barks": {"type": "boolean"}},
                "required": ["kind", "barks"], "additionalProperties": false},
            {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": digit},
                "required": ["kind", "lives"], "additionalProperties": false}]}),
    ]
}

/// A schema of bounded answers, `depth` containers deep at most.
fn random_schema(random: &mut SplitMix64, depth: usize) -> Value {
    let mut below = |count: u64| random.next_u64() % count;
    match below(if depth == 0 { 6 } else { 9 }) {
        0 => json!({"type": "boolean"}),
        1 => {
            let low = below(100) as i64 - 50;
            json!({"type": "integer", "minimum": low, "maximum": low + below(1_000) as i64})
        }
        2 => {
            let least = below(4);
            json!({"type": "string", "minLength": least, "maxLength": least + 1 + below(9)})
        }
        3 => {
            let values: Vec<Value> = (0..=below(5))
                .map(|at| json!(format!("value {at}")))
                .collect();
            json!({"enum": values})
        }
        4 => json!({"const": below(100_000)}),
        5 => json!({"type": ["integer", "null"], "minimum": 0, "maximum": 9}),
        6 => {
            let most = 1 + below(3);
            let items = random_schema(random, depth - 1);
            json!({"type": "array", "items": items, "maxItems": most})
        }
        7 => {
            let schemas: Vec<Value> = (0..=below(2)).map(|_| json!(null)).collect();
            let schemas: Vec<Value> = schemas
                .iter()
                .map(|_| random_schema(random, depth - 1))
                .collect();
            json!({"anyOf": schemas})
        }
        _ => {
            let count = 1 + below(4);
            let required: Vec<String> = (0..count)
                .filter(|_| !random.next_u64().is_multiple_of(3))
                .map(|at| format!("field_{at}"))
                .collect();
            let properties: serde_json::Map<String, Value> = (0..count)
                .map(|at| (format!("field_{at}"), random_schema(random, depth - 1)))
                .collect();
            json!({"type": "object", "properties": properties, "required": required,
                "additionalProperties": false})
        }
    }
}

#[track_caller]
fn check_follows(schema: &Value, text: &Text) {
    assert_eq!(
        text.reason,
        Some(FinishReason::Stop),
        "{schema}: {}",
        text.text
    );
    let value: Value = serde_json::from_str(&text.text)
        .unwrap_or_else(|error| panic!("{schema}: {error}: {}", text.text));
    let violation = violation(schema, schema, &value, "$");
    assert_eq!(violation, None, "{schema}: {}", text.text);
}

/// Greedy and three drawn at random, which is where a small model goes astray.
#[test]
fn fifty_schemas_are_followed() {
    let engine = engine();
    let mut random = SplitMix64::new(2_026);
    let mut schemas = written();
    while schemas.len() < 50 {
        schemas.push(random_schema(&mut random, 2));
    }
    let mut requests = Vec::new();
    for (seed, schema) in schemas.iter().enumerate() {
        let question = "Answer in JSON: describe Ada, who lives in Paris.";
        let greedy = with_form(&engine, question, schema_form(schema));
        let drawn = Sampling {
            n: 3,
            seed: Some(seed as u64),
            ..Sampling::default()
        };
        requests.push(greedy.clone());
        requests.push(GenerateRequest {
            sampling: drawn,
            ..greedy
        });
    }
    let mut answers = together(&engine, requests).into_iter();
    for schema in &schemas {
        let (greedy, _) = answers.next().expect("one a schema");
        let (drawn, _) = answers.next().expect("one a schema");
        assert_eq!((greedy.len(), drawn.len()), (1, 3));
        for text in greedy.iter().chain(&drawn) {
            check_follows(schema, text);
        }
    }
    println!("{} answers", schemas.len() * 4);
}

#[test]
fn other_forms_are_followed() {
    let engine = engine();
    let ask = |form: Form| {
        let request = with_form(&engine, "What is the capital of France?", form);
        let (mut texts, usage) = answer(engine.submit(request).expect("accepted")).expect("done");
        assert_eq!(
            texts[0].reason,
            Some(FinishReason::Stop),
            "{}",
            texts[0].text
        );
        (texts.swap_remove(0).text, usage)
    };
    let cities = ["London", "Paris", "Rome \"Roma\"", "Bern\n"].map(str::to_owned);
    assert!(cities.contains(&ask(Form::OneOf(cities.to_vec())).0));
    let (text, _) = ask(Form::Regex("[a-z]{3,5}: [0-9]{2}".to_owned()));
    let (word, number) = text.split_once(": ").expect("as the expression says");
    assert!((3..=5).contains(&word.len()) && number.len() == 2, "{text}");
    let sums = "start: sum\nsum: product (\"+\" product)?\nproduct: \"(\" sum \")\" | /[0-9]/";
    let (text, _) = ask(Form::Grammar(sums.to_owned()));
    let balanced = text.matches('(').count() == text.matches(')').count();
    assert!(
        balanced && text.chars().all(|c| "()+0123456789".contains(c)),
        "{text}"
    );
    let (text, _) = ask(Form::JsonSchema(
        br#"{"properties":{},"additionalProperties":false,"type":"object"}"#.to_vec(),
    ));
    assert_eq!(text.split_whitespace().collect::<String>(), "{}");
    // What is forced is written without asking the model.
    let before = engine.snapshot().models[0].steps;
    let (text, usage) = ask(Form::OneOf(vec![
        "a long text without any choice in it".to_owned(),
    ]));
    assert_eq!(text, "a long text without any choice in it");
    let steps = engine.snapshot().models[0].steps - before;
    assert!(
        steps < usage.completion_tokens,
        "{steps} steps for {usage:?}"
    );
}

#[test]
fn a_grammar_that_allows_everything_changes_nothing() {
    let engine = engine();
    for question in [
        "What is the capital of France?",
        "Name three colours.",
        "你好",
    ] {
        let free = GenerateRequest {
            max_tokens: 40,
            ..greedy(&engine, SMOLLM2, question, 40)
        };
        let everything = Form::Grammar("start: /(.|\\n)*/".to_owned());
        let held = GenerateRequest {
            grammar: Some(compile(&engine, everything).expect("sound")),
            ..free.clone()
        };
        let answers = together(&engine, vec![free, held]);
        assert_eq!(answers[0].0, answers[1].0, "{question}");
        let tokens = |at: usize| answers[at].1.completion_tokens;
        assert_eq!(tokens(0), tokens(1), "{question}");
    }
}

#[test]
fn forced_tokens_are_marked_and_say_nothing_of_confidence() {
    let engine = engine();
    let schema = json!({"type": "object", "properties": {"capital_of_france":
        {"type": "string", "maxLength": 10}}, "required": ["capital_of_france"],
        "additionalProperties": false});
    let request = GenerateRequest {
        confidence: Confidence::Report,
        ..with_form(
            &engine,
            "What is the capital of France?",
            schema_form(&schema),
        )
    };
    let with_logprobs = GenerateRequest {
        sampling: Sampling {
            logprobs: Some(1),
            ..request.sampling.clone()
        },
        ..request.clone()
    };
    let mut answers = together(&engine, vec![request, with_logprobs]).into_iter();
    let (plain, usage) = answers.next().expect("two");
    let (detailed, _) = answers.next().expect("two");
    check_follows(&schema, &plain[0]);
    assert_eq!(plain[0].text, detailed[0].text);
    let forced = |text: &Text| {
        let marks = text.confidence.iter();
        marks
            .filter(|mark| **mark == TokenConfidence::Forced)
            .count()
    };
    let measured = plain[0].confidence.len() - forced(&plain[0]);
    println!("{measured} measured, {} forced", forced(&plain[0]));
    assert!(forced(&plain[0]) > 3 && measured > 1, "{:?}", plain[0]);
    assert_eq!(plain[0].confidence.len() as u64, usage.completion_tokens);
    assert_eq!(detailed[0].logprobs.len(), detailed[0].confidence.len());
    for (token, confidence) in detailed[0].logprobs.iter().zip(&detailed[0].confidence) {
        assert_eq!(token.confidence.as_ref(), Some(confidence));
    }
}

/// Schemas that are deep, large, endless, or none.
fn hostile_schemas() -> Vec<Form> {
    let nested = |depth: usize, of: fn(Value) -> Value| {
        (0..depth).fold(json!({"type": "null"}), |inner, _| of(inner))
    };
    let wide: Vec<String> = (0..4_000).map(|at| format!("value number {at}")).collect();
    let many = |count: usize| -> serde_json::Map<String, Value> {
        let named = (0..count).map(|at| (format!("p{at}"), json!({"type": "string"})));
        named.collect()
    };
    let schema = |schema: Value| schema_form(&schema);
    vec![
        schema(nested(28, |inner| json!({"properties": {"a": inner}}))),
        schema(nested(50, |inner| json!({"items": inner}))),
        schema(nested(12, |inner| json!({"anyOf": [inner.clone(), inner]}))),
        schema(nested(10, |inner| json!({"allOf": [inner.clone(), inner]}))),
        schema(json!({"enum": wide})),
        schema(json!({"$ref": "#"})),
        schema(json!({"allOf": [{"$ref": "#"}]})),
        schema(json!({"anyOf": [{"$ref": "#"}, {"$ref": "#/anyOf/0"}]})),
        schema(json!({"$ref": "https://example.com/schema.json"})),
        schema(json!({"$ref": "#/nowhere"})),
        schema(
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
            "$ref": "#/$defs/a"}),
        ),
        schema(json!({"type": "string", "pattern": "((((a{1,900}){1,900}){1,900}){1,900})"})),
        schema(json!({"type": "string", "pattern": "(x+x+)+y"})),
        schema(json!({"type": "string", "pattern": "(?=a)b(?<!c)"})),
        schema(json!({"type": "string", "pattern": "(".repeat(5_000)})),
        schema(json!({"type": "string", "pattern": "(".repeat(3_000) + &")".repeat(3_000)})),
        schema(json!({"type": "string", "minLength": 4_000_000_000u64})),
        schema(json!({"type": "string", "maxLength": 4_000_000_000u64})),
        schema(json!({"type": "array", "minItems": 1_000_000_000})),
        schema(json!({"type": "array", "maxItems": 1_000_000_000, "items": {"type": "null"}})),
        schema(json!({"type": "integer", "multipleOf": 1e-300})),
        schema(json!({"type": "integer", "multipleOf": 7_919, "minimum": 1})),
        schema(json!({"type": "number", "minimum": 1e308, "maximum": -1e308})),
        schema(json!({"properties": many(1_000)})),
        schema(
            json!({"properties": many(200), "required": (0..200).map(|at| format!("p{at}"))
            .collect::<Vec<_>>()}),
        ),
        schema(json!({"type": "widget"})),
        schema(json!({"type": 7})),
        schema(json!({"properties": 7})),
        schema(json!({"not": {"type": "string"}, "if": {}})),
        schema(json!({"x-guidance": {"lenient": true}, "unknown": 1})),
        schema(json!({"uniqueItems": true, "type": "array"})),
    ]
}

/// The same of other forms.
fn hostile_grammars() -> Vec<Form> {
    vec![
        Form::JsonSchema(b"[]".to_vec()),
        Form::Regex("(a|b".to_owned()),
        Form::Regex("(".repeat(8_000) + &")".repeat(8_000)),
        Form::Regex("(a*)*".repeat(1_500)),
        Form::Regex(r"(\w{1,1000}){1,1000}".to_owned()),
        Form::Regex("[^\\x00-\\x{10ffff}]".to_owned()),
        Form::Grammar("start: ".to_owned() + &"(".repeat(8_000) + &")".repeat(8_000)),
        Form::Grammar("start: ".to_owned() + &"(".repeat(3_000) + "\"a\"" + &")".repeat(3_000)),
        Form::Grammar("start: start".to_owned()),
        Form::Grammar("start: start start | \"a\" | \"\"".to_owned()),
        Form::Grammar(
            (0..900).fold("start: r0\n".to_owned(), |text, at| {
                format!("{text}r{at}: r{}\n", at + 1)
            }) + "r900: \"a\"",
        ),
        Form::Grammar("start: \"a\"~1000000000".to_owned()),
        Form::Grammar("start: %llguidance {}".to_owned()),
        Form::Grammar("%import common.NOTHING".to_owned()),
        Form::Grammar("\0\u{ffff}".to_owned()),
        Form::Grammar(String::new()),
        Form::OneOf(
            (0..1_000)
                .map(|at| format!("\u{1F600}{at}\u{7}\\"))
                .collect(),
        ),
    ]
}

/// Nothing that a client sends may take the process down or run without bound: it is refused, or it
/// can be followed token by token.
#[test]
fn hostile_forms_are_refused_or_bounded() {
    let engine = engine();
    let forms = [hostile_schemas(), hostile_grammars()].concat();
    let (mut refused, mut followed) = (0, 0);
    for (index, form) in forms.into_iter().enumerate() {
        let started = std::time::Instant::now();
        match compile(&engine, form) {
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::InvalidValue, "{index}: {error}");
                assert_eq!(
                    error.param.as_deref(),
                    Some("response_format.json_schema.schema")
                );
                assert!(error.message.len() < 1_000, "{index}: {error}");
                println!("{index} refused in {:?}: {error}", started.elapsed());
                refused += 1;
            }
            Ok(mut grammar) => {
                let compiled = started.elapsed();
                // As an unwilling model would: always the last of the allowed tokens.
                let mut step = || {
                    let mask = grammar.mask().ok().filter(|_| !grammar.is_complete())?;
                    let token = (0..49_152).rev().find(|&token| mask.allows(token))?;
                    grammar.consume(token).ok()
                };
                let steps = (0..40).map_while(|_| step()).count();
                let all = started.elapsed();
                assert!(steps > 0 || grammar.is_complete(), "{index} leads nowhere");
                println!("{index} compiled in {compiled:?}, {steps} steps in {all:?}");
                followed += 1;
            }
        }
    }
    println!("{refused} refused, {followed} followed");
    assert!(refused >= 25 && followed >= 10);
    // The engine goes on.
    let request = with_form(&engine, "Hi", Form::OneOf(vec!["yes".into(), "no".into()]));
    answer(engine.submit(request).expect("accepted")).expect("answered");
}
