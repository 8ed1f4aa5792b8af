//! The GPT-2 byte alphabet: each byte is written as one printable character, so that vocabularies
//! are valid JSON. Printable Latin-1 bytes stand for themselves; the other 68 are U+0100 onwards,
//! in order (source: `bytes_to_unicode` of
//! <https://github.com/openai/gpt-2/blob/master/src/encoder.py>).

/// The bytes of a token as a vocabulary spells it. A token with a character outside of the
/// alphabet was not written in it and stands for its own UTF-8.
pub(super) fn decode(token: &str) -> Vec<u8> {
    token
        .chars()
        .map(byte_of)
        .collect::<Option<Vec<u8>>>()
        .unwrap_or_else(|| token.into())
}

/// The byte that a character of the alphabet stands for.
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        0x100..=0x120 => code - 0x100, // control characters and the space
        0x121..=0x142 => code - 0x121 + 0x7f, // delete, the C1 controls, the no-break space
        0x143 => 0xad,                 // the soft hyphen
        _ => return None,
    };
    u8::try_from(byte).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let mut seen: Vec<u8> = (0..=0x200)
            .filter_map(char::from_u32)
            .filter_map(byte_of)
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn decodes_the_spellings_of_real_vocabularies() {
        assert_eq!(decode("Ġthe"), b" the");
        assert_eq!(decode("Ċ"), b"\n");
        assert_eq!(decode("ä½ł"), "你".as_bytes());
        assert_eq!(decode("a b"), b"a b", "not of the alphabet: its own UTF-8");
    }
}
