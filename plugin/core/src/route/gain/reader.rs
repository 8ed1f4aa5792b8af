//! The signs of a text that say how much a better model would gain on it, in one pass over at most
//! [`ROUTE_TEXT_BYTES_MAX`] bytes.
//!
//! What counts is what carries signs: a sentence without numbers, formulas or words of some subject
//! is padding and leaves no trace, however long it is, and of the others only the words between the
//! first and the last sign are counted. Case, white space and manners change nothing, and saying a
//! thing twice adds nothing.

use super::lexicon::{CUES, Cue, Known, Spelling, WORDS_MAX, look_up};
use crate::limits::{ROUTE_SENTENCE_CUES_MAX, ROUTE_TEXT_BYTES_MAX};

/// Counts of the signs that a text carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Words from the first to the last sign of each sentence that counts.
    pub words: u32,
    /// Distinct numbers, and those of them above [`LARGE`]; years are names rather than numbers.
    pub numbers: u32,
    pub numbers_large: u32,
    /// Lines that begin like one of several answers, `A)` or `(b)`, and then with a number.
    pub options_numeric: u32,
    /// Distinct words of each kind.
    pub cues: [u32; CUES],
}

/// A number beyond this is rarely reckoned with in the head.
const LARGE: u32 = 100;
const YEARS: std::ops::Range<u32> = 1_000..2_100;
/// Words between two signs of one sentence that count.
const GAP_WORDS_MAX: u32 = 12;
/// A sentence counts if its signs weigh so much together.
const EVIDENCE_MIN: u32 = 2;

impl Counts {
    /// Reads the end of a text, where the question is, if it is too long to read whole.
    pub(super) fn of(text: &[u8]) -> Counts {
        let text = text
            .get(text.len().saturating_sub(ROUTE_TEXT_BYTES_MAX)..)
            .unwrap_or(text);
        let mut reader = Reader::default();
        for line in text.split(|byte| *byte == b'\n') {
            reader.line(line);
        }
        reader.counts
    }
}

#[derive(Default)]
struct Reader {
    counts: Counts,
    seen: Seen,
    sentence: Sentence,
}

/// What was found of a sentence so far. It is dropped if it turns out to be padding.
#[derive(Default)]
struct Sentence {
    evidence: u32,
    words: u32,
    /// Words since the last sign, or since its beginning.
    gap: u32,
    is_anchored: bool,
    is_option: bool,
    is_numeric: bool,
    known: [Option<Known>; ROUTE_SENTENCE_CUES_MAX],
    known_count: usize,
    /// Its end, if white space follows.
    ended_by: Option<u8>,
}

impl Reader {
    fn line(&mut self, line: &[u8]) {
        let line = line.trim_ascii_start();
        let mut rest = option_text(line).unwrap_or(line);
        self.sentence.is_option = rest.len() < line.len();
        while let Some((&byte, after)) = rest.split_first() {
            if is_word_byte(byte) {
                let (word, after) = Word::read(rest);
                self.word(&word);
                rest = after;
            } else {
                self.between(byte);
                rest = after;
            }
        }
        self.end_sentence();
    }

    fn word(&mut self, word: &Word) {
        let sentence = &mut self.sentence;
        sentence.ended_by = None;
        let is_first = sentence.gap == 0 && !sentence.is_anchored;
        sentence.gap += 1;
        match word.kind {
            Kind::Letters => {
                if let Some(known) = look_up(&word.spelling) {
                    sentence.know(known);
                }
            }
            Kind::Number => {
                sentence.is_numeric |= is_first;
                sentence.anchor(EVIDENCE_MIN);
                if !YEARS.contains(&word.number) && self.seen.number(word.number) {
                    self.counts.numbers += 1;
                    self.counts.numbers_large += u32::from(word.number > LARGE);
                }
            }
            Kind::Formula => sentence.anchor(EVIDENCE_MIN),
            Kind::Foreign => {}
        }
    }

    fn between(&mut self, byte: u8) {
        match byte {
            b'.' | b'!' | b'?' | b':' | b';' => self.sentence.ended_by = Some(byte),
            b'=' | b'+' | b'*' | b'^' | b'%' | b'$' | b'<' | b'>' => {
                self.sentence.is_numeric |= self.sentence.gap == 0 && !self.sentence.is_anchored;
                self.sentence.anchor(EVIDENCE_MIN);
            }
            _ if byte.is_ascii_whitespace() && self.sentence.ended_by.is_some() => {
                self.end_sentence();
            }
            _ => {}
        }
    }

    fn end_sentence(&mut self) {
        let sentence = &mut self.sentence;
        let asks = u32::from(sentence.ended_by == Some(b'?'));
        if sentence.is_option || sentence.evidence + asks >= EVIDENCE_MIN {
            let counts = &mut self.counts;
            for known in sentence.known.iter().take(sentence.known_count).flatten() {
                if self.seen.word(known.id)
                    && let Some(count) = counts.cues.get_mut(known.cue as usize)
                {
                    *count += 1;
                }
            }
            match sentence.is_option {
                true => counts.options_numeric += u32::from(sentence.is_numeric),
                false => counts.words += sentence.words,
            }
        }
        sentence.begin();
    }
}

impl Sentence {
    /// Forgets the sentence before.
    fn begin(&mut self) {
        let known = self.known;
        // What lies beyond the count is never read.
        *self = Sentence {
            known,
            ..Sentence::default()
        };
    }

