//! What the bytes of a text weigh, 64 at a time: each class of characters is a word of bits, and
//! what depends on neighbours is a shift.

use super::lanes::{BLOCK_BYTES, Block};

// Weights in thousandths of a token, fitted by non-negative least squares on the relative error to
// the geometric mean of SmolLM2's and Qwen2's counts over English, mathematics, Python, Rust, JSON,
// CSV, hexadecimal and base64 text and twelve other languages.
const WORD: u64 = 1_018;
/// Letters beyond the fifth of a word.
const LETTER_BEYOND_FIVE: u64 = 97;
const CAPITAL_INSIDE_WORD: u64 = 895;
const DIGIT: u64 = 1_000;
const SPACE_BEFORE_DIGIT: u64 = 850;
const PUNCTUATION_RUN: u64 = 820;
const PUNCTUATION_FURTHER: u64 = 98;
const LINE_BREAKS: u64 = 1_239;
/// White space that is not the one before it, as in ` \t \t`: nothing merges. All else belongs to
/// the word after it, or is the indentation of its line.
const SPACE_CHANGE: u64 = 1_000;
/// Vocabularies hold control characters singly.
const CONTROL: u64 = 1_000;
const TWO_BYTE_CHARACTER: u64 = 710;
const THREE_BYTE_CHARACTER: u64 = 1_096;
const CJK_CHARACTER: u64 = 1_197;
const FOUR_BYTE_CHARACTER: u64 = 1_817;

// What bytes may cost beyond their weights, in thousandths of a token, for the upper bound.
/// Signs beyond the fourth in a run are signs at random: `"},{` still looks like code or markup.
const SIGN_AT_RANDOM: u64 = 900;
/// Letters beyond the twelfth of a word; few English words have more.
const LETTER_AT_RANDOM: u64 = 450;
/// Characters beyond the sixteenth in a run of equal ones: vocabularies hold runs about so long.
const REPEAT: u64 = 250;

/// What one text adds to a [`super::Count`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub plain: u64,
    pub multibyte: u64,
    pub surplus: u64,
    /// Words that begin with a letter or a digit after white space, or at the beginning.
    pub words: u64,
}

impl Sums {
    /// One pass, no allocation. A text has less than 2^32 bytes, so no sum can overflow.
    pub(super) fn of(text: &[u8]) -> Sums {
        let mut sums = Sums::default();
        let mut before = Masks {
            white: u64::MAX,
            ..Masks::default()
        };
        let mut at = 0_usize;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let behind = at.checked_sub(1).and_then(|at| text.get(at..));
            let masks = match (rest.first_chunk(), behind.and_then(<[u8]>::first_chunk)) {
                (Some(block), Some(shifted)) => Masks::of(block, shifted, BLOCK_BYTES),
                _ => Masks::at_an_end(rest, behind),
            };
            sums.add(&masks, &before);
            before = masks;
            at += BLOCK_BYTES;
        }
        sums
    }

    fn add(&mut self, now: &Masks, before: &Masks) {
        let follows = |now: u64, before: u64| now << 1 | before >> 63;
        let after_letter = follows(now.letter, before.letter);
        let after_sign = follows(now.sign, before.sign);
        let after_space = follows(now.space, before.space);
        let after_line = follows(now.line_break, before.line_break);
        let after_white = follows(now.white, before.white);
        let count = |bits: u64| u64::from(bits.count_ones());
        self.words += count((now.letter | now.digit) & after_white);
        self.plain += WORD * count(now.letter & !after_letter)
            + CAPITAL_INSIDE_WORD * count(now.capital & after_letter)
            + DIGIT * count(now.digit)
            + SPACE_BEFORE_DIGIT * count(now.digit & after_space)
            + PUNCTUATION_RUN * count(now.sign & !after_sign)
            + PUNCTUATION_FURTHER * count(now.sign & after_sign)
            + LINE_BREAKS * count(now.line_break & !after_line)
            + SPACE_CHANGE * count(now.space & after_space & !now.repeat)
            + CONTROL * count(now.control);
        self.multibyte += TWO_BYTE_CHARACTER * count(now.two_bytes)
            + THREE_BYTE_CHARACTER * count(now.three_bytes)
            + CJK_CHARACTER * count(now.cjk)
            + FOUR_BYTE_CHARACTER * count(now.four_bytes);
        self.add_runs(now, before);
    }

    /// What only long runs cost.
    fn add_runs(&mut self, now: &Masks, before: &Masks) {
        let count = |bits: u64| u64::from(bits.count_ones());
        let letters = Runs::of(now.letter, before.letter);
        let beyond_five = letters.beyond_five();
        if beyond_five != 0 {
            self.plain += LETTER_BEYOND_FIVE * count(beyond_five);
            let beyond_twelve = letters.beyond_twelve() & !now.capital;
            self.surplus += LETTER_AT_RANDOM * count(beyond_twelve);
        }
        let signs = Runs::of(now.sign, before.sign).beyond_four();
        self.surplus += SIGN_AT_RANDOM * count(signs & !now.repeat);
        let repeats = now.repeat & (now.sign | now.space | now.line_break);
        if repeats != 0 {
            let repeats = Runs::of(repeats, before.repeat).beyond_fifteen();
            self.surplus += REPEAT * count(repeats);
        }
    }
}

