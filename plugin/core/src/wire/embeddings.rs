//! `/v1/embeddings`: its request and its answer.

use super::completions::{self, Prompt};
use super::endpoint::Endpoint;
use super::fields::{Fields, invalid_value, wrong_type};
use super::json::{Json, echo};
use super::request::{Request, parse_model};
use crate::base64;
use crate::error::ApiError;
use crate::limits::{EMBEDDING_DIMENSIONS_MAX, EMBEDDING_INPUTS_MAX};
use serde::{Serialize, Serializer};

/// How the numbers of an embedding travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodingFormat {
    /// A JSON array of numbers.
    Float,
    /// Base64 of the little-endian 32-bit floats; OpenAI's own client asks for this.
    Base64,
}

/// A request that passed every check.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingsRequest {
    /// The model that was asked for.
    pub model: String,
    /// Texts to embed, none of them empty.
    pub input: Vec<String>,
    /// How to send the numbers.
    pub encoding_format: EncodingFormat,
    /// How many numbers of each embedding to keep.
    pub dimensions: Option<u32>,
}

/// Reads and checks a request as a server of embeddings does.
///
/// # Errors
/// As [`parse`](super::parse). Token ids as input are refused: they would bind the client to one
/// model's vocabulary.
pub fn parse_embeddings(body: &[u8]) -> Result<EmbeddingsRequest, ApiError> {
    let json = Json::parse(body)?;
    let fields = Fields::root(&json)?;
    let first = fields.array("input").ok().flatten().and_then(<[_]>::first);
    let input = match (parse_input(&fields)?, first) {
        (Prompt::Text(input), _) => input,
        (_, first) => {
            let found = first.unwrap_or(&Json::Null);
            return Err(wrong_type("input[0]", "a string", found));
        }
    };
    Ok(EmbeddingsRequest {
        model: parse_model(&fields)?,
        input,
        encoding_format: parse_encoding_format(&fields)?,
        dimensions: parse_dimensions(&fields)?,
    })
}

/// Reads and checks a request on its way to whoever serves the model; that may take token ids.
pub(super) fn parse_request(fields: &Fields<'_>) -> Result<Request, ApiError> {
    let model = parse_model(fields)?;
    let input = parse_input(fields)?;
    parse_encoding_format(fields)?;
    parse_dimensions(fields)?;
    Ok(Request::new(Endpoint::Embeddings, model, input))
}

fn parse_encoding_format(fields: &Fields<'_>) -> Result<EncodingFormat, ApiError> {
    match fields.string("encoding_format")? {
        None | Some("float") => Ok(EncodingFormat::Float),
        Some("base64") => Ok(EncodingFormat::Base64),
        Some(other) => {
            let message = format!(
                "encoding_format must be float or base64, but it is \"{}\"",
                echo(other)
            );
            Err(invalid_value("encoding_format", message))
        }
    }
}

fn parse_dimensions(fields: &Fields<'_>) -> Result<Option<u32>, ApiError> {
    fields.string("user")?;
    fields.integer_u32("dimensions", 1..=EMBEDDING_DIMENSIONS_MAX)
}

/// Texts to embed, none of them empty.
fn parse_input(fields: &Fields<'_>) -> Result<Prompt, ApiError> {
    let input = completions::parse_texts(fields, "input", EMBEDDING_INPUTS_MAX)?;
    let Prompt::Text(texts) = &input else {
        return Ok(input);
    };
    match texts.iter().position(String::is_empty) {
        None => Ok(input),
        Some(index) => {
            let listed = fields.array("input").is_ok();
            let path = if listed {
                format!("input[{index}]")
            } else {
                "input".to_owned()
            };
            Err(invalid_value(&path, format!("{path} must not be empty")))
        }
    }
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Embedding<'a>>,
    model: &'a str,
    usage: InputUsage,
}

#[derive(Serialize)]
struct Embedding<'a> {
    object: &'static str,
    index: usize,
    embedding: Vector<'a>,
}

#[derive(Serialize)]
struct InputUsage {
    prompt_tokens: u64,
    total_tokens: u64,
}

struct Vector<'a> {
    values: &'a [f32],
    format: EncodingFormat,
}

impl Serialize for Vector<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.format {
            EncodingFormat::Float => self.values.serialize(serializer),
            EncodingFormat::Base64 => {
                let bytes: Vec<u8> = self
                    .values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                serializer.serialize_str(&base64::encode(&bytes))
            }
        }
    }
}

/// The answer: one embedding for each input, in the order of the inputs.
pub fn embeddings_list(
    model: &str,
    embeddings: &[Vec<f32>],
    format: EncodingFormat,
    prompt_tokens: u64,
) -> Vec<u8> {
    let data = embeddings.iter().enumerate();
    let data = data.map(|(index, values)| Embedding {
        object: "embedding",
        index,
        embedding: Vector { values, format },
    });
    let usage = InputUsage {
        prompt_tokens,
        total_tokens: prompt_tokens,
    };
    super::to_json(&List {
        object: "list",
        data: data.collect(),
        model,
        usage,
    })
}
