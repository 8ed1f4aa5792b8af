//! A chat as a request of `POST /models/NAME:generateContent`.

use crate::error::ApiError;
use crate::wire::chat::Role;
use crate::wire::fields::invalid_value;
use crate::wire::json::{Json, Number};
use crate::wire::provider::options::{self, count, stops};
use crate::wire::provider::tools::{self, ToolChoice};
use crate::wire::provider::turns::{Part, ResultOf, Turn, turns, unsupported};
use crate::wire::provider::{ProviderRequest, Target, data_url, object, put, put_same, string};
use crate::wire::request::Request;

/// Fields that this API has a word for beside those that all have.
const ALSO_TOLD: [&str; 5] = [
    "n",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "response_format",
];

/// Writes the request.
pub(in crate::wire::provider) fn request(
    request: &Request,
    target: &Target<'_>,
) -> Result<ProviderRequest, ApiError> {
    options::check(request, &ALSO_TOLD)?;
    let turns = turns(request)?;
    let mut out = Vec::new();
    put(&mut out, "contents", Json::Array(contents(&turns)?));
    let system = system(&turns)?;
    if !system.is_empty() {
        let parts = object([("parts", Json::Array(system))]);
        put(&mut out, "systemInstruction", parts);
    }
    put_tools(&mut out, request)?;
    let config = generation_config(request)?;
    if !config.is_empty() {
        put(&mut out, "generationConfig", Json::Object(config));
    }
    let method = match request.stream {
        true => "streamGenerateContent?alt=sse",
        false => "generateContent",
    };
    Ok(ProviderRequest {
        path: format!("/models/{}:{method}", target.model),
        body: Json::Object(out).to_bytes(),
    })
}

