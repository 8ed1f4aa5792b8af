//! Cuts text into the pieces that merges never cross.
//!
//! The reference tokenizers do this with regular expressions that need look-ahead and
//! backtracking. The scanners here give the same pieces in one pass without either: every rule's
//! first character or two decide which alternative matches, and where the expressions backtrack
//! (at the end of white space, and between the cases of o200k's letters) the place to go back to
//! is known when the run ends.

use super::BpeError;
use super::char_class::{
    CASELESS, LETTER, LOWER, MARK, Mask, NEITHER, NUMBER, SIGN, SPACE, UPPER, WHITESPACE, class_at,
    run,
};

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
    /// OpenAI's cl100k_base:
    /// `'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s`
    Cl100k,
    /// OpenAI's o200k_base, with `U` for `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`, `W` for
    /// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]` and `C` for `(?i:'s|'t|'re|'ve|'m|'ll|'d)?`:
    /// `[^\r\n\p{L}\p{N}]?U*W+C|[^\r\n\p{L}\p{N}]?U+W*C|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    O200k,
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

/// Every pre-tokenizer with the names that files give it; the first is the one we write.
const NAMES: [(PreTokenizer, &[&str]); 6] = [
    (PreTokenizer::SmolLm, &["smollm"]),
    (PreTokenizer::Qwen2, &["qwen2"]),
    (PreTokenizer::Gpt2, &["gpt-2", "gpt2", "default"]),
    (PreTokenizer::Llama3, &["llama-bpe", "llama3", "llama-v3"]),
    (PreTokenizer::Cl100k, &["cl100k_base"]),
    (PreTokenizer::O200k, &["o200k_base"]),
];

impl PreTokenizer {
    /// The pre-tokenizer of that name: `tokenizer.ggml.pre`, or tiktoken's name of the encoding.
    ///
    /// # Errors
    /// [`BpeError::UnknownPreTokenizer`]: guessing would count and split wrongly without notice.
    pub fn from_name(name: &str) -> Result<PreTokenizer, BpeError> {
        NAMES
            .iter()
            .find(|(_, names)| names.contains(&name))
            .map(|(pre_tokenizer, _)| *pre_tokenizer)
            .ok_or_else(|| BpeError::UnknownPreTokenizer(name.to_owned()))
    }

    /// Its name in a vocabulary file.
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(pre_tokenizer, _)| *pre_tokenizer == self)
            .and_then(|(_, names)| names.first())
            .unwrap_or(&"")
    }

    /// The pieces of `text`, in order and without gaps, none of them empty.
    pub fn pieces(self, text: &str) -> impl Iterator<Item = &str> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = at;
            at = self.piece_end(text.as_bytes(), start);
            text.get(start..at).filter(|piece| !piece.is_empty())
        })
    }

    /// Whether a piece that is a token is taken whole even if no merges lead to it
    /// (`ignore_merges`).
    pub(super) fn takes_whole_pieces(self) -> bool {
        self == PreTokenizer::Llama3
    }

    /// Where the piece that starts at `at` ends; `at` itself at the end of the text.
    #[inline]
    pub(super) fn piece_end(self, text: &[u8], at: usize) -> usize {
        match self {
            PreTokenizer::SmolLm => gpt2_piece(text, at, Digits::Apart),
            PreTokenizer::Gpt2 => gpt2_piece(text, at, Digits::Together),
            PreTokenizer::Qwen2 => qwen2_piece(text, at, 1),
            PreTokenizer::Llama3 => qwen2_piece(text, at, 3),
            PreTokenizer::Cl100k => cl100k_piece(text, at),
            PreTokenizer::O200k => o200k_piece(text, at),
        }
    }
}

fn gpt2_piece(text: &[u8], at: usize, digits: Digits) -> usize {
    if let Some(end) = contraction(text, at, Case::Sensitive) {
        return end;
    }
    let (class, bytes) = class_at(text, at);
    let after = at + bytes;
    if class & NUMBER != 0 && digits == Digits::Apart {
        return after;
    }
    if class & WHITESPACE == 0 {
        return run(text, after, alike(class));
    }
    let (next, next_bytes) = class_at(text, after);
    let joins = match digits {
        Digits::Together => LETTER | NUMBER | NEITHER,
        Digits::Apart => LETTER | NEITHER,
    };
    if text.get(at) == Some(&b' ') && next & joins != 0 {
        return run(text, after + next_bytes, alike(next));
    }
    whitespace_piece(text, at, digits)
}

/// The classes that run together with this one.
fn alike(class: Mask) -> Mask {
    [LETTER, NEITHER]
        .into_iter()
        .find(|mask| class & mask != 0)
        .unwrap_or(class)
}

fn qwen2_piece(text: &[u8], at: usize, digits_max: usize) -> usize {
    if let Some(end) = contraction(text, at, Case::Insensitive) {
        return end;
    }
    let (class, bytes) = class_at(text, at);
    let after = at + bytes;
    if class & LETTER != 0 {
        return run(text, after, LETTER);
    }
    if class & (SPACE | NEITHER) != 0 {
        let (next, next_bytes) = class_at(text, after);
        if next & LETTER != 0 {
            return run(text, after + next_bytes, LETTER);
        }
    }
    number_signs_or_space(text, at, digits_max, Tail::Newlines)
}

