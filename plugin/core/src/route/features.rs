//! Cheap lexical features of a text, in one pass over at most [`ROUTE_TEXT_BYTES_MAX`] bytes. Case,
//! white space and politeness do not change them, and repeating oneself adds nothing.

use super::cues::{CUE_BYTES_MAX, Cue, cue};
use crate::limits::ROUTE_TEXT_BYTES_MAX;

/// Counts that say something about how hard a request is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Features {
    /// Distinct words, politeness left out.
    pub words: f64,
    /// Distinct numbers, and the greatest.
    pub numbers: f64,
    pub number_max: f64,
    /// Distinct words that speak of reckoning: each, total, per, half, …
    pub reckoning: f64,
    /// Distinct words that ask for reasons: why, prove, derive, compare, …
    pub reasoning: f64,
    /// Distinct words that narrow the answer: not, except, unless, exactly, …
    pub constraints: f64,
    /// Distinct words of programming, a fence counting as three.
    pub code: f64,
    /// Signs of formulas and amounts: `= + * / ^ % $ < >`.
    pub symbols: f64,
    /// Lines that begin like one of several answers: `A)`, `(b)`, `3.`.
    pub options: f64,
    /// Distinct words that ask for something short: define, translate, capital, …
    pub simple: f64,
}

const FENCE: &[u8] = b"```";
const FENCE_WORTH: f64 = 3.0;

impl Features {
    /// Reads the end of a text, where the question is, if it is too long to read whole.
    pub(super) fn of(text: &[u8]) -> Features {
        let text = text
            .get(text.len().saturating_sub(ROUTE_TEXT_BYTES_MAX)..)
            .unwrap_or(text);
        let mut reader = Reader::default();
        let word_byte = |byte: &u8| byte.is_ascii_alphanumeric() || *byte >= 0x80;
        for line in text.split(|byte| *byte == b'\n') {
            if is_option(line.trim_ascii()) {
                reader.features.options += 1.0;
            }
            for run in line.chunk_by(|a, b| word_byte(a) == word_byte(b)) {
                if run.first().is_some_and(word_byte) {
                    reader.word(run);
                } else {
                    reader.between(run);
                }
            }
        }
        reader.features
    }
}

#[derive(Default)]
struct Reader {
    features: Features,
    seen: WordSet,
}

impl Reader {
    fn word(&mut self, word: &[u8]) {
        if !self.seen.insert(lower_case_hash(word)) {
            return;
        }
        if word.iter().all(u8::is_ascii_digit) {
            self.features.numbers += 1.0;
            let number = word
                .iter()
                .fold(0.0, |sum, digit| sum * 10.0 + f64::from(digit - b'0'));
            self.features.number_max = self.features.number_max.max(number);
            return;
        }
        let counted = match known_as(word) {
            Some(Cue::Filler) => return,
            Some(Cue::Reckoning) => &mut self.features.reckoning,
            Some(Cue::Reasoning) => &mut self.features.reasoning,
            Some(Cue::Constraint) => &mut self.features.constraints,
            Some(Cue::Code) => &mut self.features.code,
            Some(Cue::Simple) => &mut self.features.simple,
            None => {
                self.features.words += 1.0;
                return;
            }
        };
        *counted += 1.0;
        self.features.words += 1.0;
    }

    fn between(&mut self, run: &[u8]) {
        let symbols = run
            .iter()
            .filter(|byte| b"=+*/^%$<>".contains(byte))
            .count();
        self.features.symbols += symbols as f64;
        if run.windows(FENCE.len()).any(|window| window == FENCE) {
            self.features.code += FENCE_WORTH;
        }
    }
}

fn known_as(word: &[u8]) -> Option<Cue> {
    let mut lower = [0; CUE_BYTES_MAX];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    cue(lower)
}

/// `A) …`, `(b) …`, `3. …`
fn is_option(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"(").unwrap_or(line);
    match line {
        [label, mark, ..] => {
            let label = label.is_ascii_digit() || matches!(label.to_ascii_lowercase(), b'a'..=b'j');
            label && matches!(mark, b')' | b'.')
        }
        _ => false,
    }
}

/// Words seen, by hash and without allocation: two that share a bit count as one, which is harmless
/// where every count saturates long before the set is crowded.
struct WordSet {
    bits: [u64; WORD_SET_BITS / 64],
}

const WORD_SET_BITS: usize = 8_192;

impl Default for WordSet {
    fn default() -> Self {
        WordSet {
            bits: [0; WORD_SET_BITS / 64],
        }
    }
}

impl WordSet {
    /// Was it new?
    fn insert(&mut self, hash: u64) -> bool {
        // FNV mixes upwards, so the high bits are the good ones.
        let bit = (hash >> 48) as usize % WORD_SET_BITS;
        let mask = 1 << (bit % 64);
        match self.bits.get_mut(bit / 64) {
            Some(word) if *word & mask == 0 => {
                *word |= mask;
                true
            }
            _ => false,
        }
    }
}

/// FNV-1a of the word in lower case.
fn lower_case_hash(word: &[u8]) -> u64 {
    word.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
