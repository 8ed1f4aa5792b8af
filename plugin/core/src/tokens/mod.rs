//! How many tokens is a prompt? The filter has no tokenizer: it counts bytes by class in one pass
//! ([`Count`]) and corrects the count for each model by the usage that comes back
//! ([`Calibration`]). Without correction the count is within about 20 % on English, code, JSON and
//! digits for the byte-level BPEs of SmolLM2 and Qwen2; other scripts differ by up to three times
//! between those two, which is what the correction is for. `backend/tests/token_estimate.rs` prints
//! the error of both.
//!
//! Two bounds go with the estimate, because a client chooses its text. What may be spent is
//! reserved for [`Calibration::tokens_max`]: a byte-level BPE spends up to one token on a byte, and
//! where a text looks like none (alternating white space, signs at random, long words without a
//! break) each such byte counts nearly whole. The bound is then a token for every two bytes of
//! signs, control characters or mixed white space, for every four of letters at random, and a few
//! percent above the estimate on ordinary text. A request is refused as too long only by
//! [`Count::tokens_min`].

mod calibration;
mod prompt;

pub use calibration::Calibration;
pub use prompt::{Basis, PromptTokens};

use crate::limits::IMAGE_TOKENS_MAX;
use crate::wire::{Message, Prompt, Request};

// Weights in thousandths of a token, fitted by non-negative least squares on the relative error to
// the geometric mean of SmolLM2's and Qwen2's counts over English, mathematics, Python, Rust, JSON,
// CSV, hexadecimal and base64 text and twelve other languages.
const WORD: u64 = 1_018;
const LETTER_BEYOND_FIVE: u64 = 97;
const CAPITAL_INSIDE_WORD: u64 = 895;
const DIGIT: u64 = 1_000;
const SPACE_BEFORE_DIGIT: u64 = 850;
const PUNCTUATION_RUN: u64 = 820;
const PUNCTUATION_FURTHER: u64 = 98;
const LINE_BREAKS: u64 = 1_239;
/// White space that is not the one before it, as in ` \t \t`: nothing merges.
const SPACE_CHANGE: u64 = 1_000;
/// Vocabularies hold control characters singly.
const CONTROL: u64 = 1_000;
const TWO_BYTE_CHARACTER: u64 = 710;
const THREE_BYTE_CHARACTER: u64 = 1_096;
const CJK_CHARACTER: u64 = 1_197;
const FOUR_BYTE_CHARACTER: u64 = 1_817;

// What bytes may cost beyond their weights, in thousandths of a token, for the upper bound.
/// Signs in a run that look like code or markup, `"},{` say; more are signs at random.
const ORDINARY_SIGNS: u64 = 4;
const SIGN_AT_RANDOM: u64 = 900;
/// Letters of a word that may be one; few English words have more.
const ORDINARY_LETTERS: u64 = 12;
const LETTER_AT_RANDOM: u64 = 450;
/// Vocabularies hold runs of one character up to about this length.
const ORDINARY_REPEATS: u64 = 16;
const REPEAT: u64 = 250;

/// Letters of a word that cost nothing beyond the word itself.
const WORD_LETTERS: u64 = 5;
/// `<|im_start|>`, role, line break, `<|im_end|>`, line break.
const MESSAGE: u64 = 5_000;
/// The beginning of the answer: `<|im_start|>assistant` and a line break.
const GENERATION_PROMPT: u64 = 3_000;

/// Sums by class, in thousandths of a token. The two classes have a correction each, because a
/// vocabulary that knows English well may know other scripts badly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// ASCII text and the frame of a chat.
    pub(crate) plain: u64,
    /// Characters of more than one byte.
    pub(crate) multibyte: u64,
    /// Tokens that the client counted itself, by sending their ids.
    pub(crate) exact: u64,
    /// What the text may cost beyond both classes if it was made to cost much.
    pub(crate) surplus: u64,
    /// Images, each at `IMAGE_TOKENS_MAX`.
    pub(crate) images: u64,
    /// Words of the longest prompt, in tokens: no estimate but a lower bound.
    least: u64,
}

impl Count {
    /// Counts everything in a request that the model will read.
    pub fn of_request(request: &Request) -> Count {
        let mut count = Count::default();
        match &request.prompt {
            Prompt::Messages(messages) => {
                count.plain = GENERATION_PROMPT;
                for message in messages {
                    count.message(message);
                }
            }
            Prompt::Text(texts) => texts.iter().for_each(|text| count.text(text.as_bytes())),
            Prompt::Tokens(lists) => {
                count.exact = lists.iter().map(|list| list.len() as u64).sum();
            }
        }
        count.images = u64::from(request.images.count).saturating_mul(IMAGE_TOKENS_MAX);
        count.least = least_tokens(&request.prompt);
        request
            .shown_fields()
            .for_each(|json| count.text(&json.to_bytes()));
        count
    }

    /// The tokens that the longest prompt has at least, in any usual vocabulary: its own ids, or
    /// one for each word after white space. All else may be merged, or left out by a template.
    pub fn tokens_min(&self) -> u64 {
        self.least
    }

    fn message(&mut self, message: &Message) {
        self.plain = self.plain.saturating_add(MESSAGE);
        self.text(message.content.as_bytes());
        if let Some(name) = &message.name {
            self.text(name.as_bytes());
        }
        if let Some(calls) = &message.tool_calls {
            self.text(&calls.to_bytes());
        }
    }

