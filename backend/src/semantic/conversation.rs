//! What is asked in a conversation: its last message, and how much of what was said before belongs
//! to it. "Cancel it" is another question after every other conversation; "Do you deliver on
//! Sundays?" is the same after any.

use farthing_core::limits::{SEMANTIC_CONTEXT_BYTES_MAX, SEMANTIC_QUESTION_BYTES_MAX};
use farthing_core::wire::{Message, Role};
use serde::{Deserialize, Serialize};

use super::signature::Signature;
use super::words::{self, Knows};

/// A question with what was said before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The last message.
    pub question: String,
    /// The conversation before it, unless it is the first message.
    pub context: Option<Context>,
}

/// A conversation before its last message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// What the person said, the latest of it.
    pub said: String,
    /// What the model answered last, and before that: choices may have been offered there.
    pub reply: String,
}

/// What two questions stand in that may have the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Nothing that counts.
    Alone,
    /// Conversations about the same.
    SameTopic,
}

/// How much of a conversation a message needs to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// It says all by itself.
    Nothing,
    /// It is about what was spoken of.
    Topic,
    /// It answers the reply before it.
    Reply,
}

/// Words that point to what was said before.
const POINTING: &[&str] = &[
    "it", "its", "that", "this", "these", "those", "they", "them", "their", "he", "she", "him",
    "his", "her", "then", "again", "still", "instead", "also", "too", "either", "my", "mine", "me",
    "our", "ours", "us", "same", "other", "another", "else", "yet",
];

/// "This year" points to the calendar.
const CALENDAR: &[&str] = &["day", "week", "weekend", "month", "year", "term", "season"];

/// Words that go on from what was said before, at the beginning of a message.
const GOING_ON: &[&str] = &[
    "so", "and", "but", "or", "then", "ok", "okay", "also", "yes", "no",
];

/// Words that a question begins with where it has no question mark.
const QUESTIONING: &[&str] = &[
    "who", "what", "whats", "when", "where", "why", "which", "how", "can", "could", "do", "does",
    "did", "is", "are", "will", "would", "should", "may",
];

/// Longest message in words that answers a reply rather than asks.
const REPLY_WORDS_MAX: usize = 6;

/// Latest answers that a reply may refer to.
const REPLIES: usize = 2;

/// Least cosine of what was said in two conversations about the same.
const TOPIC_COSINE_MIN: f32 = 0.5;

/// Share of the shorter conversation's words that both must have to be about the same.
const TOPIC_SHARE_MIN: f64 = 0.42;

// === impl Asked ===

impl Asked {
    /// What a chat asks. Nothing where its last message is not a person's, where somebody else than
    /// the two speaks, or where the last message is too long to be compared.
    pub fn of(messages: &[Message]) -> Option<Asked> {
        let is_told = |message: &&Message| matches!(message.role, Role::System | Role::Developer);
        let turns = messages.iter().skip_while(is_told);
        let turns: Vec<&Message> = turns.collect();
        let (last, before) = turns.split_last()?;
        let speaks = |message: &&&Message| {
            let plain = message.name.is_none() && message.tool_calls.is_none();
            plain && matches!(message.role, Role::User | Role::Assistant)
        };
        let is_fit = turns.iter().filter(speaks).count() == turns.len();
        let length = last.content.trim().len();
        if !is_fit || last.role != Role::User || length == 0 || length > SEMANTIC_QUESTION_BYTES_MAX
        {
            return None;
        }
        let of = |role: Role| before.iter().filter(move |message| message.role == role);
        let said: Vec<&str> = of(Role::User)
            .map(|message| message.content.as_str())
            .collect();
        let replies: Vec<&str> = of(Role::Assistant)
            .map(|message| message.content.as_str())
            .collect();
        let from = replies.len().saturating_sub(REPLIES);
        let context = Context {
            said: latest(&said.join("\n")).to_owned(),
            reply: latest(&replies.get(from..).unwrap_or_default().join("\n")).to_owned(),
        };
        Some(Asked {
            question: last.content.clone(),
            context: Some(context).filter(|_| !before.is_empty()),
        })
    }