/// Instructions go before the conversation, in the order in which they came.
fn system(turns: &[Turn<'_>]) -> Result<Vec<Json>, ApiError> {
    let is_system = |turn: &&Turn<'_>| matches!(turn.role, Role::System | Role::Developer);
    let parts = turns.iter().filter(is_system).flat_map(|turn| &turn.parts);
    parts
        .map(|part| match part {
            Part::Text { .. } => write_part(part),
            Part::Image { path, .. } => Err(unsupported(path.clone())),
        })
        .collect()
}

fn contents(turns: &[Turn<'_>]) -> Result<Vec<Json>, ApiError> {
    let mut contents: Vec<(&str, Vec<Json>)> = Vec::new();
    let mut after_result = false;
    for turn in turns {
        let (role, mut parts) = match turn.role {
            Role::System | Role::Developer => continue,
            Role::Assistant => ("model", assistant(turn)?),
            Role::User => ("user", write_parts(&turn.parts)?),
            Role::Tool => ("user", vec![function_response(turn)?]),
        };
        // All results of one turn of the model belong into one content.
        let is_result = turn.role == Role::Tool;
        match contents.last_mut() {
            Some((_, results)) if is_result && after_result => results.append(&mut parts),
            _ => contents.push((role, parts)),
        }
        after_result = is_result;
    }
    let contents = contents.into_iter();
    Ok(contents
        .map(|(role, parts)| object([("role", string(role)), ("parts", Json::Array(parts))]))
        .collect())
}

fn assistant(turn: &Turn<'_>) -> Result<Vec<Json>, ApiError> {
    let spoken = turn.parts.iter().filter(|part| part.as_text() != Some(""));
    let mut parts: Vec<Json> = spoken.map(write_part).collect::<Result<_, _>>()?;
    for call in &turn.calls {
        let function = object([
            ("name", string(call.name)),
            ("args", call.arguments.clone()),
        ]);
        let mut part = Vec::new();
        put(&mut part, "functionCall", function);
        if let Some(signature) = call.signature {
            put(&mut part, "thoughtSignature", signature.clone());
        }
        parts.push(Json::Object(part));
    }
    Ok(parts)
}

/// The API finds the call by the function's name, and takes an object as its result.
fn function_response(turn: &Turn<'_>) -> Result<Json, ApiError> {
    let name = match &turn.result {
        Some(ResultOf {
            name: Some(name), ..
        }) => *name,
        Some(ResultOf { path, .. }) => {
            let message = format!("{path} is the id of no tool call before it");
            return Err(invalid_value(path, message));
        }
        None => "",
    };
    let mut texts = Vec::with_capacity(turn.parts.len());
    for part in &turn.parts {
        match part {
            Part::Text { text, .. } => texts.push(*text),
            Part::Image { path, .. } => return Err(unsupported(path.clone())),
        }
    }
    let text = texts.join("\n");
    let response = match Json::parse(text.as_bytes()) {
        Ok(result @ Json::Object(_)) => result,
        _ => object([("output", Json::String(text))]),
    };
    let response = object([("name", string(name)), ("response", response)]);
    Ok(object([("functionResponse", response)]))
}

fn write_parts(parts: &[Part<'_>]) -> Result<Vec<Json>, ApiError> {
    parts.iter().map(write_part).collect()
}

fn write_part(part: &Part<'_>) -> Result<Json, ApiError> {
    match part {
        Part::Text { text, .. } => Ok(object([("text", string(text))])),
        Part::Image { url, path } => match data_url(url, path)? {
            Some((media_type, data)) => {
                let data = object([("mimeType", string(media_type)), ("data", string(data))]);
                Ok(object([("inlineData", data)]))
            }
            None => {
                let message = format!("{path} must be a data URL for this model");
                Err(invalid_value(path, message))
            }
        },
    }
}

fn put_tools(out: &mut Vec<(String, Json)>, request: &Request) -> Result<(), ApiError> {
    let tools = tools::tools(request)?;
    let choice = tools::tool_choice(request)?;
    if tools.is_empty() {
        return Ok(());
    }
    let declarations = tools.iter().map(|tool| {
        let mut entries = Vec::new();
        put(&mut entries, "name", string(tool.name));
        if let Some(description) = tool.description {
            put(&mut entries, "description", string(description));
        }
        if let Some(parameters) = tool.parameters {
            put(&mut entries, "parametersJsonSchema", parameters.clone());
        }
        Json::Object(entries)
    });
    let declarations = Json::Array(declarations.collect());
    let declarations = object([("functionDeclarations", declarations)]);
    put(out, "tools", Json::Array(vec![declarations]));
    let strict = tools.iter().any(|tool| tool.strict);
    let (mode, name) = match choice {
        // Calls that follow their schema to the letter are a mode of all tools here.
        ToolChoice::Auto if strict => ("VALIDATED", None),
        ToolChoice::Auto => ("AUTO", None),
        ToolChoice::None => ("NONE", None),
        ToolChoice::Required => ("ANY", None),
        ToolChoice::Named(name) => ("ANY", Some(name)),
    };
    let mut config = Vec::new();
    put(&mut config, "mode", string(mode));
    if let Some(name) = name {
        let names = Json::Array(vec![string(name)]);
        put(&mut config, "allowedFunctionNames", names);
    }
    let config = object([("functionCallingConfig", Json::Object(config))]);
    put(out, "toolConfig", config);
    Ok(())
}

fn generation_config(request: &Request) -> Result<Vec<(String, Json)>, ApiError> {
    let mut config = Vec::new();
    put_same(&mut config, "temperature", request, "temperature");
    put_same(&mut config, "topP", request, "top_p");
    if request.sampling.top_k > 0 {
        put(&mut config, "topK", count(request.sampling.top_k));
    }
    if request.sampling.n > 1 {
        put(
            &mut config,
            "candidateCount",
            count(u32::from(request.sampling.n)),
        );
    }
    if let Some(limit) = request.max_tokens {
        put(&mut config, "maxOutputTokens", count(limit));
    }
    if let Some(stops) = stops(request) {
        put(&mut config, "stopSequences", stops);
    }
    put_same(&mut config, "presencePenalty", request, "presence_penalty");
    put_same(
        &mut config,
        "frequencyPenalty",
        request,
        "frequency_penalty",
    );
    if let Some(Json::Number(seed)) = request.json.get("seed") {
        if !fits_32_bits(*seed) {
            let message = "seed must fit 32 bits for this model";
            return Err(invalid_value("seed", message));
        }
        put(&mut config, "seed", Json::Number(*seed));
    }
    let schema = options::json_schema(request);
    if schema.is_some() || options::wants_json_object(request) {
        put(&mut config, "responseMimeType", string("application/json"));
    }
    if let Some(schema) = schema {
        put(&mut config, "responseJsonSchema", schema.clone());
    }
    Ok(config)
}

fn fits_32_bits(seed: Number) -> bool {
    (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&seed.as_f64())
}
