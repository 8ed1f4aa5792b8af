//! Limits, by breaking them: the filter itself says what a value must be. What it accepts without
//! bound has none to tell.

use crate::error::XtaskError;
use farthing_core::config::Config;
use farthing_host_tests::paths;
use serde_json::{Value, json};
use std::fs;

/// A configuration with a value for nearly every field.
const EXAMPLE: &str = "plugin/core/tests/golden/decisions/config.json";
/// More entries than a list or object may have. A larger number than need be would make the whole
/// configuration too large.
const TOO_MANY: [usize; 3] = [40, 100, 1_100];
/// Beyond every bound, and still exact in a double.
const TOO_LARGE: u64 = 9_007_199_254_740_991;

/// Says what the filter says.
pub struct Limits {
    example: Value,
}

impl Limits {
    pub fn read() -> Result<Limits, XtaskError> {
        let file = paths::workspace_root().join(EXAMPLE);
        let text = fs::read_to_string(&file).map_err(XtaskError::file("read", &file))?;
        let example = serde_json::from_str(&text)
            .map_err(|error| XtaskError::Unexpected(format!("{EXAMPLE}: {error}")))?;
        Ok(Limits { example })
    }

    /// What a field must be, if the filter has an opinion beyond its type.
    pub fn of(&self, path: &str) -> Option<String> {
        let wrong = [json!(TOO_LARGE), json!(""), json!(1e-11), json!(-1)];
        let many = TOO_MANY
            .into_iter()
            .filter_map(|count| self.entries(path, count));
        let mut probes = wrong.into_iter().chain(many);
        probes.find_map(|value| self.refusal(path, value))
    }

    /// The problem that the filter has with a value in this place, and not elsewhere.
    fn refusal(&self, path: &str, value: Value) -> Option<String> {
        let mut config = self.example.clone();
        let place = put(&mut config, path, value)?;
        let refused = Config::parse(config.to_string().as_bytes()).err()?;
        if refused.path != place || !refused.problem.starts_with("must ") {
            return None;
        }
        // The example's value is ours and not the user's.
        let problem = refused.problem.split(", not ").next().unwrap_or_default();
        Some(problem.to_string())
    }

    /// So many entries like the one that the example has, or of text where it has none.
    fn entries(&self, path: &str, count: usize) -> Option<Value> {
        let mut example = self.example.clone();
        match at(&mut example, path) {
            None => Some(vec![json!("x"); count].into()),
            Some(Value::Array(items)) => Some(vec![items.first()?.clone(); count].into()),
            Some(Value::Object(fields)) => {
                let value = fields.values().next()?.clone();
                let names = (0..count).map(|number| format!("name-{number}"));
                Some(Value::Object(
                    names.map(|name| (name, value.clone())).collect(),
                ))
            }
            Some(_) => None,
        }
    }
}

/// Puts a value into the first place of that path, and returns the place as the filter names it.
fn put(config: &mut Value, path: &str, value: Value) -> Option<String> {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut place = String::new();
    let mut holder = config;
    for part in parent.split('.').filter(|part| !part.is_empty()) {
        holder = step(holder, part, &mut place)?;
    }
    let fields = holder.as_object_mut()?;
    fields.insert(name.to_string(), value);
    push(&mut place, name);
    Some(place)
}

fn at<'a>(config: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    let mut place = String::new();
    path.split('.')
        .try_fold(config, |holder, part| step(holder, part, &mut place))
}

/// Goes one part of a path further: a field, the first entry of a list, or the first name.
fn step<'a>(holder: &'a mut Value, part: &str, place: &mut String) -> Option<&'a mut Value> {
    if part == "NAME" {
        let (name, inner) = holder.as_object_mut()?.iter_mut().next()?;
        push(place, name);
        return Some(inner);
    }
    let name = part.trim_end_matches("[]");
    push(place, name);
    let inner = holder.as_object_mut()?.get_mut(name)?;
    if name == part {
        return Some(inner);
    }
    place.push_str("[0]");
    inner.as_array_mut()?.first_mut()
}

fn push(place: &mut String, name: &str) {
    if !place.is_empty() {
        place.push('.');
    }
    place.push_str(name);
}