    fn know(&mut self, known: Known) {
        if let Some(place) = self.known.get_mut(self.known_count) {
            *place = Some(known);
            self.known_count += 1;
        }
        self.anchor(match known.cue {
            Cue::Negation => 0,
            Cue::Reasoning | Cue::Code => EVIDENCE_MIN,
            Cue::Change | Cue::Simple | Cue::Mathematics | Cue::Society | Cue::Subject => 1,
        });
    }

    /// Here is a sign that weighs so much. What comes before the first one may be padding.
    fn anchor(&mut self, evidence: u32) {
        self.evidence += evidence;
        if self.is_anchored {
            self.words += self.gap.min(GAP_WORDS_MAX);
        }
        self.is_anchored = true;
        self.gap = 0;
    }
}

/// A run of letters and digits.
#[derive(Default)]
struct Word {
    kind: Kind,
    spelling: Spelling,
    number: u32,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    /// Of the English alphabet only.
    #[default]
    Letters,
    /// It begins with a digit.
    Number,
    /// It holds an arrow or a mathematical operator.
    Formula,
    /// Anything else.
    Foreign,
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

impl Word {
    /// The word at the start of a text, and what follows.
    fn read(text: &[u8]) -> (Word, &[u8]) {
        // Nearly every word is one of letters only.
        let (spelling, rest) = Spelling::read(text);
        let word = Word {
            spelling,
            ..Word::default()
        };
        match rest.first() {
            Some(byte) if is_word_byte(*byte) => word.read_on(text, rest),
            _ => (word, rest),
        }
    }

    /// Goes on with a word that has more than letters, from `rest` to its end.
    fn read_on<'a>(mut self, text: &'a [u8], mut rest: &'a [u8]) -> (Word, &'a [u8]) {
        self.kind = match rest.len() == text.len() && rest.first().is_some_and(u8::is_ascii_digit) {
            true => Kind::Number,
            false => Kind::Letters,
        };
        let mut before = 0;
        while let Some((&byte, after)) = rest.split_first() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' => self.spelling.push(byte),
                b'0'..=b'9' => {
                    let digit = u32::from(byte - b'0');
                    self.number = self.number.saturating_mul(10).saturating_add(digit);
                }
                // U+2180 to U+22FF.
                0x86..=0x8b if before == 0xe2 => self.kind = Kind::Formula,
                0x80.. if self.kind == Kind::Letters => self.kind = Kind::Foreign,
                0x80.. => {}
                _ => break,
            }
            before = byte;
            rest = after;
        }
        (self, rest)
    }
}

/// What follows the label of `A) …` or `(b) …`.
fn option_text(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"(").unwrap_or(line) {
        [label, b')' | b'.', rest @ ..] if matches!(label | 0x20, b'a'..=b'j') => Some(rest),
        _ => None,
    }
}

/// Words and numbers that were counted.
struct Seen {
    words: [u64; WORDS_MAX / 64],
    numbers: [u64; 4],
}

impl Default for Seen {
    fn default() -> Seen {
        Seen {
            words: [0; WORDS_MAX / 64],
            numbers: [0; 4],
        }
    }
}

impl Seen {
    /// Is it new?
    fn word(&mut self, id: u16) -> bool {
        insert(&mut self.words, usize::from(id))
    }

    /// Is it new? Two that share a bit count as one, which is harmless where the count saturates
    /// long before the set is crowded.
    fn number(&mut self, number: u32) -> bool {
        let bit = number.wrapping_mul(0x9e37_79b1) >> 24;
        insert(&mut self.numbers, bit as usize)
    }
}

fn insert(bits: &mut [u64], bit: usize) -> bool {
    let mask = 1 << (bit % 64);
    match bits.get_mut(bit / 64) {
        Some(word) if *word & mask == 0 => {
            *word |= mask;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Counts) {
        assert_eq!(Counts::of(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn padding_leaves_no_trace() {
        let nothing = Counts::default();
        for text in [
            "",
            "\n \n",
            "Hi! Could you please help me? Thank you so much.",
            "The weather has been lovely, and we went for a long walk with the dog.",
            "Lorem ipsum dolor sit amet, consectetur adipiscing elit. Ut enim ad minim veniam.",
            "please please please please",
        ] {
            check(text, nothing);
        }
    }

    #[test]
    fn numbers_are_counted_once_and_years_never() {
        let counts = Counts::of(b"In 1984 he had 12 apples, 12 pears and 250 nuts; 12 = 12.");
        assert_eq!((counts.numbers, counts.numbers_large), (2, 1));
        assert_eq!(Counts::of(b"Was it 1066?").numbers, 0);
    }

    #[test]
    fn only_words_between_signs_count() {
        let bare = Counts::of(b"Derive the entropy of a gas.");
        assert_eq!(bare.words, 5);
        for text in [
            "oh well well DERIVE the entropy  of a gas, thanks a lot.",
            "Thanks a lot. Derive the entropy of a gas. Bye\n\n",
            "Dreive the enrtopy of a gas.",
        ] {
            check(text, bare);
        }
    }

    #[test]
    fn options_are_read_by_their_labels() {
        let counts = Counts::of(b"How many?\nA. 3\n(b) 4 or 5\nC) none\n$5\nI. 7");
        assert_eq!((counts.options_numeric, counts.numbers), (3, 4));
    }
}
