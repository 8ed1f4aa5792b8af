//! How many tokens is a prompt? The filter has no tokenizer: it counts bytes by class in one pass
//! ([`Count`]) and corrects the count for each model by the usage that comes back
//! ([`Calibration`]). Without correction the count is within about 20 % on English, code, JSON and
//! digits for the byte-level BPEs of SmolLM2 and Qwen2; other scripts differ by up to three times
//! between those two, which is what the correction is for. `backend/tests/token_estimate.rs` prints
//! the error of both.

mod calibration;

pub use calibration::Calibration;

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
const TWO_BYTE_CHARACTER: u64 = 710;
const THREE_BYTE_CHARACTER: u64 = 1_096;
const CJK_CHARACTER: u64 = 1_197;
const FOUR_BYTE_CHARACTER: u64 = 1_817;

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
        request
            .shown_fields()
            .for_each(|json| count.text(&json.to_bytes()));
        count
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
        let (mut plain, mut multibyte) = (0_u64, 0_u64);
        let mut previous = Class::Start;
        let mut run: u64 = 0;
        for &byte in text {
            let class = CLASSES
                .get(usize::from(byte))
                .copied()
                .unwrap_or(Class::Punctuation);
            if class == Class::Continuation {
                continue;
            }
            run = if class == previous {
                run.wrapping_add(1)
            } else {
                1
            };
            // A text has less than 2^32 bytes, and no character weighs 2^32.
            plain = plain.wrapping_add(plain_weight(byte, class, previous, run));
            multibyte = multibyte.wrapping_add(multibyte_weight(class));
            previous = class;
        }
        self.plain = self.plain.saturating_add(plain);
        self.multibyte = self.multibyte.saturating_add(multibyte);
    }
}

/// What an ASCII character adds; `run` is its position, from 1, among its like.
fn plain_weight(byte: u8, class: Class, previous: Class, run: u64) -> u64 {
    match class {
        Class::Letter if run == 1 => WORD,
        Class::Letter => {
            let capital = if byte.is_ascii_uppercase() {
                CAPITAL_INSIDE_WORD
            } else {
                0
            };
            let long = if run > WORD_LETTERS {
                LETTER_BEYOND_FIVE
            } else {
                0
            };
            capital.wrapping_add(long)
        }
        Class::Digit if previous == Class::Space => DIGIT + SPACE_BEFORE_DIGIT,
        Class::Digit => DIGIT,
        Class::Punctuation if run == 1 => PUNCTUATION_RUN,
        Class::Punctuation => PUNCTUATION_FURTHER,
        Class::LineBreak if run == 1 => LINE_BREAKS,
        // A space belongs to the word after it, and an indentation to its line.
        _ => 0,
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
    Space,
    TwoBytes,
    ThreeBytes,
    Cjk,
    FourBytes,
    /// A further byte of a character.
    Continuation,
}

impl Class {
    /// By the first byte alone. The lead bytes 0xe3 to 0xed cover U+3000 to U+DFFF: kana, Han and
    /// Hangul.
    const fn of(byte: u8) -> Class {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Digit,
            b'\n' => Class::LineBreak,
            b' ' | b'\t' | b'\r' => Class::Space,
            0x00..=0x7f => Class::Punctuation,
            0x80..=0xbf => Class::Continuation,
            0xc0..=0xdf => Class::TwoBytes,
            0xe3..=0xed => Class::Cjk,
            0xe0..=0xef => Class::ThreeBytes,
            0xf0..=0xff => Class::FourBytes,
        }
    }
}
