//! A request of `/v1/responses`, read as a chat: `instructions` are its system text and each item
//! of `input` is a message.

use crate::error::ApiError;
use crate::limits::{CONTENT_PARTS_MAX, MAX_TOKENS_MAX, MESSAGES_MAX};
use crate::wire::chat::{Message, Role};
use crate::wire::completions::Prompt;
use crate::wire::endpoint::Endpoint;
use crate::wire::fields::{
    Fields, NumberRange, Path, check_count, invalid_value, missing, wrong_type,
};
use crate::wire::images::{Images, append_json, append_line, unsupported_part};
use crate::wire::json::{Json, echo};
use crate::wire::request::{
    PromptExtent, Request, Reuse, parse_include_usage, parse_model, parse_tools,
};

/// Items of `input` whose every byte the model may read, and which have no part that we must tell
/// apart: calls of tools with their results, and what the model thought before.
const READ_WHOLE: [&str; 22] = [
    "function_call",
    "custom_tool_call",
    "custom_tool_call_output",
    "reasoning",
    "compaction",
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "computer_call",
    "tool_search_call",
    "tool_search_output",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
];

/// Fields by which the provider adds to the prompt what it has stored.
const STORED_CONTEXT: [&str; 3] = ["previous_response_id", "conversation", "prompt"];

/// Are all items messages of one text each? Calls, reasoning and joined parts are read as text by
/// us, which is not how the model reads them.
pub(in crate::wire) fn is_plain(json: &Json) -> bool {
    let is_text = |part: &Json| {
        let kind = part.get("type").and_then(Json::as_str);
        matches!(kind, Some("input_text" | "output_text" | "text"))
    };
    let is_plain = |item: &Json| {
        let kind = item.get("type").and_then(Json::as_str);
        let content = item.get("content");
        matches!(kind, None | Some("message"))
            && match content.and_then(Json::as_array) {
                Some([part]) => is_text(part),
                Some(_) => false,
                None => content.and_then(Json::as_str).is_some(),
            }
    };
    match json.get("input") {
        Some(Json::Array(items)) => items.iter().all(is_plain),
        Some(input) => input.as_str().is_some(),
        None => false,
    }
}

/// Reads and checks a request.
pub(in crate::wire) fn parse(fields: &Fields<'_>) -> Result<Request, ApiError> {
    let model = parse_model(fields)?;
    let stream = fields.bool("stream")?.unwrap_or(false);
    // Its own options; the usage is part of the last event whether asked for or not.
    parse_include_usage(fields, stream)?;
    refuse_background(fields)?;
    let mut reader = Reader::default();
    if let Some(instructions) = fields.string("instructions")? {
        reader.push(Role::System, instructions.to_owned());
    }
    reader.input(fields)?;
    let extent = match STORED_CONTEXT
        .iter()
        .any(|key| fields.optional(key).is_some())
    {
        true => PromptExtent::Stored,
        false => reader.extent,
    };
    let tools = parse_tools(fields)?;
    let stored = fields.bool("store")?.unwrap_or(true);
    let mut request = Request::new(
        Endpoint::Responses,
        model,
        Prompt::Messages(reader.messages),
    );
    let range = NumberRange::Closed(0.0, 2.0);
    request.sampling.temperature =
        fields.number("temperature", range, request.sampling.temperature)?;
    request.sampling.top_p = fields.number("top_p", NumberRange::AboveZero(1.0), 1.0)?;
    request.max_tokens = fields.integer_u32("max_output_tokens", 1..=MAX_TOKENS_MAX)?;
    request.stream = stream;
    request.tools = tools;
    request.images = reader.images;
    request.extent = extent;
    // A response that is kept can be asked for by its id and gone on from: it is somebody's own.
    // Most tools here are run by the provider and look at a world that changes.
    let own = stored || tools || extent == PromptExtent::Stored;
    request.reuse = if own {
        Reuse::Forbidden
    } else {
        Reuse::Allowed
    };
    check_kept_fields(fields)?;
    Ok(request)
}

/// An answer that comes later comes to another request, whose usage nobody could settle.
fn refuse_background(fields: &Fields<'_>) -> Result<(), ApiError> {
    if fields.bool("background")? == Some(true) {
        let message = "background is not supported: no budget could be settled; leave it out";
        return Err(invalid_value("background", message));
    }
    Ok(())
}

