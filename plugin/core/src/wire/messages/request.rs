//! A request of `/v1/messages`, read as a chat: `system` is its first message.

use crate::error::ApiError;
use crate::limits::{
    CONTENT_PARTS_MAX, MAX_TOKENS_MAX, MESSAGES_MAX, STOP_STRING_BYTES_MAX, STOP_STRINGS_MAX,
    TOP_K_MAX,
};
use crate::wire::chat::{Message, Role};
use crate::wire::completions::Prompt;
use crate::wire::endpoint::Endpoint;
use crate::wire::fields::{
    Fields, NumberRange, Path, check_count, invalid_value, missing, wrong_type,
};
use crate::wire::images::{Images, append_json, append_line, unsupported_part};
use crate::wire::json::{Json, echo};
use crate::wire::request::{Request, Reuse, parse_model, parse_tools};

/// Blocks whose every byte the model may read, and which have no part that we must tell apart:
/// calls of tools that the provider ran, with what they found.
const READ_WHOLE: [&str; 10] = [
    "search_result",
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "mcp_tool_use",
    "mcp_tool_result",
];

/// Reads and checks a request.
pub(in crate::wire) fn parse(fields: &Fields<'_>) -> Result<Request, ApiError> {
    let model = parse_model(fields)?;
    let mut reader = Reader::default();
    if let Some(system) = fields.optional("system") {
        let content = reader.system(system)?;
        reader.push(Role::System, content);
    }
    reader.messages(fields)?;
    let mut request = Request::new(Endpoint::Messages, model, Prompt::Messages(reader.messages));
    let unit = NumberRange::Closed(0.0, 1.0);
    let max_tokens = fields.integer_u32("max_tokens", 1..=MAX_TOKENS_MAX)?;
    request.max_tokens = Some(max_tokens.ok_or_else(|| missing("max_tokens"))?);
    request.sampling.temperature =
        fields.number("temperature", unit, request.sampling.temperature)?;
    request.sampling.top_p = fields.number("top_p", NumberRange::AboveZero(1.0), 1.0)?;
    request.sampling.top_k = fields.integer_u32("top_k", 0..=TOP_K_MAX)?.unwrap_or(0);
    request.stream = fields.bool("stream")?.unwrap_or(false);
    request.tools = parse_tools(fields)?;
    request.images = reader.images;
    request.reuse = reuse(fields)?;
    check_stop_sequences(fields)?;
    check_kept_fields(fields)?;
    Ok(request)
}

/// Tools of the provider's own have a dated `type` and look at a world that changes; so do servers
/// that are asked for tools.
fn reuse(fields: &Fields<'_>) -> Result<Reuse, ApiError> {
    let tools = fields.array("tools")?.unwrap_or_default();
    let run_there = tools.iter().any(|tool| {
        let kind = tool.get("type").and_then(Json::as_str);
        !matches!(kind, None | Some("custom"))
    });
    let servers = fields.array("mcp_servers")?.unwrap_or_default();
    let container = fields.optional("container").is_some();
    Ok(if run_there || container || !servers.is_empty() {
        Reuse::Forbidden
    } else {
        Reuse::Allowed
    })
}

fn check_stop_sequences(fields: &Fields<'_>) -> Result<(), ApiError> {
    let stops = fields.array("stop_sequences")?.unwrap_or_default();
    if !stops.is_empty() {
        // Anthropic allows many more than OpenAI's four.
        check_count("stop_sequences", stops.len(), STOP_STRINGS_MAX * 64)?;
    }
    for (index, stop) in stops.iter().enumerate() {
        let path = Path::field("stop_sequences").item(index);
        let Json::String(stop) = stop else {
            return Err(wrong_type(path, "a string", stop));
        };
        if stop.is_empty() || stop.len() > STOP_STRING_BYTES_MAX {
            let message = format!("{path} must have 1 to {STOP_STRING_BYTES_MAX} bytes");
            return Err(invalid_value(path, message));
        }
    }
    Ok(())
}