    /// Its texts, which tell it from any other.
    pub fn parts(&self) -> [&str; 3] {
        let context = self.context.as_ref();
        [
            &self.question,
            context.map_or("", |context| &context.said),
            context.map_or("", |context| &context.reply),
        ]
    }

    pub fn bytes(&self) -> usize {
        self.parts().map(str::len).iter().sum()
    }

    /// What two questions stand in, if that does not make them different; the cosine is that of
    /// what was said before, where there is something on both sides.
    pub fn continues_alike(
        &self,
        other: &Asked,
        cosine: Option<f32>,
        is_known: Knows<'_>,
    ) -> Option<Setting> {
        if self.context.is_none() && other.context.is_none() {
            return Some(Setting::Alone);
        }
        let need = self.need(is_known).max(other.need(is_known));
        let (ours, theirs) = match (&self.context, &other.context) {
            _ if need == Need::Nothing => return Some(Setting::Alone),
            (Some(ours), Some(theirs)) => (ours, theirs),
            (None, _) | (_, None) => return None,
        };
        let near = cosine.is_some_and(|cosine| cosine >= TOPIC_COSINE_MIN);
        let answers_alike = need != Need::Reply || same_words(&ours.reply, &theirs.reply, is_known);
        let alike = near && answers_alike && ours.is_about_the_same(theirs, is_known);
        alike.then_some(Setting::SameTopic)
    }

    fn need(&self, is_known: Knows<'_>) -> Need {
        let read = words::read(&self.question, is_known);
        let first = read.all.first().map_or("", String::as_str);
        let asks = self.question.contains('?') || QUESTIONING.contains(&first);
        if !asks && read.all.len() <= REPLY_WORDS_MAX {
            return Need::Reply;
        }
        let points = |(at, word): (usize, &String)| {
            let next = read.all.get(at + 1).map_or("", String::as_str);
            POINTING.contains(&word.as_str()) && !CALENDAR.contains(&next)
        };
        let points = read.all.iter().enumerate().any(points);
        if points || GOING_ON.contains(&first) {
            return Need::Topic;
        }
        let addresses = read.all.iter().any(|word| word == "you" || word == "your");
        let names = read.content.iter().any(|word| word.is_name);
        let says = read.content.len() + read.figures.len();
        match says {
            0 | 1 => Need::Topic,
            2 | 3 if !addresses && !names => Need::Topic,
            _ => Need::Nothing,
        }
    }
}

// === impl Context ===

impl Context {
    /// Whether two people speak of the same: most words of the shorter text are in the longer one,
    /// and neither has a number or a name in the place of another one.
    fn is_about_the_same(&self, other: &Context, is_known: Knows<'_>) -> bool {
        let read = |context: &Context| Signature::read(&context.said, is_known);
        let (ours, theirs) = (read(self), read(other));
        let replaced = |[ours, theirs]: [usize; 2]| ours > 0 && theirs > 0;
        if replaced(ours.figures_apart(&theirs)) || replaced(ours.names_apart(&theirs)) {
            return false;
        }
        let compared = ours.compare(&theirs);
        let [a, b] = compared.unmatched;
        let shorter = compared.matched + a.min(b);
        compared.matched as f64 >= TOPIC_SHARE_MIN * shorter as f64
    }
}

/// The same words in the same order: what "the first one" refers to.
fn same_words(ours: &str, theirs: &str, is_known: Knows<'_>) -> bool {
    words::read(ours, is_known).all == words::read(theirs, is_known).all
}

/// The end of a text.
fn latest(text: &str) -> &str {
    let mut start = text.len().saturating_sub(SEMANTIC_CONTEXT_BYTES_MAX);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or(text)
}