    /// Adds text: one pass, no allocation, the same cost for every byte. Bytes that are not UTF-8
    /// count as what they look like.
    pub fn text(&mut self, text: &[u8]) {
        let (mut plain, mut multibyte, mut surplus) = (0_u64, 0_u64, 0_u64);
        let mut at = Position::START;
        for &byte in text {
            let class = Class::at(byte);
            if class == Class::Continuation {
                continue;
            }
            at = at.next(byte, class);
            // A text has less than 2^32 bytes, and no character weighs 2^32.
            plain = plain.wrapping_add(at.plain_weight());
            multibyte = multibyte.wrapping_add(multibyte_weight(class));
            surplus = surplus.wrapping_add(at.surplus());
        }
        self.plain = self.plain.saturating_add(plain);
        self.multibyte = self.multibyte.saturating_add(multibyte);
        self.surplus = self.surplus.saturating_add(surplus);
    }
}

fn least_tokens(prompt: &Prompt) -> u64 {
    let words = |text: &str| {
        text.split_ascii_whitespace()
            .filter(|word| word.starts_with(|first: char| first.is_ascii_alphanumeric()))
            .count() as u64
    };
    match prompt {
        Prompt::Messages(messages) => messages.iter().map(|message| words(&message.content)).sum(),
        Prompt::Text(texts) => texts.iter().map(|text| words(text)).max().unwrap_or(0),
        Prompt::Tokens(lists) => lists
            .iter()
            .map(|list| list.len() as u64)
            .max()
            .unwrap_or(0),
    }
}

/// A character and what leads up to it.
#[derive(Clone, Copy)]
struct Position {
    byte: u8,
    class: Class,
    previous: Class,
    /// Its position, from 1, among characters of its class.
    run: u64,
    /// Its position, from 1, among characters equal to it.
    repeats: u64,
}

impl Position {
    const START: Position = Position {
        byte: 0,
        class: Class::Start,
        previous: Class::Start,
        run: 0,
        repeats: 0,
    };

    fn next(self, byte: u8, class: Class) -> Position {
        let counted = |before: u64, alike: bool| if alike { before.wrapping_add(1) } else { 1 };
        let alike = class == self.class;
        Position {
            byte,
            class,
            previous: self.class,
            run: counted(self.run, alike),
            repeats: counted(self.repeats, alike && byte == self.byte),
        }
    }

    /// What an ASCII character adds.
    fn plain_weight(self) -> u64 {
        match self.class {
            Class::Letter if self.run == 1 => WORD,
            Class::Letter => {
                let capital = if self.byte.is_ascii_uppercase() {
                    CAPITAL_INSIDE_WORD
                } else {
                    0
                };
                let long = if self.run > WORD_LETTERS {
                    LETTER_BEYOND_FIVE
                } else {
                    0
                };
                capital.wrapping_add(long)
            }
            Class::Digit if self.previous == Class::Space => DIGIT + SPACE_BEFORE_DIGIT,
            Class::Digit => DIGIT,
            Class::Punctuation if self.run == 1 => PUNCTUATION_RUN,
            Class::Punctuation => PUNCTUATION_FURTHER,
            Class::Control => CONTROL,
            Class::LineBreak if self.run == 1 => LINE_BREAKS,
            Class::Space if self.run > 1 && self.repeats == 1 => SPACE_CHANGE,
            // A space belongs to the word after it, and an indentation to its line.
            _ => 0,
        }
    }

    /// What it may add beyond that, where it is not what ordinary text has in its place.
    fn surplus(self) -> u64 {
        match self.class {
            Class::Letter if self.run > ORDINARY_LETTERS && !self.byte.is_ascii_uppercase() => {
                LETTER_AT_RANDOM
            }
            Class::Punctuation if self.run > ORDINARY_SIGNS && self.repeats == 1 => SIGN_AT_RANDOM,
            Class::Punctuation | Class::Space | Class::LineBreak
                if self.repeats > ORDINARY_REPEATS =>
            {
                REPEAT
            }
            _ => 0,
        }
    }
}

fn multibyte_weight(class: Class) -> u64 {
    match class {
        Class::TwoBytes => TWO_BYTE_CHARACTER,
        Class::ThreeBytes => THREE_BYTE_CHARACTER,
        Class::Cjk => CJK_CHARACTER,
        Class::FourBytes => FOUR_BYTE_CHARACTER,
        _ => 0,
    }
}

/// The class of each first byte.
const CLASSES: [Class; 256] = classes();

#[allow(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses a panic"
)]
const fn classes() -> [Class; 256] {
    let mut classes = [Class::Start; 256];
    let mut byte = 0;
    while byte < classes.len() {
        classes[byte] = Class::of(byte as u8);
        byte += 1;
    }
    classes
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Start,
    Letter,
    Digit,
    Punctuation,
    LineBreak,
    /// Space, tab and carriage return.
    Space,
    /// The other characters without a glyph.
    Control,
    TwoBytes,
    ThreeBytes,
    Cjk,
    FourBytes,
    /// A further byte of a character.
    Continuation,
}

impl Class {
    fn at(byte: u8) -> Class {
        CLASSES
            .get(usize::from(byte))
            .copied()
            .unwrap_or(Class::Punctuation)
    }

    /// By the first byte alone. The lead bytes 0xe3 to 0xed cover U+3000 to U+DFFF: kana, Han and
    /// Hangul.
    const fn of(byte: u8) -> Class {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Digit,
            b'\n' => Class::LineBreak,
            b' ' | b'\t' | b'\r' => Class::Space,
            0x00..=0x1f | 0x7f => Class::Control,
            0x20..=0x7e => Class::Punctuation,
            0x80..=0xbf => Class::Continuation,
            0xc0..=0xdf => Class::TwoBytes,
            0xe3..=0xed => Class::Cjk,
            0xe0..=0xef => Class::ThreeBytes,
            0xf0..=0xff => Class::FourBytes,
        }
    }
}