fn check_kept_fields(fields: &Fields<'_>) -> Result<(), ApiError> {
    fields.object("metadata")?;
    fields.object("thinking")?;
    fields.object("output_config")?;
    fields.string("service_tier")?;
    Ok(())
}

#[derive(Default)]
struct Reader {
    messages: Vec<Message>,
    images: Images,
}

impl Reader {
    fn system(&mut self, json: &Json) -> Result<String, ApiError> {
        match json {
            Json::String(text) => Ok(text.clone()),
            Json::Array(blocks) if blocks.is_empty() => Ok(String::new()),
            Json::Array(_) => self.content(json, Path::field("system")),
            other => Err(wrong_type(
                "system",
                "a string or an array of blocks",
                other,
            )),
        }
    }

    fn messages(&mut self, fields: &Fields<'_>) -> Result<(), ApiError> {
        let items = fields
            .filled_array("messages", MESSAGES_MAX)?
            .ok_or_else(|| missing("messages"))?;
        for (index, item) in items.iter().enumerate() {
            let item = Fields::nested(item, Path::field("messages").item(index))?;
            let role = match item.required_string("role")? {
                "user" => Role::User,
                "assistant" => Role::Assistant,
                "system" => Role::System,
                other => {
                    let path = item.path("role");
                    let message = format!(
                        "{path} must be user, assistant or system, but it is \"{}\"",
                        echo(other)
                    );
                    return Err(invalid_value(path, message));
                }
            };
            let content = self.content(item.required("content")?, item.path("content"))?;
            self.push(role, content);
        }
        Ok(())
    }

    fn content(&mut self, json: &Json, path: Path<'_>) -> Result<String, ApiError> {
        let blocks = match json {
            Json::String(text) => return Ok(text.clone()),
            Json::Array(blocks) => blocks,
            other => return Err(wrong_type(path, "a string or an array of blocks", other)),
        };
        check_count(path, blocks.len(), CONTENT_PARTS_MAX)?;
        let mut content = String::new();
        for (index, block) in blocks.iter().enumerate() {
            self.block(block, path.item(index), &mut content)?;
        }
        Ok(content)
    }

    /// Recursion goes no deeper than the JSON, which the parser bounds.
    fn block(&mut self, json: &Json, path: Path<'_>, content: &mut String) -> Result<(), ApiError> {
        let block = Fields::nested(json, path)?;
        match block.required_string("type")? {
            "text" => append_line(content, block.required_string("text")?),
            "image" => self.images.add_image_block(&block)?,
            "document" => self.document(&block, content)?,
            "thinking" => append_line(content, block.required_string("thinking")?),
            "redacted_thinking" => append_line(content, block.required_string("data")?),
            "tool_use" => {
                append_line(content, block.required_string("name")?);
                append_json(content, block.required("input")?);
            }
            "tool_result" => {
                block.required_string("tool_use_id")?;
                match block.optional("content") {
                    None => {}
                    Some(Json::Array(parts)) if parts.is_empty() => {}
                    Some(result) => {
                        let text = self.content(result, block.path("content"))?;
                        append_line(content, &text);
                    }
                }
            }
            kind if READ_WHOLE.contains(&kind) => append_json(content, json),
            kind => return Err(unsupported_part(&block, kind)),
        }
        Ok(())
    }

    /// A document of text is text; of a file nobody here can say how much it holds.
    fn document(&mut self, block: &Fields<'_>, content: &mut String) -> Result<(), ApiError> {
        let source = block
            .object("source")?
            .ok_or_else(|| missing(block.path("source")))?;
        for key in ["title", "context"] {
            if let Some(text) = block.string(key)? {
                append_line(content, text);
            }
        }
        match source.required_string("type")? {
            "text" => append_line(content, source.required_string("data")?),
            "content" => {
                let inner = source.required("content")?;
                let text = self.content(inner, source.path("content"))?;
                append_line(content, &text);
            }
            kind => return Err(unsupported_part(&source, kind)),
        }
        Ok(())
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