/// Which bytes of a block are of which class: a bit each, the first byte's lowest. Further bytes of
/// a character are in none.
#[derive(Clone, Copy, Default)]
struct Masks {
    letter: u64,
    capital: u64,
    digit: u64,
    sign: u64,
    line_break: u64,
    /// Space, tab and carriage return.
    space: u64,
    /// Every ASCII white space.
    white: u64,
    /// The other characters without a glyph.
    control: u64,
    two_bytes: u64,
    three_bytes: u64,
    cjk: u64,
    four_bytes: u64,
    /// Equal to the byte before it.
    repeat: u64,
}

impl Masks {
    /// Of the first block of a text, which has no byte before it, or the last, which may be short.
    fn at_an_end(rest: &[u8], behind: Option<&[u8]>) -> Masks {
        let bytes = rest.len().min(BLOCK_BYTES);
        let mut window = [0; 1 + BLOCK_BYTES];
        let [first, block @ ..] = &mut window;
        *first = behind.and_then(<[u8]>::first).copied().unwrap_or(0);
        if let (Some(to), Some(from)) = (block.get_mut(..bytes), rest.get(..bytes)) {
            to.copy_from_slice(from);
        }
        match (window.last_chunk(), window.first_chunk()) {
            (Some(block), Some(shifted)) => Masks::of(block, shifted, bytes),
            _ => Masks::default(),
        }
    }

    /// Of the first `bytes` of a block; `shifted` is one byte behind it.
    fn of(block: &[u8; BLOCK_BYTES], shifted: &[u8; BLOCK_BYTES], bytes: usize) -> Masks {
        let block = Block::of(block);
        let there = u64::MAX >> (BLOCK_BYTES - bytes.clamp(1, BLOCK_BYTES));
        let blank = block.within(b' ', 1) & there;
        let below = block.within(0x00, 0x20) & there;
        // Most blocks hold none of the characters that these are.
        let (line_break, space, form_feed) = match below {
            0 => (0, blank, 0),
            _ => (
                block.within(b'\n', 1) & there,
                blank | (block.within(b'\t', 1) | block.within(b'\r', 1)) & there,
                block.within(0x0c, 1) & there,
            ),
        };
        let above = block.within(0x7f, 0x81) & there;
        let high = match above {
            0 => 0,
            _ => block.within(0x80, 0x80) & there,
        };
        let low = below | above & !high;
        let letter = block.with(0x20).within(b'a', 26) & there;
        let digit = block.within(b'0', 10) & there;
        let ascii = Masks {
            letter,
            capital: letter & block.within(b'A', 26),
            digit,
            sign: there & !(letter | digit | line_break | space | low | high),
            line_break,
            space,
            white: space | line_break | form_feed,
            control: low & !(line_break | space),
            repeat: block.equals(Block::of(shifted)) & there,
            ..Masks::default()
        };
        if high == 0 {
            return ascii;
        }
        // By the first byte alone. 0xe3 to 0xed begin U+3000 to U+DFFF: kana, Han and Hangul.
        let cjk = block.within(0xe3, 11) & there;
        Masks {
            two_bytes: block.within(0xc0, 0x20) & there,
            three_bytes: block.within(0xe0, 0x10) & there & !cjk,
            cjk,
            four_bytes: block.within(0xf0, 0x10) & there,
            ..ascii
        }
    }
}

