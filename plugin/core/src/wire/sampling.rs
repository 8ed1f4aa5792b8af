//! How the next token is chosen: the sampling fields that both endpoints share.

use super::endpoint::Endpoint;
use super::fields::{Fields, NumberRange, Path, check_count, invalid_value, wrong_type};
use super::json::{Json, Number};
use crate::error::ApiError;
use crate::limits::{
    CHOICES_MAX, COMPLETION_LOGPROBS_MAX, STOP_STRING_BYTES_MAX, STOP_STRINGS_MAX, TOP_K_MAX,
    TOP_LOGPROBS_MAX,
};

/// Sampling parameters with OpenAI's names, ranges and defaults; `top_k`, `min_p` and
/// `repetition_penalty` are vLLM's.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 (greedy) to 2.
    pub temperature: f32,
    /// Above 0, up to 1: the smallest set of tokens that holds this much probability.
    pub top_p: f32,
    /// The k likeliest tokens; 0 is off.
    pub top_k: u32,
    /// 0 (off) to 1: the share of the likeliest token's probability that a token must reach.
    pub min_p: f32,
    /// Makes a sampled answer repeatable. A negative seed is kept by its two's complement bits.
    pub seed: Option<u64>,
    /// -2 to 2, subtracted once from every token that occurred.
    pub presence_penalty: f32,
    /// -2 to 2, subtracted for every time that a token occurred.
    pub frequency_penalty: f32,
    /// Above 0, up to 2; 1 is off.
    pub repetition_penalty: f32,
    /// How many answers: 1 to `CHOICES_MAX`.
    pub n: u8,
    /// How many of the likeliest tokens to report beside the chosen one; `None` reports nothing.
    pub logprobs: Option<u8>,
    /// Whether to report with each token how sure the model was of it: `farthing.confidence`.
    pub confidence: bool,
    /// The answer ends before any of these.
    pub stop: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            seed: None,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            n: 1,
            logprobs: None,
            confidence: false,
            stop: Vec::new(),
        }
    }
}

pub(super) fn parse_sampling(
    endpoint: Endpoint,
    fields: &Fields<'_>,
) -> Result<Sampling, ApiError> {
    use NumberRange::{AboveZero, Closed};
    let default = Sampling::default();
    let penalty = Closed(-2.0, 2.0);
    refuse_logit_bias(fields)?;
    let logprobs = match endpoint {
        Endpoint::ChatCompletions => parse_chat_logprobs(fields)?,
        _ => integer_u8(fields, "logprobs", 0, COMPLETION_LOGPROBS_MAX)?,
    };
    Ok(Sampling {
        temperature: fields.number("temperature", Closed(0.0, 2.0), default.temperature)?,
        top_p: fields.number("top_p", AboveZero(1.0), default.top_p)?,
        top_k: fields
            .integer_u32("top_k", 0..=TOP_K_MAX)?
            .unwrap_or(default.top_k),
        min_p: fields.number("min_p", Closed(0.0, 1.0), default.min_p)?,
        seed: parse_seed(fields)?,
        presence_penalty: fields.number("presence_penalty", penalty, default.presence_penalty)?,
        frequency_penalty: fields.number(
            "frequency_penalty",
            penalty,
            default.frequency_penalty,
        )?,
        repetition_penalty: fields.number(
            "repetition_penalty",
            AboveZero(2.0),
            default.repetition_penalty,
        )?,
        n: parse_n(endpoint, fields)?,
        logprobs,
        confidence: parse_confidence(endpoint, fields, logprobs)?,
        stop: parse_stop(fields)?,
    })
}

fn integer_u8(fields: &Fields<'_>, key: &str, min: u8, max: u8) -> Result<Option<u8>, ApiError> {
    let value = fields.integer(key, u64::from(min)..=u64::from(max))?;
    // The range was checked, so the conversion cannot fail.
    Ok(value.and_then(|value| u8::try_from(value).ok()))
}

