//! Cuts text into the pieces that merges never cross.
//!
//! The reference tokenizers do this with regular expressions that need look-ahead and
//! backtracking. The scanners here give the same pieces in one pass without either: every rule's
//! first character or two decide which alternative matches, and whitespace, the one case where the
//! expressions backtrack, is resolved by looking at the end of its run.
//!
//! In all of them `\p{L}` and `\p{N}` are the general categories L* and N*, and `\s` is the
//! property White_Space.

use super::BpeError;
use unicode_general_category::{GeneralCategory, get_general_category};

/// How a vocabulary's text is cut into pieces (`tokenizer.ggml.pre` of a GGUF file).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreTokenizer {
    /// SmolLM: first every `\p{N}` is a piece of its own, then what lies between is cut as by
    /// [`PreTokenizer::Gpt2`]. What lies between ends there: its last whitespace is followed by
    /// nothing.
    SmolLm,
    /// Qwen2, Qwen2.5:
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Qwen2,
    /// GPT-2, and files that name no other:
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// Llama 3: as [`PreTokenizer::Qwen2`] with `\p{N}{1,3}` for `\p{N}`; and a piece that is a
    /// token is that token, whatever the merges would make of it.
    Llama3,
}

/// What the expressions tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    /// `\r` or `\n`.
    Newline,
    /// Whitespace other than a newline.
    Space,
    Other,
}

/// What follows a `\p{N}` in the GPT-2 expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Digits {
    /// Taken together, with a space before them.
    Together,
    /// Cut out beforehand, one by one: to the text before them they are its end.
    Apart,
}

/// Upper and lower case of contractions (`'S`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Sensitive,
    Insensitive,
}

impl PreTokenizer {
    /// The pre-tokenizer that `tokenizer.ggml.pre` names.
    ///
    /// # Errors
    /// [`BpeError::UnknownPreTokenizer`]: guessing would count and split wrongly without notice.
    pub fn from_gguf(name: &str) -> Result<PreTokenizer, BpeError> {
        match name {
            "smollm" => Ok(PreTokenizer::SmolLm),
            "qwen2" => Ok(PreTokenizer::Qwen2),
            "gpt-2" | "gpt2" | "default" => Ok(PreTokenizer::Gpt2),
            "llama-bpe" | "llama3" | "llama-v3" => Ok(PreTokenizer::Llama3),
            _ => Err(BpeError::UnknownPreTokenizer(name.to_owned())),
        }
    }

    /// The pieces of `text`, in order and without gaps, none of them empty.
    pub fn pieces(self, text: &str) -> Pieces<'_> {
        Pieces {
            pre_tokenizer: self,
            rest: text,
        }
    }

    /// Whether a piece that is a token is taken whole before any merge (`ignore_merges`).
    pub(super) fn takes_whole_pieces(self) -> bool {
        self == PreTokenizer::Llama3
    }

    /// Bytes of the first piece of a text that is not empty.
    fn first_piece(self, text: &str) -> usize {
        match self {
            PreTokenizer::SmolLm => gpt2_piece(text, Digits::Apart),
            PreTokenizer::Gpt2 => gpt2_piece(text, Digits::Together),
            PreTokenizer::Qwen2 => qwen2_piece(text, 1),
            PreTokenizer::Llama3 => qwen2_piece(text, 3),
        }
    }
}

/// Iterates over the pieces of a text.
#[derive(Debug, Clone)]
pub struct Pieces<'a> {
    pre_tokenizer: PreTokenizer,
    rest: &'a str,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let bytes = self.pre_tokenizer.first_piece(self.rest);
        let (piece, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        (!piece.is_empty()).then_some(piece)
    }
}

fn gpt2_piece(text: &str, digits: Digits) -> usize {
    if let Some(bytes) = contraction(text, Case::Sensitive) {
        return bytes;
    }
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    match (class(first), digits) {
        (Class::Number, Digits::Apart) => first.len_utf8(),
        (Class::Letter | Class::Number | Class::Other, _) => run(text, 0, class(first)),
        (Class::Space | Class::Newline, _) => match chars.next().map(class) {
            Some(Class::Number) if digits == Digits::Apart => first.len_utf8(),
            Some(next @ (Class::Letter | Class::Number | Class::Other)) if first == ' ' => {
                run(text, 1, next)
            }
            _ => whitespace_piece(text, digits),
        },
    }
}

