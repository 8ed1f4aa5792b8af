//! Bytes of tokens to text, one sequence at a time. A character may be spread over several tokens;
//! the client must see only whole ones.

/// Most bytes of a character that can be waiting for the rest of it.
const INCOMPLETE_BYTES_MAX: usize = 3;

/// Turns the bytes of generated tokens into text. What one sequence generates goes through one
/// detokenizer, in order; the concatenated text is that of the concatenated bytes, with U+FFFD for
/// each stretch that cannot be UTF-8 (as `String::from_utf8_lossy` has it).
#[derive(Debug, Clone, Default)]
pub struct Detokenizer {
    /// The start of a character that is not complete yet: at most [`INCOMPLETE_BYTES_MAX`] bytes.
    incomplete: Vec<u8>,
}

impl Detokenizer {
    /// A detokenizer at the start of a sequence.
    pub fn new() -> Detokenizer {
        Detokenizer::default()
    }

    /// Appends to `text` all characters that `bytes` completes.
    pub fn push(&mut self, bytes: &[u8], text: &mut String) {
        if self.incomplete.is_empty() {
            let kept = decode(bytes, text);
            self.incomplete.extend_from_slice(kept);
        } else {
            self.incomplete.extend_from_slice(bytes);
            let waiting = std::mem::take(&mut self.incomplete);
            self.incomplete = decode(&waiting, text).to_vec();
        }
        debug_assert!(self.incomplete.len() <= INCOMPLETE_BYTES_MAX);
    }

    /// The sequence has ended: a character that never became complete is a U+FFFD.
    pub fn finish(&mut self, text: &mut String) {
        if !self.incomplete.is_empty() {
            self.incomplete.clear();
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }

    /// Whether bytes wait for the rest of their character.
    pub fn is_waiting(&self) -> bool {
        !self.incomplete.is_empty()
    }
}

/// Appends the text of `bytes` and returns the incomplete character at their end.
fn decode<'a>(bytes: &'a [u8], text: &mut String) -> &'a [u8] {
    let mut rest = bytes;
    loop {
        let error = match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                return &[];
            }
            Err(error) => error,
        };
        let (valid, after) = rest.split_at(error.valid_up_to());
        text.push_str(&String::from_utf8_lossy(valid));
        match error.error_len() {
            None => return after,
            Some(invalid) => {
                text.push(char::REPLACEMENT_CHARACTER);
                rest = &after[invalid..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn detokenized<'a>(tokens: impl IntoIterator<Item = &'a [u8]>) -> (String, usize) {
        let mut detokenizer = Detokenizer::new();
        let (mut text, mut waited) = (String::new(), 0);
        for token in tokens {
            detokenizer.push(token, &mut text);
            waited += usize::from(detokenizer.is_waiting());
        }
        detokenizer.finish(&mut text);
        (text, waited)
    }

    #[test]
    fn characters_wait_until_they_are_whole() {
        let check = |tokens: &[&[u8]], text: &str, waited: usize| {
            assert_eq!(
                detokenized(tokens.iter().copied()),
                (text.to_owned(), waited)
            );
        };
        check(&[b"a", "é".as_bytes()], "aé", 0);
        check(&[b"a\xf0", b"\x9f", b"\xa6", b"\x80b"], "a🦀b", 3);
        check(&[b"\xf0\x9f\xa6"], "\u{fffd}", 1);
        check(&[b"\xc3", b"a"], "\u{fffd}a", 1);
        check(&[b"\xff", b"\xe4\xbd", b""], "\u{fffd}\u{fffd}", 2);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_same_text(
            bytes in proptest::collection::vec(
                prop_oneof![any::<u8>(), Just(0xf0), Just(0x9f), Just(0xa6), Just(0x80)], 0..40),
            size in 1_usize..6,
        ) {
            let (text, _) = detokenized(bytes.chunks(size));
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