/// Any 64-bit integer: OpenAI's clients send signed ones.
fn parse_seed(fields: &Fields<'_>) -> Result<Option<u64>, ApiError> {
    match fields.optional("seed") {
        Some(Json::Number(Number::Negative(seed))) => Ok(Some(seed.cast_unsigned())),
        _ => fields.integer("seed", 0..=u64::MAX),
    }
}

/// `best_of` asks for more answers than are shown, which costs tokens nobody sees: it may only
/// repeat `n` or be 1.
fn parse_n(endpoint: Endpoint, fields: &Fields<'_>) -> Result<u8, ApiError> {
    let n = integer_u8(fields, "n", 1, CHOICES_MAX)?.unwrap_or(1);
    if endpoint == Endpoint::Completions {
        let best_of = integer_u8(fields, "best_of", 1, u8::MAX)?.unwrap_or(1);
        if best_of != 1 && best_of != n {
            return Err(invalid_value("best_of", "best_of must be 1 or equal to n"));
        }
    }
    Ok(n)
}

fn parse_chat_logprobs(fields: &Fields<'_>) -> Result<Option<u8>, ApiError> {
    let wanted = fields.bool("logprobs")?.unwrap_or(false);
    let top = integer_u8(fields, "top_logprobs", 0, TOP_LOGPROBS_MAX)?;
    match (wanted, top) {
        (true, top) => Ok(Some(top.unwrap_or(0))),
        (false, None) => Ok(None),
        (false, Some(_)) => {
            let message = "top_logprobs is only allowed when logprobs is true";
            Err(invalid_value("top_logprobs", message))
        }
    }
}

/// Our own field. It is shown beside a chat's log probabilities, and so needs them.
fn parse_confidence(
    endpoint: Endpoint,
    fields: &Fields<'_>,
    logprobs: Option<u8>,
) -> Result<bool, ApiError> {
    const FIELD: &str = "farthing.confidence";
    let Some(ours) = fields.object("farthing")? else {
        return Ok(false);
    };
    let wanted = ours.bool("confidence")?.unwrap_or(false);
    if wanted && endpoint != Endpoint::ChatCompletions {
        return Err(invalid_value(FIELD, "only chats report their confidence"));
    }
    if wanted && logprobs.is_none() {
        let message = "farthing.confidence is only allowed when logprobs is true";
        return Err(invalid_value(FIELD, message));
    }
    Ok(wanted)
}

fn parse_stop(fields: &Fields<'_>) -> Result<Vec<String>, ApiError> {
    match fields.optional("stop") {
        None => Ok(Vec::new()),
        Some(Json::String(stop)) => Ok(vec![check_stop(Path::field("stop"), stop)?]),
        Some(Json::Array(items)) if items.is_empty() => Ok(Vec::new()),
        Some(Json::Array(items)) => {
            check_count("stop", items.len(), STOP_STRINGS_MAX)?;
            let mut stops = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                let path = Path::field("stop").item(index);
                let Json::String(stop) = item else {
                    return Err(wrong_type(path, "a string", item));
                };
                stops.push(check_stop(path, stop)?);
            }
            Ok(stops)
        }
        Some(other) => Err(wrong_type("stop", "a string or an array of strings", other)),
    }
}

fn check_stop(path: Path<'_>, stop: &str) -> Result<String, ApiError> {
    if stop.is_empty() || stop.len() > STOP_STRING_BYTES_MAX {
        let message = format!("{path} must have 1 to {STOP_STRING_BYTES_MAX} bytes");
        return Err(invalid_value(path, message));
    }
    Ok(stop.to_owned())
}

/// Token ids differ between the models that a router may choose from, so a bias on them would mean
/// another word on another model.
fn refuse_logit_bias(fields: &Fields<'_>) -> Result<(), ApiError> {
    match fields.optional("logit_bias") {
        None => Ok(()),
        Some(Json::Object(biases)) if biases.is_empty() => Ok(()),
        Some(Json::Object(_)) => Err(invalid_value(
            "logit_bias",
            "logit_bias is not supported; leave it out",
        )),
        Some(other) => Err(wrong_type("logit_bias", "an object", other)),
    }
}