/// Places of a class in a block and the one before it, and whether places of the same come before.
#[derive(Clone, Copy)]
struct Runs {
    one: u128,
    /// Where two, and where four of them end.
    two: u128,
    four: u128,
}

impl Runs {
    fn of(now: u64, before: u64) -> Runs {
        let one = u128::from(now) << 64 | u128::from(before);
        let two = one & one << 1;
        let four = two & two << 2;
        Runs { one, two, four }
    }

    fn beyond_four(self) -> u64 {
        latest(self.four & self.one << 4)
    }

    fn beyond_five(self) -> u64 {
        latest(self.four & self.two << 4)
    }

    fn beyond_twelve(self) -> u64 {
        let eight = self.four & self.four << 4;
        latest(eight & self.four << 8 & self.one << 12)
    }

    fn beyond_fifteen(self) -> u64 {
        let eight = self.four & self.four << 4;
        latest(eight & eight << 8)
    }
}

/// The half that is of the block itself.
fn latest(runs: u128) -> u64 {
    (runs >> 64) as u64
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test that panics fails")]
mod tests {
    use super::*;

    /// The same, character by character.
    fn one_by_one(text: &str) -> Sums {
        let mut sums = Sums::default();
        let (mut class, mut last, mut run, mut equal) = ('^', '\0', 0_u64, 0_u64);
        for character in text.chars() {
            let before = class;
            class = match character {
                'a'..='z' | 'A'..='Z' => 'a',
                '0'..='9' => '0',
                '\n' => '\n',
                ' ' | '\t' | '\r' => ' ',
                '\0'..='\x1f' | '\x7f' => 'c',
                '\u{20}'..='\u{7e}' => '.',
                _ => '*',
            };
            run = if class == before { run + 1 } else { 1 };
            equal = if character == last { equal + 1 } else { 1 };
            let after_white = before == '^' || last.is_ascii_whitespace();
            sums.words += u64::from(after_white && matches!(class, 'a' | '0'));
            sums.plain += match class {
                'a' if run == 1 => WORD,
                'a' => {
                    let capital = u64::from(character.is_ascii_uppercase());
                    capital * CAPITAL_INSIDE_WORD + u64::from(run > 5) * LETTER_BEYOND_FIVE
                }
                '0' => DIGIT + u64::from(before == ' ') * SPACE_BEFORE_DIGIT,
                '.' if run == 1 => PUNCTUATION_RUN,
                '.' => PUNCTUATION_FURTHER,
                '\n' => u64::from(run == 1) * LINE_BREAKS,
                ' ' => u64::from(run > 1 && equal == 1) * SPACE_CHANGE,
                'c' => CONTROL,
                _ => 0,
            };
            sums.surplus += match class {
                'a' if run > 12 && !character.is_ascii_uppercase() => LETTER_AT_RANDOM,
                '.' if run > 4 && equal == 1 => SIGN_AT_RANDOM,
                '.' | ' ' | '\n' if equal > 16 => REPEAT,
                _ => 0,
            };
            sums.multibyte += match (character.len_utf8(), character) {
                (1, _) => 0,
                (2, _) => TWO_BYTE_CHARACTER,
                (3, '\u{3000}'..='\u{d7ff}') => CJK_CHARACTER,
                (3, _) => THREE_BYTE_CHARACTER,
                _ => FOUR_BYTE_CHARACTER,
            };
            last = character;
        }
        sums
    }

    #[test]
    fn blocks_count_what_characters_do() {
        const POOL: &str =
            "aAbZ  \t\n\r.,!!{}\"0123\u{e9}\u{2014}\u{65e5}\u{ac00}\u{1f600}\u{c}\u{1}zz  ==";
        let pool: Vec<char> = POOL.chars().collect();
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        // xorshift64*, Vigna 2016.
        let mut below = |count: usize| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % count
        };
        for _ in 0..20_000 {
            let (length, stays) = (below(300), 1 + below(20));
            let mut character = 'a';
            let text: String = std::iter::repeat_with(|| {
                if below(stays) == 0 {
                    character = pool[below(pool.len())];
                }
                character
            })
            .take(length)
            .collect();
            assert_eq!(Sums::of(text.as_bytes()), one_by_one(&text), "{text:?}");
        }
    }
}
