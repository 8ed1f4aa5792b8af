//! The functions that chat templates call beside Jinja's own, as Hugging Face's
//! `apply_chat_template` defines them
//! (<https://github.com/huggingface/transformers/blob/main/src/transformers/utils/chat_template_utils.py>).

use super::calendar::strftime;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io::{Result as IoResult, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// Widest indentation that `tojson` accepts.
const INDENT_MAX: usize = 16;

pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
}

/// Marks the errors of [`raise_exception`].
#[derive(Debug, thiserror::Error)]
#[error("raised by the template")]
struct Raised;

/// Whether the template itself refused the messages.
pub(super) fn was_raised(error: &Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<Raised>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()).with_source(Raised))
}

/// The current date and time in UTC. Templates put the date into the system prompt.
fn strftime_now(format: &str) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    strftime(format, now.as_secs())
}

/// JSON as Python's `json.dumps(ensure_ascii=False)` writes it. Jinja's own filter escapes HTML,
/// which a model was never trained on.
fn tojson(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get("indent")?,
    };
    // Accepted for the sake of templates that pass them; they do not change what we write.
    let _: (Option<bool>, Option<bool>) = (options.get("ensure_ascii")?, options.get("sort_keys")?);
    options.assert_all_used()?;
    let mut json = Vec::new();
    let written = match indent {
        Some(indent) => {
            let spaces = [b' '; INDENT_MAX];
            let formatter = PrettyFormatter::with_indent(&spaces[..indent.min(INDENT_MAX)]);
            value.serialize(&mut Serializer::with_formatter(&mut json, formatter))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut json, PythonFormatter)),
    };
    let text = written.ok().and_then(|()| String::from_utf8(json).ok());
    let text = text.ok_or_else(|| Error::new(ErrorKind::BadSerialization, "tojson failed"))?;
    Ok(Value::from(text))
}

/// `", "` between items and `": "` after keys.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> IoResult<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> IoResult<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> IoResult<()> {
        out.write_all(b": ")
    }
}
