//! Whether a JSON value follows a schema, for the keywords that these tests use. Any other keyword
//! is a panic, so that no schema is checked by half.

use serde_json::Value;

/// The first thing that is wrong with `value`, with its place.
pub fn violation(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    let Some(schema) = schema.as_object() else {
        return (schema == &Value::Bool(false)).then(|| format!("{at}: nothing is allowed"));
    };
    schema
        .iter()
        .find_map(|(key, rule)| keyword(root, schema, (key, rule), value, at))
}

fn keyword(
    root: &Value,
    schema: &serde_json::Map<String, Value>,
    (key, rule): (&str, &Value),
    value: &Value,
    at: &str,
) -> Option<String> {
    let wrong = |holds: bool| (!holds).then(|| format!("{at}: {key} {rule} for {value}"));
    let each = |count: fn(&Value) -> Option<usize>, test: fn(usize, usize) -> bool| {
        let bound = rule.as_u64().expect("a bound") as usize;
        wrong(count(value).is_none_or(|count| test(count, bound)))
    };
    let characters = |value: &Value| value.as_str().map(|text| text.chars().count());
    let items = |value: &Value| value.as_array().map(Vec::len);
    let number = |test: fn(f64, f64) -> bool| {
        let bound = rule.as_f64().expect("a bound");
        wrong(value.as_f64().is_none_or(|number| test(number, bound)))
    };
    match key {
        "$schema" | "$defs" | "title" | "description" => None,
        "pattern" => wrong(matches(value, rule.as_str().expect("a text"))),
        "format" => wrong(match rule.as_str() {
            Some("date") => matches(value, DATE),
            other => panic!("the format {other:?} is not checked"),
        }),
        "$ref" => {
            let pointer = rule.as_str().and_then(|path| path.strip_prefix('#'));
            let target = root.pointer(pointer.expect("local")).expect("it exists");
            violation(root, target, value, at)
        }
        "type" => {
            let types = rule
                .as_array()
                .map_or(std::slice::from_ref(rule), |types| types);
            wrong(
                types
                    .iter()
                    .any(|name| has_type(value, name.as_str().expect("a name"))),
            )
        }
        "enum" => wrong(rule.as_array().expect("a list").contains(value)),
        "const" => wrong(rule == value),
        "minLength" => each(characters, |count, bound| count >= bound),
        "maxLength" => each(characters, |count, bound| count <= bound),
        "minItems" => each(items, |count, bound| count >= bound),
        "maxItems" => each(items, |count, bound| count <= bound),
        "minimum" => number(|number, bound| number >= bound),
        "maximum" => number(|number, bound| number <= bound),
        "multipleOf" => number(|number, bound| (number / bound).fract() == 0.0),
        "anyOf" => {
            let mut schemas = rule.as_array().expect("a list").iter();
            wrong(schemas.any(|schema| violation(root, schema, value, at).is_none()))
        }
        "required" => {
            let mut names = rule.as_array().expect("a list").iter();
            let has = |name: &Value| value.get(name.as_str().expect("a name")).is_some();
            wrong(!value.is_object() || names.all(has))
        }
        "properties" => properties(root, rule, value, at),
        "additionalProperties" => {
            let known = schema.get("properties").and_then(Value::as_object);
            let others = value.as_object().into_iter().flatten();
            let mut others =
                others.filter(|(name, _)| known.is_none_or(|k| !k.contains_key(*name)));
            others.find_map(|(name, value)| violation(root, rule, value, &format!("{at}.{name}")))
        }
        "items" => {
            let items = value.as_array().into_iter().flatten().enumerate();
            let mut items = items.map(|(index, item)| (format!("{at}[{index}]"), item));
            items.find_map(|(at, item)| violation(root, rule, item, &at))
        }
        other => panic!("this checker does not know {other}"),
    }
}

fn properties(root: &Value, rule: &Value, value: &Value, at: &str) -> Option<String> {
    let mut rules = rule.as_object().expect("an object").iter();
    rules.find_map(|(name, rule)| {
        let value = value.get(name)?;
        violation(root, rule, value, &format!("{at}.{name}"))
    })
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type {other}"),
    }
}

/// RFC 3339's full-date, but for the lengths of months.
const DATE: &str = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$";

/// A pattern says nothing of what is no text.
fn matches(value: &Value, pattern: &str) -> bool {
    let pattern = regex::Regex::new(pattern).expect("a pattern");
    value.as_str().is_none_or(|text| pattern.is_match(text))
}
