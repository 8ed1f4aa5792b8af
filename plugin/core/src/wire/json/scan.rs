//! Finds, eight bytes at a time, where a run of plain characters of a JSON string ends: reading and
//! writing strings is most of what a request costs.

/// Every byte 1.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The highest bit of every byte.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// How many bytes come before the first that a JSON string holds only escaped, or that ends it: a
/// quote, a backslash or a control character (RFC 8259, section 7). All of them, if none does.
pub(super) fn plain_bytes(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = special(u64::from_le_bytes(*word));
        if found != 0 {
            // The lowest of the marks is always a true one: a borrow runs upwards.
            return index * 8 + (found.trailing_zeros() / 8) as usize;
        }
    }
    let plain = rest.iter().position(|byte| !is_plain(*byte));
    words.len() * 8 + plain.unwrap_or(rest.len())
}

/// May a JSON string hold this byte as it is?
pub(super) fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
}

/// Marks the bytes of a word that are not plain by their highest bit; above the first of them there
/// may be marks too many. (H. S. Warren, Hacker's Delight, 2nd edition, section 6-1.)
fn special(word: u64) -> u64 {
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = zero(word ^ (ONES * b'"' as u64));
    let backslash = zero(word ^ (ONES * b'\\' as u64));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & HIGH
}

#[cfg(test)]
mod tests {
    use super::{is_plain, plain_bytes};

    #[test]
    fn every_byte_is_found_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for before in [0x20, b'!', b'#', b'[', b']', b'a', 0x7f, 0x80, 0xff] {
                for length in 0..20 {
                    let mut bytes = vec![before; length];
                    bytes.push(byte);
                    bytes.extend_from_slice(b"\"tail");
                    let expected = length + usize::from(is_plain(byte));
                    assert_eq!(plain_bytes(&bytes), expected, "{before} x {length}, {byte}");
                }
            }
        }
        for length in 0..20 {
            assert_eq!(plain_bytes(&vec![b'x'; length]), length);
        }
    }
}
