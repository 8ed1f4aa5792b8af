//! Tokens that are matched in the text as a whole, before it is cut into pieces.

/// Whether the text may spell control tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// Control tokens are recognised: only for text that a trusted hand wrote, such as a chat
    /// template's own words.
    Parse,
    /// A control token's text is ordinary text: for everything that a user wrote. `<|im_end|>`
    /// in a question must not end the user's turn.
    Plain,
}

/// What a special token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialKind {
    /// Structure: turns, end of text. Matched under [`Specials::Parse`] only.
    Control,
    /// Text that the vocabulary's maker chose to keep whole (`<tool_call>`, `</think>`). It gives
    /// no more power than its spelling, so it is matched always, as the reference tokenizers do.
    UserDefined,
}

/// A token that stands for exactly its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialToken {
    /// The text, never empty.
    pub text: String,
    /// Its id.
    pub id: u32,
    /// What it is for.
    pub kind: SpecialKind,
}

/// The special tokens, longest first, and which bytes they start with.
#[derive(Debug)]
pub(super) struct SpecialTable {
    tokens: Vec<SpecialToken>,
    first_bytes: Vec<u8>,
    /// Of those that are matched in any text.
    plain_first_bytes: Vec<u8>,
}

/// A stretch of a text: what lies between special tokens, or one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment<'a> {
    /// Ordinary text, not empty.
    Text(&'a str),
    /// A special token.
    Special(&'a SpecialToken),
}

/// Iterates over the segments of a text.
#[derive(Debug, Clone)]
pub struct Segments<'a> {
    table: &'a SpecialTable,
    specials: Specials,
    rest: &'a str,
    /// The token that ends the text which was returned last.
    pending: Option<&'a SpecialToken>,
}

impl SpecialTable {
    pub(super) fn new(mut tokens: Vec<SpecialToken>) -> SpecialTable {
        tokens.sort_by(|a, b| b.text.len().cmp(&a.text.len()).then(a.id.cmp(&b.id)));
        SpecialTable {
            first_bytes: first_bytes(&tokens, Specials::Parse),
            plain_first_bytes: first_bytes(&tokens, Specials::Plain),
            tokens,
        }
    }

    pub(super) fn tokens(&self) -> &[SpecialToken] {
        &self.tokens
    }

    pub(super) fn segments<'a>(&'a self, text: &'a str, specials: Specials) -> Segments<'a> {
        Segments {
            table: self,
            specials,
            rest: text,
            pending: None,
        }
    }

    /// The leftmost match, the longest where several start, and the offset of its first byte;
    /// linear in the text.
    fn find(&self, text: &str, specials: Specials) -> Option<(usize, &SpecialToken)> {
        let first_bytes = match specials {
            Specials::Parse => &self.first_bytes,
            Specials::Plain => &self.plain_first_bytes,
        };
        // Who counts up to a limit must not wait until all of a long text has been searched.
        if first_bytes.is_empty() {
            return None;
        }
        let starts = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| first_bytes.contains(byte));
        for (at, _) in starts {
            let rest = text.as_bytes().get(at..).unwrap_or_default();
            let found = self.tokens.iter().find(|token| {
                is_matched(token, specials) && rest.starts_with(token.text.as_bytes())
            });
            if let Some(token) = found {
                return Some((at, token));
            }
        }
        None
    }
}

fn is_matched(token: &SpecialToken, specials: Specials) -> bool {
    token.kind == SpecialKind::UserDefined || specials == Specials::Parse
}

/// The bytes that matched tokens start with, each once.
fn first_bytes(tokens: &[SpecialToken], specials: Specials) -> Vec<u8> {
    let mut bytes: Vec<u8> = tokens
        .iter()
        .filter(|token| is_matched(token, specials))
        .filter_map(|token| token.text.bytes().next())
        .collect();
    bytes.sort_unstable();
    bytes.dedup();
    bytes
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        if let Some(token) = self.pending.take() {
            return Some(Segment::Special(token));
        }
        if self.rest.is_empty() {
            return None;
        }
        let Some((at, token)) = self.table.find(self.rest, self.specials) else {
            return Some(Segment::Text(std::mem::take(&mut self.rest)));
        };
        // Both are UTF-8, so a match starts and ends between characters.
        let text = self.rest.get(..at).unwrap_or_default();
        self.rest = self.rest.get(at + token.text.len()..).unwrap_or_default();
        if text.is_empty() {
            return Some(Segment::Special(token));
        }
        self.pending = Some(token);
        Some(Segment::Text(text))
    }
}
