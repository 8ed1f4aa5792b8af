//! Control tokens as marks that no message can forge.
//!
//! A chat template renders to one string, in which `<|im_end|>` from the template and `<|im_end|>`
//! from a message look alike. So control tokens never appear in it as text: before the template is
//! compiled, each control token in its source is replaced by a mark — a noncharacter, the token's
//! id, another noncharacter — and the two noncharacters are replaced in everything that comes from
//! a request. What the template then does with a message (trim, split, slice, join) does not
//! matter: a mark in the result can only come from the template, and all other text is ordinary.
//!
//! Noncharacters are Unicode's code points for such internal use; they are not text, and replacing
//! them in input by U+FFFD is what the standard suggests
//! (<https://www.unicode.org/faq/private_use.html#nonchar10>).

use super::Tokenizer;
use farthing_core::bpe::{Bpe, Segment, SpecialKind, Specials};
use std::borrow::Cow;
use std::fmt::Write as _;

/// Begins a mark.
const OPEN: char = '\u{fdd0}';
/// Ends a mark.
const CLOSE: char = '\u{fdd1}';

/// A rendered chat in which control tokens are marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedText(String);

/// A stretch of a rendered chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkedSegment<'a> {
    /// Ordinary text, whatever it spells.
    Text(&'a str),
    /// A control token that the template wrote.
    Control(u32),
}

impl MarkedText {
    pub(super) fn new(rendered: String) -> MarkedText {
        MarkedText(rendered)
    }

    pub(super) fn marked(&self) -> &str {
        &self.0
    }

    /// The stretches of text and the control tokens between them, in order.
    pub(super) fn segments(&self) -> impl Iterator<Item = MarkedSegment<'_>> {
        self.0.split(OPEN).enumerate().flat_map(|(index, part)| {
            // All but the first part follow an opening noncharacter, hence begin with an id. A
            // template that cuts its own marks apart loses them; the rest of one is never text.
            let (control, text) = match part.split_once(CLOSE) {
                Some((id, text)) if index > 0 => (id.parse().ok(), text),
                _ => (None, part),
            };
            let text = Some(text)
                .filter(|text| !text.is_empty())
                .map(MarkedSegment::Text);
            control.map(MarkedSegment::Control).into_iter().chain(text)
        })
    }

    /// The prompt as the model's makers write it, control tokens spelled out: for people to read.
    /// Encoding it again would take a message's `<|im_end|>` for a control token.
    pub fn spelled(&self, tokenizer: &Tokenizer) -> String {
        let mut out = String::with_capacity(self.0.len());
        for segment in self.segments() {
            match segment {
                MarkedSegment::Text(text) => out.push_str(text),
                MarkedSegment::Control(id) => {
                    out.push_str(&String::from_utf8_lossy(tokenizer.token_bytes(id)));
                }
            }
        }
        out
    }
}

/// Trusted text with each control token replaced by its mark.
pub(super) fn mark(trusted: &str, bpe: &Bpe) -> String {
    let mut out = String::with_capacity(trusted.len());
    for segment in bpe.segments(trusted, Specials::Parse) {
        match segment {
            Segment::Text(text) => out.push_str(&without_marks(text)),
            Segment::Special(token) if token.kind == SpecialKind::Control => {
                write!(out, "{OPEN}{}{CLOSE}", token.id).expect("writing to a string succeeds");
            }
            Segment::Special(token) => out.push_str(&token.text),
        }
    }
    out
}

/// Text of a request, unable to form a mark.
pub(super) fn without_marks(text: &str) -> Cow<'_, str> {
    if text.contains([OPEN, CLOSE]) {
        Cow::Owned(text.replace([OPEN, CLOSE], "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_marks_are_control_tokens() {
        let check = |marked: &str, expected: &[MarkedSegment<'_>]| {
            let text = MarkedText::new(marked.to_owned());
            assert_eq!(text.segments().collect::<Vec<_>>(), expected, "{marked:?}");
        };
        use MarkedSegment::{Control, Text};
        check("", &[]);
        check("a\u{fdd0}7\u{fdd1}b", &[Text("a"), Control(7), Text("b")]);
        check(
            "\u{fdd0}7\u{fdd1}\u{fdd0}8\u{fdd1}",
            &[Control(7), Control(8)],
        );
        check("7\u{fdd1}b", &[Text("7\u{fdd1}b")]);
        check("\u{fdd0}99999999999\u{fdd1}b", &[Text("b")]);
        check("\u{fdd0}7", &[Text("7")]);
    }

    #[test]
    fn a_request_cannot_spell_a_mark() {
        assert_eq!(without_marks("a\u{fdd0}7\u{fdd1}"), "a\u{fffd}7\u{fffd}");
        assert_eq!(without_marks("a"), "a");
    }
}
