//! The form that a request wants its answer to have: OpenAI's `response_format`, and vLLM's
//! `structured_outputs` for what OpenAI has no word for.

use super::fields::{Fields, Path, check_count, invalid_value, missing, wrong_type};
use super::json::{Json, echo};
use super::request::Request;
use crate::error::ApiError;
use crate::limits::{ANSWER_GRAMMAR_BYTES_MAX, ANSWER_SCHEMA_BYTES_MAX, ANSWER_TEXTS_MAX};

/// What an answer must look like, and the field that says so.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerForm {
    /// What it must look like.
    pub form: Form,
    /// Path of the field, for errors: `response_format.json_schema.schema`.
    pub param: &'static str,
}

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// Any JSON object.
    JsonObject,
    /// JSON that follows this schema, as its text.
    JsonSchema(Vec<u8>),
    /// What this regular expression matches, from its first character to its last.
    Regex(String),
    /// One of these texts.
    OneOf(Vec<String>),
    /// What this grammar in the notation of Lark generates.
    Grammar(String),
}

const SCHEMA: &str = "response_format.json_schema.schema";
const TEXTS: &str = "structured_outputs.choice";

impl Request {
    /// The form that the answer must have. Whoever serves the model asks: the filter passes these
    /// fields on as they are.
    ///
    /// Every form is kept to the letter, whatever `strict` says.
    ///
    /// # Errors
    /// A form that is incomplete, too large or not known, and two forms at once.
    pub fn answer_form(&self) -> Result<Option<AnswerForm>, ApiError> {
        let fields = Fields::root(&self.json)?;
        refuse_older_names(&fields)?;
        let format = match &self.response_format {
            Some(_) => response_format(&fields)?,
            None => None,
        };
        let structured = match fields.object("structured_outputs")? {
            Some(structured) => Some(structured_outputs(&structured)?),
            None => None,
        };
        match (format, structured) {
            (Some(_), Some(_)) => {
                let message = "send structured_outputs or response_format, not both";
                Err(invalid_value("structured_outputs", message))
            }
            (format, structured) => Ok(format.or(structured)),
        }
    }
}

/// vLLM's names before `structured_outputs`. Whoever still sends them must not be answered freely.
fn refuse_older_names(fields: &Fields<'_>) -> Result<(), ApiError> {
    let older = [
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
    ];
    match older
        .into_iter()
        .find(|name| fields.optional(name).is_some())
    {
        Some(name) => Err(invalid_value(
            name,
            format!("{name} is not supported; send structured_outputs"),
        )),
        None => Ok(()),
    }
}

/// Its `type` has been checked.
fn response_format(fields: &Fields<'_>) -> Result<Option<AnswerForm>, ApiError> {
    let Some(format) = fields.object("response_format")? else {
        return Ok(None);
    };
    if format.required_string("type")? != "json_schema" {
        return Ok(Some(AnswerForm {
            form: Form::JsonObject,
            param: "response_format",
        }));
    }
    let Some(named) = format.object("json_schema")? else {
        return Err(missing(format.path("json_schema")));
    };
    named.required_string("name")?;
    named.bool("strict")?;
    Ok(Some(AnswerForm {
        form: schema(named.required("schema")?, SCHEMA)?,
        param: SCHEMA,
    }))
}

/// vLLM's object, of which exactly one field is set.
fn structured_outputs(fields: &Fields<'_>) -> Result<AnswerForm, ApiError> {
    let mut found = None;
    for (key, value) in fields.entries() {
        let unset = value.is_null() || value.as_bool() == Some(false);
        if unset {
            continue;
        }
        let form = structured_output(fields, key)?;
        if found.replace(form).is_some() {
            let message = "structured_outputs takes one of json, regex, choice, grammar and \
                           json_object at a time";
            return Err(invalid_value("structured_outputs", message));
        }
    }
    found.ok_or_else(|| invalid_value("structured_outputs", "structured_outputs is empty"))
}

fn structured_output(fields: &Fields<'_>, key: &str) -> Result<AnswerForm, ApiError> {
    let (form, param) = match key {
        "json" => {
            let param = "structured_outputs.json";
            (schema(fields.required("json")?, param)?, param)
        }
        "regex" => {
            let param = "structured_outputs.regex";
            (Form::Regex(text(fields, "regex")?), param)
        }
        "grammar" => {
            let param = "structured_outputs.grammar";
            (Form::Grammar(text(fields, "grammar")?), param)
        }
        "choice" => (Form::OneOf(choices(fields)?), TEXTS),
        "json_object" => {
            fields.bool("json_object")?;
            (Form::JsonObject, "structured_outputs.json_object")
        }
        _ => {
            let path = format!("structured_outputs.{}", echo(key));
            let message = format!("{path} is not supported; leave it out");
            return Err(invalid_value(path, message));
        }
    };
    Ok(AnswerForm { form, param })
}

/// A schema as an object, or as vLLM also takes it, as the text of one.
fn schema(json: &Json, param: &'static str) -> Result<Form, ApiError> {
    let bytes = match json {
        Json::Object(_) => json.to_bytes(),
        Json::String(text) if param != SCHEMA => {
            let parsed = Json::parse(text.as_bytes());
            let parsed = parsed.map_err(|error| invalid_value(param, error.message))?;
            if parsed.as_object().is_none() {
                return Err(wrong_type(param, "the text of an object", &parsed));
            }
            parsed.to_bytes()
        }
        other => return Err(wrong_type(param, "an object", other)),
    };
    check_bytes(param, bytes.len(), ANSWER_SCHEMA_BYTES_MAX)?;
    Ok(Form::JsonSchema(bytes))
}

fn text(fields: &Fields<'_>, key: &str) -> Result<String, ApiError> {
    let text = fields.required_string(key)?;
    check_bytes(fields.path(key), text.len(), ANSWER_GRAMMAR_BYTES_MAX)?;
    Ok(text.to_owned())
}

fn choices(fields: &Fields<'_>) -> Result<Vec<String>, ApiError> {
    let items = fields.array("choice")?.unwrap_or_default();
    check_count(TEXTS, items.len(), ANSWER_TEXTS_MAX)?;
    let mut texts = Vec::with_capacity(items.len());
    let mut bytes = 0usize;
    for (index, item) in items.iter().enumerate() {
        let path = Path::field(TEXTS).item(index);
        let Json::String(text) = item else {
            return Err(wrong_type(path, "a string", item));
        };
        if text.is_empty() {
            return Err(invalid_value(path, format!("{path} must not be empty")));
        }
        bytes = bytes.saturating_add(text.len());
        texts.push(text.clone());
    }
    check_bytes(TEXTS, bytes, ANSWER_GRAMMAR_BYTES_MAX)?;
    Ok(texts)
}

fn check_bytes(
    path: impl std::fmt::Display,
    bytes: usize,
    bytes_max: usize,
) -> Result<(), ApiError> {
    if bytes <= bytes_max {
        return Ok(());
    }
    let message = format!("{path} has {bytes} bytes; at most {bytes_max} are allowed");
    Err(invalid_value(path, message))
}