fn qwen2_piece(text: &str, digits_max: usize) -> usize {
    if let Some(bytes) = contraction(text, Case::Insensitive) {
        return bytes;
    }
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let next = chars.next().map(class);
    match (class(first), next) {
        (Class::Letter, _) => run(text, 0, Class::Letter),
        (Class::Number, _) => {
            let numbers = text
                .chars()
                .take(digits_max)
                .take_while(|c| class(*c) == Class::Number);
            numbers.map(char::len_utf8).sum()
        }
        (Class::Space | Class::Other, Some(Class::Letter)) => {
            run(text, first.len_utf8(), Class::Letter)
        }
        (Class::Other, _) => run(text, run(text, 0, Class::Other), Class::Newline),
        (Class::Space, Some(Class::Other)) if first == ' ' => {
            run(text, run(text, 1, Class::Other), Class::Newline)
        }
        (Class::Space | Class::Newline, _) => {
            let whitespace = text.get(..whitespace_run(text)).unwrap_or(text);
            match whitespace.rfind(['\r', '\n']) {
                Some(at) => at + 1,
                None => whitespace_piece(text, Digits::Together),
            }
        }
    }
}

/// `\s+(?!\S)|\s+`: all of a run that ends the text, else all but its last character, which belongs
/// to what follows; a run of one character is taken as it is.
fn whitespace_piece(text: &str, digits: Digits) -> usize {
    let end = whitespace_run(text);
    let (whitespace, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let ends_text = match rest.chars().next() {
        None => true,
        Some(following) => digits == Digits::Apart && class(following) == Class::Number,
    };
    match whitespace.char_indices().next_back() {
        Some((last, _)) if last > 0 && !ends_text => last,
        _ => end,
    }
}

/// `'s|'t|'re|'ve|'m|'ll|'d` at the start of the text. Without regard to case the long s (U+017F)
/// is an s, as Unicode's simple case folding has it.
fn contraction(text: &str, case: Case) -> Option<usize> {
    let mut chars = text.strip_prefix('\'')?.chars();
    let fold = |c: char| match case {
        Case::Sensitive => c,
        Case::Insensitive if c == 'ſ' => 's',
        Case::Insensitive => c.to_ascii_lowercase(),
    };
    let first = chars.next()?;
    match (fold(first), chars.next().map(fold)) {
        ('s' | 't' | 'm' | 'd', _) => Some(1 + first.len_utf8()),
        ('r' | 'v', Some('e')) | ('l', Some('l')) => Some(3),
        _ => None,
    }
}

/// Where the run of characters of one class that starts at `from` ends.
fn run(text: &str, from: usize, wanted: Class) -> usize {
    end_of_run(text, from, |c| class(c) == wanted)
}

fn whitespace_run(text: &str) -> usize {
    end_of_run(text, 0, char::is_whitespace)
}

fn end_of_run(text: &str, from: usize, belongs: impl Fn(char) -> bool) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    rest.find(|c| !belongs(c))
        .map_or(text.len(), |bytes| from + bytes)
}

fn class(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' => Class::Letter,
        '0'..='9' => Class::Number,
        '\r' | '\n' => Class::Newline,
        _ if c.is_whitespace() => Class::Space,
        _ if c.is_ascii() => Class::Other,
        _ => match get_general_category(c) {
            GeneralCategory::UppercaseLetter
            | GeneralCategory::LowercaseLetter
            | GeneralCategory::TitlecaseLetter
            | GeneralCategory::ModifierLetter
            | GeneralCategory::OtherLetter => Class::Letter,
            GeneralCategory::DecimalNumber
            | GeneralCategory::LetterNumber
            | GeneralCategory::OtherNumber => Class::Number,
            _ => Class::Other,
        },
    }
}
