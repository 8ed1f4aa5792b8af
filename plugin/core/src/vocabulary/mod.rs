//! What it takes to count a model's prompts exactly: its vocabulary, and what it reads beside the
//! messages.
//!
//! The backend makes one of each model file ([`Vocabulary::new`], [`Vocabulary::to_file`]) and
//! serves it; `cargo xtask vocabulary` makes those of tiktoken. The filter reads it
//! ([`Vocabulary::from_file`]) from its own module or from the backend ([`loading`]) and counts
//! ([`Vocabulary::count`]). What cannot be counted exactly (tools, images, a template that does
//! more than to put words around texts, Anthropic's models) is left to the estimate of
//! [`crate::tokens`].

mod count;
mod file;
mod framing;
pub mod loading;
mod remembered;

pub use count::CountScratch;
pub use framing::{CONTROL_MARK, Content, FRAMED_ROLES, Framing, TemplateFraming, place};

use crate::bpe::{Bpe, BpeError, Segment, Specials};
use crate::wire::{Endpoint, Prompt, PromptExtent, Request};
use count::{Stop, Tally};

/// A vocabulary and its framing.
#[derive(Debug)]
pub struct Vocabulary {
    bpe: Bpe,
    /// Whether a bare prompt begins with a token of its own.
    begins: bool,
    framing: Option<Framing>,
}

/// Why bytes are not a vocabulary file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VocabularyError {
    /// It is larger than any real one.
    #[error("it has {bytes} bytes, more than {max}", max = crate::limits::VOCABULARY_FILE_BYTES_MAX)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It does not begin with the magic of this version, or its checksum is wrong.
    #[error("it is not a vocabulary file of this version, or it is damaged")]
    Damaged,
    /// This part of it is not what it should be.
    #[error("its {0} cannot be read")]
    Malformed(&'static str),
    /// Its tokens cannot be used.
    #[error("{0}")]
    Tokens(#[from] BpeError),
}

/// How many tokens a prompt has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Just so many.
    Exactly(u64),
    /// More than the limit.
    Over,
    /// This vocabulary cannot say: the model reads more than we know of, or more than may be
    /// tokenized.
    Unknown,
}

impl Vocabulary {
    /// `begins` says whether a bare prompt gets a token before it. Without a framing, chats are not
    /// counted.
    pub fn new(bpe: Bpe, begins: bool, framing: Option<Framing>) -> Vocabulary {
        Vocabulary {
            bpe,
            begins,
            framing,
        }
    }

    /// The tokens.
    pub fn bpe(&self) -> &Bpe {
        &self.bpe
    }

    /// What surrounds messages.
    pub fn framing(&self) -> Option<&Framing> {
        self.framing.as_ref()
    }

    /// Counts the prompt of a request as its model reads it, up to `limit` tokens.
    pub fn count(&self, request: &Request, limit: u64, scratch: &mut CountScratch) -> Counted {
        if !self.reads_as_text(request) {
            return Counted::Unknown;
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut tally = Tally::new(&self.bpe, scratch, limit);
        let counted = match &request.prompt {
            Prompt::Messages(messages) => {
                let Some(framing) = &self.framing else {
                    return Counted::Unknown;
                };
                if !framing.knows(messages) {
                    return Counted::Unknown;
                }
                framing.count(messages, &mut tally)
            }
            Prompt::Text(texts) => texts.iter().try_for_each(|text| {
                tally.add(usize::from(self.begins))?;
                tally.spelled(text, Specials::Parse)
            }),
            Prompt::Tokens(lists) => lists.iter().try_for_each(|list| tally.add(list.len())),
        };
        match counted {
            Ok(()) => Counted::Exactly(tally.tokens() as u64),
            Err(Stop::Over) => Counted::Over,
            Err(Stop::TooMuch) => Counted::Unknown,
        }
    }

    /// Is all that the model will read in the request's texts, and does it read them as they are?
    fn reads_as_text(&self, request: &Request) -> bool {
        let known = match request.endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions => true,
            // OpenAI's models read these by OpenAI's rule. Those of a template are served by our
            // backend, which has neither endpoint for them.
            Endpoint::Responses => self.is_openais() && request.is_plain(),
            Endpoint::Embeddings => self.is_openais() && !self.spells_control(&request.prompt),
            Endpoint::Messages => false,
        };
        known
            && request.extent == PromptExtent::Whole
            && !request.has_images()
            && request.shown_fields().next().is_none()
    }

    fn is_openais(&self) -> bool {
        matches!(self.framing, Some(Framing::PerMessage { .. }))
    }

    /// Does a text spell a control token? Whether embedding models take it for one, OpenAI does not
    /// say.
    fn spells_control(&self, prompt: &Prompt) -> bool {
        let Prompt::Text(texts) = prompt else {
            return false;
        };
        texts.iter().any(|text| {
            let mut segments = self.bpe.segments(text, Specials::Parse);
            segments.any(|segment| matches!(segment, Segment::Special(_)))
        })
    }
}