/// As [`qwen2_piece`] with three digits, and white space that ends the text is one piece.
fn cl100k_piece(text: &[u8], at: usize) -> usize {
    let end = qwen2_piece(text, at, 3);
    let starts_with_space = class_at(text, at).0 & WHITESPACE != 0;
    if starts_with_space && run(text, at, WHITESPACE) == text.len() {
        return text.len();
    }
    end
}

fn o200k_piece(text: &[u8], at: usize) -> usize {
    let (class, bytes) = class_at(text, at);
    let after = at + bytes;
    let word = if class & LETTER != 0 {
        word_with_lower(text, at).or_else(|| word_of_uppers(text, at))
    } else if class & MARK != 0 {
        // A mark may stand before a word and may be one itself.
        word_with_lower(text, after).or(Some(after))
    } else if class & (SPACE | SIGN) != 0 {
        word_with_lower(text, after).or_else(|| word_of_uppers(text, after))
    } else {
        None
    };
    match word {
        Some(end) => contraction(text, end, Case::Insensitive).unwrap_or(end),
        None => number_signs_or_space(text, at, 3, Tail::NewlinesAndSlashes),
    }
}

/// o200k's `U`.
const UPPERS: Mask = UPPER | CASELESS | MARK;
/// o200k's `W`.
const LOWERS: Mask = LOWER | CASELESS | MARK;

/// `U*W+`: when no lower-case letter follows the run of `U`, its last character that is also a `W`
/// ends the match.
fn word_with_lower(text: &[u8], mut at: usize) -> Option<usize> {
    let mut last_of_both = None;
    loop {
        let (class, bytes) = class_at(text, at);
        if class & LOWER != 0 {
            return Some(run(text, at + bytes, LOWERS));
        }
        if class & UPPERS == 0 {
            return last_of_both;
        }
        at += bytes;
        if class & LOWERS != 0 {
            last_of_both = Some(at);
        }
    }
}

/// `U+W*` where [`word_with_lower`] does not match: upper-case letters alone.
fn word_of_uppers(text: &[u8], at: usize) -> Option<usize> {
    let end = run(text, at, UPPER);
    (end > at).then_some(end)
}

/// What may follow a run of signs within its piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// `[\r\n]*`
    Newlines,
    /// `[\r\n/]*`
    NewlinesAndSlashes,
}

/// `\p{N}{1,max}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
fn number_signs_or_space(text: &[u8], at: usize, digits_max: usize, tail: Tail) -> usize {
    let (class, bytes) = class_at(text, at);
    let mut after = at + bytes;
    if class & NUMBER != 0 {
        for _ in 1..digits_max {
            match class_at(text, after) {
                (class, bytes) if class & NUMBER != 0 => after += bytes,
                _ => break,
            }
        }
        return after;
    }
    let signs_after_space = text.get(at) == Some(&b' ') && class_at(text, after).0 & NEITHER != 0;
    if class & NEITHER != 0 || signs_after_space {
        let end = run(text, after, NEITHER);
        let rest = text.get(end..).unwrap_or_default();
        let in_tail = |byte: &&u8| match byte {
            b'\r' | b'\n' => true,
            b'/' => tail == Tail::NewlinesAndSlashes,
            _ => false,
        };
        return end + rest.iter().take_while(in_tail).count();
    }
    let whitespace = text.get(at..run(text, at, WHITESPACE)).unwrap_or_default();
    let last_newline = |byte: &u8| matches!(byte, b'\r' | b'\n');
    match whitespace.iter().rposition(last_newline) {
        Some(last) => at + last + 1,
        None => whitespace_piece(text, at, Digits::Together),
    }
}

/// `\s+(?!\S)|\s+`: all of a run that ends the text, else all but its last character, which belongs
/// to what follows; a run of one character is taken as it is.
fn whitespace_piece(text: &[u8], at: usize, digits: Digits) -> usize {
    let end = run(text, at, WHITESPACE);
    let following = class_at(text, end).0;
    if following == 0 || digits == Digits::Apart && following & NUMBER != 0 {
        return end;
    }
    let whitespace = text.get(at..end).unwrap_or_default();
    let starts_character = |byte: &u8| byte & 0xc0 != 0x80;
    match whitespace.iter().rposition(starts_character) {
        Some(last) if last > 0 => at + last,
        _ => end,
    }
}

/// Where `'s|'t|'re|'ve|'m|'ll|'d` ends, if it starts at `at`. Without regard to case the long s
/// (U+017F) is an s, as Unicode's simple case folding has it.
fn contraction(text: &[u8], at: usize, case: Case) -> Option<usize> {
    let [b'\'', rest @ ..] = text.get(at..)? else {
        return None;
    };
    let fold = |byte: u8| match case {
        Case::Sensitive => byte,
        Case::Insensitive => byte.to_ascii_lowercase(),
    };
    let first = fold(*rest.first()?);
    match (first, rest.get(1).map(|byte| fold(*byte))) {
        (b's' | b't' | b'm' | b'd', _) => Some(at + 2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(at + 3),
        _ if case == Case::Insensitive && rest.starts_with("ſ".as_bytes()) => Some(at + 3),
        _ => None,
    }
}
