//! What a model reads of a chat beside the messages: the words and control tokens that a chat
//! template puts around them, or a provider's rule of so many tokens a message.

use super::count::{Stop, Tally};
use crate::wire::{Message, Role};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Stands for one control token in the words of a template. A noncharacter of Unicode's, which text
/// does not hold: the backend replaces it in what clients send, and so do we.
pub const CONTROL_MARK: char = '\u{fdd0}';
/// The other noncharacter that the backend replaces.
const OTHER_MARK: char = '\u{fdd1}';

/// How the messages of a chat become a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Framing {
    /// So many tokens beside the role and the text of each: what OpenAI documents for its models
    /// (<https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken_4>).
    PerMessage {
        /// For each message.
        message: u32,
        /// For each name, beside its text.
        name: u32,
        /// For the start of the answer.
        reply: u32,
    },
    /// The words of a template, apart because they are far more than the numbers above.
    Template(Box<TemplateFraming>),
}

/// Words before the first message, between two and after the last, for every role that they depend
/// on. Where there are none, the template refuses such a chat or does more than to put words around
/// texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateFraming {
    /// By the first role, in the order of [`FRAMED_ROLES`].
    pub starts: [Option<String>; 4],
    /// By the role before and the role after.
    pub betweens: [[Option<String>; 4]; 4],
    /// By the last role; with the start of the answer.
    pub ends: [Option<String>; 4],
    /// What the template does with each text.
    pub content: Content,
}

/// What a template does with a message's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// It stays as it is.
    #[default]
    Verbatim,
    /// White space around it is taken away.
    Trimmed,
}

/// The roles whose messages are text and nothing else.
pub const FRAMED_ROLES: [Role; 4] = [Role::System, Role::Developer, Role::User, Role::Assistant];

impl Content {
    /// A message's text as it stands in the prompt.
    pub fn of(self, text: &str) -> Cow<'_, str> {
        let text = match self {
            Content::Verbatim => text,
            Content::Trimmed => text.trim(),
        };
        if text.contains([CONTROL_MARK, OTHER_MARK]) {
            Cow::Owned(text.replace([CONTROL_MARK, OTHER_MARK], "\u{fffd}"))
        } else {
            Cow::Borrowed(text)
        }
    }
}

impl TemplateFraming {
    /// The words before the message at `index`, or `None` where the framing does not say.
    pub fn before(&self, messages: &[Message], index: usize) -> Option<&str> {
        let role = place(messages.get(index)?.role)?;
        match index.checked_sub(1) {
            None => self.starts.get(role)?.as_deref(),
            Some(before) => {
                let before = place(messages.get(before)?.role)?;
                self.betweens.get(before)?.get(role)?.as_deref()
            }
        }
    }

    /// The words after the last message.
    pub fn after(&self, messages: &[Message]) -> Option<&str> {
        self.ends.get(place(messages.last()?.role)?)?.as_deref()
    }
}

/// The position of a role among those that are framed.
pub fn place(role: Role) -> Option<usize> {
    FRAMED_ROLES.iter().position(|framed| *framed == role)
}

impl Framing {
    /// Does it say all that the model reads of these messages?
    pub(super) fn knows(&self, messages: &[Message]) -> bool {
        messages.iter().all(is_text_alone)
            && match self {
                Framing::PerMessage { .. } => true,
                Framing::Template(template) => {
                    let framed = |index| template.before(messages, index).is_some();
                    (0..messages.len()).all(framed)
                        && template.after(messages).is_some()
                        && messages.iter().all(|message| message.name.is_none())
                }
            }
    }

    /// Adds the tokens of a chat that it knows to `tally`.
    pub(super) fn count(&self, messages: &[Message], tally: &mut Tally<'_>) -> Result<(), Stop> {
        match self {
            Framing::PerMessage {
                message: each,
                name: each_name,
                reply,
            } => {
                for message in messages {
                    tally.add(*each as usize)?;
                    tally.text(message.role.as_str())?;
                    tally.text(&message.content)?;
                    if let Some(name) = &message.name {
                        tally.add(*each_name as usize)?;
                        tally.text(name)?;
                    }
                }
                tally.add(*reply as usize)
            }
            Framing::Template(template) => {
                for (index, message) in messages.iter().enumerate() {
                    tally.framed(template.before(messages, index).unwrap_or_default())?;
                    tally.joined(&template.content.of(&message.content));
                }
                tally.framed(template.after(messages).unwrap_or_default())?;
                tally.flush()
            }
        }
    }
}

/// Tools and their results are shown to models in ways of their own.
fn is_text_alone(message: &Message) -> bool {
    message.tool_calls.is_none() && message.tool_call_id.is_none() && place(message.role).is_some()
}
