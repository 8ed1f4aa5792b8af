//! What the pre-tokenizers tell apart: one class for each character, as a bit, so that a set of
//! classes is a mask.
//!
//! The classes are general categories and the property White_Space of Unicode 16, which is what
//! `\p{L}`, `\p{N}`, `\p{M}` and `\s` mean in the regular expressions of the reference tokenizers.

use unicode_general_category::{GeneralCategory, get_general_category};

/// One class or several.
pub(super) type Mask = u8;

/// `\p{Lu}` and `\p{Lt}`.
pub(super) const UPPER: Mask = 1;
/// `\p{Ll}`.
pub(super) const LOWER: Mask = 1 << 1;
/// `\p{Lm}` and `\p{Lo}`: letters of neither case.
pub(super) const CASELESS: Mask = 1 << 2;
/// `\p{M}`.
pub(super) const MARK: Mask = 1 << 3;
/// `\p{N}`.
pub(super) const NUMBER: Mask = 1 << 4;
/// `\r` and `\n`.
pub(super) const NEWLINE: Mask = 1 << 5;
/// White space other than a newline.
pub(super) const SPACE: Mask = 1 << 6;
/// Everything else.
pub(super) const SIGN: Mask = 1 << 7;

/// `\p{L}`.
pub(super) const LETTER: Mask = UPPER | LOWER | CASELESS;
/// `\s`.
pub(super) const WHITESPACE: Mask = NEWLINE | SPACE;
/// `[^\s\p{L}\p{N}]`.
pub(super) const NEITHER: Mask = SIGN | MARK;

/// The class of each ASCII character; 0, which is in no mask, for the other bytes.
const ASCII: [Mask; 256] = ascii();

#[allow(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses a panic"
)]
const fn ascii() -> [Mask; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' => LOWER,
            b'A'..=b'Z' => UPPER,
            b'0'..=b'9' => NUMBER,
            b'\r' | b'\n' => NEWLINE,
            b' ' | b'\t' | 0x0b | 0x0c => SPACE,
            _ => SIGN,
        };
        byte += 1;
    }
    classes
}

/// The class and the bytes of the character that starts at `at`; no class and no bytes at the end.
#[inline]
pub(super) fn class_at(text: &[u8], at: usize) -> (Mask, usize) {
    let Some(&byte) = text.get(at) else {
        return (0, 0);
    };
    match ASCII.get(usize::from(byte)) {
        Some(&class) if class != 0 => (class, 1),
        _ => wide_class_at(text, at),
    }
}

/// Where the run of characters of these classes that starts at `at` ends.
#[inline]
pub(super) fn run(text: &[u8], mut at: usize, mask: Mask) -> usize {
    loop {
        let ascii = text.get(at).and_then(|byte| ASCII.get(usize::from(*byte)));
        match ascii {
            Some(class) if class & mask != 0 => at += 1,
            Some(0) => match wide_class_at(text, at) {
                (class, bytes) if class & mask != 0 => at += bytes,
                _ => return at,
            },
            _ => return at,
        }
    }
}

/// The same for a character of several bytes. The text is UTF-8, so a lead byte has its followers;
/// bytes that are not count as signs one by one.
fn wide_class_at(text: &[u8], at: usize) -> (Mask, usize) {
    let rest = text.get(at..).unwrap_or_default();
    let low = |byte: u8| u32::from(byte & 0x3f);
    let (code, bytes) = match *rest {
        [a @ 0xc0..=0xdf, b, ..] => (u32::from(a & 0x1f) << 6 | low(b), 2),
        [a @ 0xe0..=0xef, b, c, ..] => (u32::from(a & 0x0f) << 12 | low(b) << 6 | low(c), 3),
        [a @ 0xf0..=0xf7, b, c, d, ..] => {
            let high = u32::from(a & 0x07) << 18 | low(b) << 12;
            (high | low(c) << 6 | low(d), 4)
        }
        _ => return (SIGN, 1),
    };
    (char::from_u32(code).map_or(SIGN, class), bytes)
}

fn class(c: char) -> Mask {
    use GeneralCategory as Category;
    match get_general_category(c) {
        Category::UppercaseLetter | Category::TitlecaseLetter => UPPER,
        Category::LowercaseLetter => LOWER,
        Category::ModifierLetter | Category::OtherLetter => CASELESS,
        Category::NonspacingMark | Category::SpacingMark | Category::EnclosingMark => MARK,
        Category::DecimalNumber | Category::LetterNumber | Category::OtherNumber => NUMBER,
        _ if c.is_whitespace() => SPACE,
        _ => SIGN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_and_unicode_agree() {
        for byte in 0..128_u8 {
            let c = char::from(byte);
            let expected = if matches!(c, '\r' | '\n') {
                NEWLINE
            } else {
                class(c)
            };
            assert_eq!(class_at(&[byte], 0), (expected, 1), "{c:?}");
        }
    }

    #[test]
    fn every_character_is_decoded() {
        for c in [
            'é',
            '\u{7ff}',
            '\u{800}',
            '你',
            '\u{ffff}',
            '\u{10000}',
            '😀',
            char::MAX,
        ] {
            let text = c.to_string();
            assert_eq!(
                class_at(text.as_bytes(), 0),
                (class(c), text.len()),
                "{c:?}"
            );
        }
        assert_eq!(class_at(b"\xff\xc3", 0), (SIGN, 1));
        assert_eq!(class_at(b"\xff\xc3", 1), (SIGN, 1));
        assert_eq!(class_at(b"", 0), (0, 0));
    }
}