fn check_kept_fields(fields: &Fields<'_>) -> Result<(), ApiError> {
    fields.object("text")?;
    fields.object("reasoning")?;
    fields.object("metadata")?;
    fields.array("include")?;
    fields.string("previous_response_id")?;
    fields.object("prompt")?;
    fields.string("truncation")?;
    fields.string("user")?;
    fields.string("service_tier")?;
    match fields.optional("conversation") {
        None | Some(Json::String(_) | Json::Object(_)) => Ok(()),
        Some(other) => Err(wrong_type("conversation", "a string or an object", other)),
    }
}

#[derive(Default)]
struct Reader {
    messages: Vec<Message>,
    images: Images,
    extent: PromptExtent,
}

impl Reader {
    fn input(&mut self, fields: &Fields<'_>) -> Result<(), ApiError> {
        let items = match fields.optional("input") {
            Some(Json::String(text)) => {
                self.push(Role::User, text.clone());
                return Ok(());
            }
            Some(Json::Array(items)) => items,
            Some(other) => return Err(wrong_type("input", "a string or an array of items", other)),
            // A stored prompt or conversation may say all there is to say.
            None if fields.optional("prompt").is_some() => return Ok(()),
            None if fields.optional("conversation").is_some() => return Ok(()),
            None if fields.optional("previous_response_id").is_some() => return Ok(()),
            None => return Err(missing("input")),
        };
        check_count("input", items.len(), MESSAGES_MAX)?;
        for (index, item) in items.iter().enumerate() {
            self.item(item, Path::field("input").item(index))?;
        }
        Ok(())
    }

    fn item(&mut self, json: &Json, path: Path<'_>) -> Result<(), ApiError> {
        let item = Fields::nested(json, path)?;
        match item.string("type")? {
            None | Some("message") => self.message(&item),
            Some("function_call_output" | "computer_call_output") => {
                let output = item.required("output")?;
                let content = self.content(output, item.path("output"))?;
                self.push(Role::Tool, content);
                Ok(())
            }
            Some("item_reference") => {
                item.required_string("id")?;
                self.extent = PromptExtent::Stored;
                Ok(())
            }
            Some(kind) if READ_WHOLE.contains(&kind) => {
                let mut content = String::new();
                append_json(&mut content, json);
                self.push(Role::Assistant, content);
                Ok(())
            }
            Some(kind) => {
                let path = item.path("type");
                let message = format!("{path} \"{}\" is not supported", echo(kind));
                Err(invalid_value(path, message))
            }
        }
    }

    fn message(&mut self, item: &Fields<'_>) -> Result<(), ApiError> {
        let role = match item.required_string("role")? {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            "developer" => Role::Developer,
            other => {
                let path = item.path("role");
                let message = format!(
                    "{path} must be user, assistant, system or developer, but it is \"{}\"",
                    echo(other)
                );
                return Err(invalid_value(path, message));
            }
        };
        let content = item.required("content")?;
        let content = self.content(content, item.path("content"))?;
        self.push(role, content);
        Ok(())
    }

    fn content(&mut self, json: &Json, path: Path<'_>) -> Result<String, ApiError> {
        let parts = match json {
            Json::String(text) => return Ok(text.clone()),
            Json::Array(parts) => parts,
            // A screenshot is one part without a list around it.
            Json::Object(_) => std::slice::from_ref(json),
            other => return Err(wrong_type(path, "a string or an array of parts", other)),
        };
        check_count(path, parts.len(), CONTENT_PARTS_MAX)?;
        let mut content = String::new();
        for (index, part) in parts.iter().enumerate() {
            let part = Fields::nested(part, path.item(index))?;
            match part.required_string("type")? {
                "input_text" | "output_text" | "text" => {
                    append_line(&mut content, part.required_string("text")?);
                }
                "refusal" => append_line(&mut content, part.required_string("refusal")?),
                "input_image" | "computer_screenshot" => self.images.add_input_image(&part)?,
                kind => return Err(unsupported_part(&part, kind)),
            }
        }
        Ok(content)
    }

    fn push(&mut self, role: Role, content: String) {
        self.messages.push(Message {
            role,
            content,
            name: None,
            tool_calls: None,
            tool_call_id: None,
        });
    }
}
