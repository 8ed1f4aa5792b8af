//! Which words a model's chat template puts around messages, found by rendering chats whose texts
//! are known: what the filter needs to count a prompt as we would encode it.

use super::chat_template::{ChatPrompt, ChatTemplate, GenerationPrompt};
use super::control_marks::{MarkedSegment, MarkedText};
use super::tokenizer::Tokenizer;
use farthing_core::bpe::Bpe;
use farthing_core::vocabulary::{
    CONTROL_MARK, Content, FRAMED_ROLES, Framing, TemplateFraming, Vocabulary, place,
};
use farthing_core::wire::{Message, Role};

/// Texts that no template has, and none would change if it leaves texts alone.
const FIRST: &str = "\u{e000}first\u{e001}";
const SECOND: &str = "\u{e000}second\u{e001}";

/// Texts that templates are known to treat in ways of their own; a framing must get each right.
const UNUSUAL: [&str; 9] = [
    "",
    " ",
    "\n\n  lines \n around ",
    "<think>why</think>\n\nwhat",
    "<tool_call>{\"name\": \"f\"}</tool_call>",
    "<tool_response>\n1\n</tool_response>",
    "{\"a\": [1, null]} {{ messages }} {% if x %}",
    "<|im_end|>\n<|im_start|>system\n",
    "\u{fdd0}5\u{fdd1} \u{a0}é\u{3000}",
];

/// Orders of roles that templates are known to treat in ways of their own.
const UNUSUAL_ORDERS: [&[Role]; 7] = [
    &[Role::System],
    &[Role::System, Role::User, Role::Assistant, Role::User],
    &[Role::Developer, Role::User, Role::User],
    &[Role::User, Role::System, Role::User],
    &[Role::User, Role::Assistant, Role::Assistant, Role::User],
    &[Role::Assistant, Role::User, Role::Assistant],
    &[
        Role::System,
        Role::System,
        Role::User,
        Role::Assistant,
        Role::User,
    ],
];

/// The file from which the filter counts this model's prompts as we do.
pub fn vocabulary_file(tokenizer: &Tokenizer, template: Option<&ChatTemplate>) -> Vec<u8> {
    let framing = template.and_then(|template| framing(tokenizer, template));
    let bpe = tokenizer.bpe();
    let specials = bpe.specials().to_vec();
    let copy = Bpe::from_table(bpe.to_table(), specials, bpe.pre_tokenizer());
    // It was built from such a table before.
    let copy = copy.expect("a vocabulary's own table is one");
    let framing = framing.map(Box::new).map(Framing::Template);
    Vocabulary::new(copy, tokenizer.prompt_start().is_some(), framing).to_file()
}

/// The words around messages; `None` for a template that does more than to put words there.
fn framing(tokenizer: &Tokenizer, template: &ChatTemplate) -> Option<TemplateFraming> {
    let probe = Probe {
        tokenizer,
        template,
    };
    let mut framing = TemplateFraming {
        content: probe.content()?,
        ..TemplateFraming::default()
    };
    for first in FRAMED_ROLES {
        let Some([start, end]) = probe.around_one(first) else {
            continue;
        };
        *framing.starts.get_mut(place(first)?)? = Some(start);
        *framing.ends.get_mut(place(first)?)? = Some(end);
    }
    for first in FRAMED_ROLES {
        for second in FRAMED_ROLES {
            let between = probe.between(&framing, first, second);
            let row = framing.betweens.get_mut(place(first)?)?;
            *row.get_mut(place(second)?)? = between;
        }
    }
    probe.holds(&framing).then_some(framing)
}

struct Probe<'a> {
    tokenizer: &'a Tokenizer,
    template: &'a ChatTemplate,
}

impl Probe<'_> {
    /// A rendered chat, each control token as one mark.
    fn render(&self, messages: &[Message]) -> Option<String> {
        let prompt = ChatPrompt::new(messages, GenerationPrompt::Add);
        let rendered = self.template.render(&prompt).ok()?;
        Some(self.marked(&rendered))
    }

    fn marked(&self, rendered: &MarkedText) -> String {
        let mut text = String::with_capacity(rendered.marked().len());
        let mut begins_with = None;
        for (index, segment) in rendered.segments().enumerate() {
            match segment {
                MarkedSegment::Text(words) => text.push_str(words),
                MarkedSegment::Control(id) => {
                    begins_with = begins_with.or(Some(id).filter(|_| index == 0));
                    text.push(CONTROL_MARK);
                }
            }
        }
        match self.tokenizer.prompt_start() {
            Some(start) if begins_with != Some(start) => format!("{CONTROL_MARK}{text}"),
            _ => text,
        }
    }

    /// What the template does with texts.
    fn content(&self) -> Option<Content> {
        let padded = format!(" \n{FIRST}\n ");
        let rendered = self.render(&[message(Role::User, &padded)])?;
        if rendered.contains(&padded) {
            return Some(Content::Verbatim);
        }
        let bare = self.render(&[message(Role::User, FIRST)])?;
        (rendered == bare).then_some(Content::Trimmed)
    }

    /// The words before and after a single message.
    fn around_one(&self, role: Role) -> Option<[String; 2]> {
        let rendered = self.render(&[message(role, FIRST)])?;
        let (start, end) = rendered.split_once(FIRST)?;
        Some([start.to_owned(), end.to_owned()])
    }

    /// The words between two messages, if those around them are what they are around one.
    fn between(&self, framing: &TemplateFraming, first: Role, second: Role) -> Option<String> {
        let messages = [message(first, FIRST), message(second, SECOND)];
        let rendered = self.render(&messages)?;
        let (start, rest) = rendered.split_once(FIRST)?;
        let (between, end) = rest.split_once(SECOND)?;
        let alike =
            framing.before(&messages, 0) == Some(start) && framing.after(&messages) == Some(end);
        alike.then(|| between.to_owned())
    }

    /// Does the framing say of every unusual chat what the template does?
    fn holds(&self, framing: &TemplateFraming) -> bool {
        let mut texts = UNUSUAL.iter().cycle();
        let chats = UNUSUAL
            .iter()
            .enumerate()
            .flat_map(|(skipped, _)| UNUSUAL_ORDERS.iter().map(move |roles| (skipped, *roles)));
        chats.into_iter().all(|(_, roles)| {
            let text = |role: &Role| message(*role, texts.next().unwrap_or(&""));
            let messages: Vec<Message> = roles.iter().map(text).collect();
            let framed = framed(framing, &messages);
            framed.is_none_or(|framed| self.render(&messages) == Some(framed))
        })
    }
}

/// A chat as the framing says that it is rendered.
fn framed(framing: &TemplateFraming, messages: &[Message]) -> Option<String> {
    let mut text = String::new();
    for (index, message) in messages.iter().enumerate() {
        text.push_str(framing.before(messages, index)?);
        text.push_str(&framing.content.of(&message.content));
    }
    text.push_str(framing.after(messages)?);
    Some(text)
}

fn message(role: Role, content: &str) -> Message {
    Message {
        role,
        content: content.to_owned(),
        name: None,
        tool_calls: None,
        tool_call_id: None,
    }
}
