//! The reference as people read it.

use super::limits::Limits;
use super::types::{Field, Presence};
use crate::error::XtaskError;

/// Columns of a line, as everywhere in the repository.
const COLUMNS: usize = 100;

const PREFACE: &str = "\
# The filter's configuration

Made from the types that read it: `cargo xtask reference`. Do not edit.

It stands under the plugin's `configuration.value` in Envoy, as plain YAML (a `Struct`) or as JSON \
text in a `StringValue`. An unknown field, a wrong type or a broken limit is refused with the path \
of the field, and Envoy keeps the configuration before. `[]` stands for each entry of a list, \
`NAME` for a name of your choice.
";

/// The reference: one entry a field, one heading for each field of the whole.
pub fn render(fields: &[Field], limits: &Limits) -> Result<String, XtaskError> {
    let mut text = String::new();
    for paragraph in PREFACE.lines() {
        wrap(paragraph, "", &mut text);
    }
    for field in fields {
        if !field.path.contains(['.', '[']) {
            text.push_str(&format!("\n## {}\n\n", field.path));
        }
        wrap(&entry(field, limits), "  ", &mut text);
    }
    if fields.is_empty() {
        return Err(XtaskError::Unexpected(
            "the configuration has no field".to_string(),
        ));
    }
    Ok(text)
}

fn entry(field: &Field, limits: &Limits) -> String {
    let presence = match &field.presence {
        Presence::Needed => "needed".to_string(),
        Presence::Default(default) => format!("default {default}"),
    };
    let limit = limits
        .of(&field.path)
        .map_or_else(String::new, |limit| format!("; {limit}"));
    let dot = if field.meaning.ends_with(['.', '?', '!']) {
        ""
    } else {
        "."
    };
    format!(
        "* **`{}`** ({}; {presence}{limit}). {}{dot}",
        field.path, field.kind, field.meaning
    )
}

/// Breaks a paragraph into lines, those after the first with `indent`.
fn wrap(paragraph: &str, indent: &str, text: &mut String) {
    let mut line = String::new();
    for word in paragraph.split(' ') {
        if !line.trim().is_empty() && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            text.push_str(&line);
            text.push('\n');
            line = indent.to_string();
        }
        if !line.trim().is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}
