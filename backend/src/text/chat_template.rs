//! Messages to a prompt, by the Jinja template that the model file carries.
//!
//! Templates are written for Hugging Face's `apply_chat_template`; the environment here is the
//! same: `trim_blocks` and `lstrip_blocks`, loop controls, Python's string methods,
//! `raise_exception`, `strftime_now`, and a `tojson` that writes JSON as Python does.

use super::Tokenizer;
use super::control_marks::{MarkedText, mark};
use super::template_functions;
use super::template_values::{json_value, message_value};
use crate::error::BackendError;
use farthing_core::bpe::Specials;
use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::limits::{
    CHAT_TEMPLATE_BYTES_MAX, CHAT_TEMPLATE_FUEL, RENDERED_PROMPT_BYTES_MAX,
};
use farthing_core::wire::{Json, Message, Role};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind as TemplateErrorKind, Value, context};
use std::io::{Error as IoError, Write};

/// The only template of its environment.
const NAME: &str = "chat";

/// What a template renders.
#[derive(Debug, Clone, Copy)]
pub struct ChatPrompt<'a> {
    /// The conversation.
    pub messages: &'a [Message],
    /// The request's `tools` array, as sent.
    pub tools: Option<&'a Json>,
    /// How the prompt ends.
    pub generation_prompt: GenerationPrompt,
}

/// How a prompt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenerationPrompt {
    /// With the start of the assistant's turn, so that the model writes it.
    Add,
    /// With the last message.
    Omit,
}

/// A compiled chat template. Immutable and shareable.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// `bos_token` and `eos_token`, as marks; empty where the model has none.
    bos_token: String,
    eos_token: String,
}

impl<'a> ChatPrompt<'a> {
    /// A conversation without tools.
    pub fn new(messages: &'a [Message], generation_prompt: GenerationPrompt) -> ChatPrompt<'a> {
        ChatPrompt {
            messages,
            tools: None,
            generation_prompt,
        }
    }

    /// Offers the request's `tools`, as sent.
    pub fn tools(self, tools: Option<&'a Json>) -> ChatPrompt<'a> {
        ChatPrompt { tools, ..self }
    }
}

impl ChatTemplate {
    /// Compiles the template of a model.
    ///
    /// # Errors
    /// [`BackendError::Template`] when the source is too long, is not valid Jinja, or puts control
    /// tokens together from parts, which could not be told from a message's text.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<ChatTemplate, BackendError> {
        if source.len() > CHAT_TEMPLATE_BYTES_MAX {
            return Err(BackendError::Template(format!(
                "it has {} bytes, more than {CHAT_TEMPLATE_BYTES_MAX}",
                source.len()
            )));
        }
        let bpe = tokenizer.bpe();
        let environment = environment(mark(source, bpe))
            .map_err(|error| BackendError::Template(error.to_string()))?;
        let token = |id: Option<u32>| {
            let bytes = id.and_then(|id| bpe.decode_bytes(id)).unwrap_or_default();
            mark(&String::from_utf8_lossy(bytes), bpe)
        };
        let (bos_token, eos_token) = (token(tokenizer.bos()), token(tokenizer.eos()));
        let template = ChatTemplate {
            environment,
            bos_token,
            eos_token,
        };
        template.check_control_tokens(tokenizer)?;
        Ok(template)
    }

    /// Renders a conversation. Control tokens in the result are marks that only the template can
    /// write; see [`MarkedText`].
    ///
    /// # Errors
    /// `InvalidValue` naming `messages` when the template refuses them or the prompt would have
    /// more than `RENDERED_PROMPT_BYTES_MAX` bytes.
    pub fn render(&self, prompt: &ChatPrompt<'_>) -> Result<MarkedText, ApiError> {
        let messages: Vec<Value> = prompt.messages.iter().map(message_value).collect();
        let context = context! {
            messages => messages,
            tools => prompt.tools.map(json_value),
            add_generation_prompt => prompt.generation_prompt == GenerationPrompt::Add,
            bos_token => self.bos_token.as_str(),
            eos_token => self.eos_token.as_str(),
        };
        let mut output = BoundedOutput(Vec::new());
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| refusal(&error))?;
        template
            .render_captured_to(context, &mut output)
            .map_err(|error| refusal(&error))?;
        let rendered = String::from_utf8(output.0).map_err(|_| {
            ApiError::new(
                ErrorKind::Internal,
                "the chat template's output is not UTF-8",
            )
        })?;
        Ok(MarkedText::new(rendered))
    }

    /// Refuses a template that writes control tokens in a way that [`mark`] does not see
    /// (`'<|' + role + '|>'`): its prompts would lose them without notice. Harmless conversations
    /// must give the same tokens whether control tokens are taken from marks or from the spelling.
    fn check_control_tokens(&self, tokenizer: &Tokenizer) -> Result<(), BackendError> {
        let text = |role| Message {
            role,
            content: "Hello".to_owned(),
            name: None,
            tool_calls: None,
            tool_call_id: None,
        };
        let turns = [Role::System, Role::User, Role::Assistant, Role::User].map(text);
        for messages in [&turns[..], &turns[1..]] {
            let prompt = ChatPrompt::new(messages, GenerationPrompt::Add);
            // A template may refuse a system message; it does not have to render both.
            let Ok(rendered) = self.render(&prompt) else {
                continue;
            };
            let spelled = rendered.spelled(tokenizer);
            let from_spelling = tokenizer.encode(&spelled, Specials::Parse);
            if from_spelling != tokenizer.encode_marked(&rendered) {
                return Err(BackendError::Template(
                    "it puts control tokens together from parts, which is not supported".to_owned(),
                ));
            }
        }
        Ok(())
    }
}

/// The error for a chat with a model that has no template: guessing one would make the model
/// answer badly without anyone knowing why.
pub fn no_chat_template(model: &str) -> ApiError {
    let message = format!(
        "the model {model} has no chat template, so it cannot answer chats; use /v1/completions"
    );
    ApiError::new(ErrorKind::InvalidValue, message).param("model")
}

fn environment(source: String) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(CHAT_TEMPLATE_FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    template_functions::add_to(&mut environment);
    environment.add_template_owned(NAME, source)?;
    Ok(environment)
}

/// What the client is told of a template's failure. The text comes from the template or from
/// minijinja, which name types and operations, never the messages.
fn refusal(error: &minijinja::Error) -> ApiError {
    let detail = error.detail().unwrap_or_default();
    let message = match error.kind() {
        TemplateErrorKind::OutOfFuel => {
            "the messages take too many steps to render by the model's chat template".to_owned()
        }
        TemplateErrorKind::WriteFailure => format!(
            "the prompt has more than {RENDERED_PROMPT_BYTES_MAX} bytes after the chat template"
        ),
        _ if template_functions::was_raised(error) => {
            format!("the model's chat template refuses the messages: {detail}")
        }
        kind => format!("the model's chat template cannot render the messages: {kind}: {detail}"),
    };
    ApiError::new(ErrorKind::InvalidValue, message).param("messages")
}

/// Output that refuses to grow beyond `RENDERED_PROMPT_BYTES_MAX`.
struct BoundedOutput(Vec<u8>);

impl Write for BoundedOutput {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > RENDERED_PROMPT_BYTES_MAX {
            return Err(IoError::other("the prompt is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
