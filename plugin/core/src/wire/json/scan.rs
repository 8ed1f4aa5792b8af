//! Finds, sixteen bytes at a time, where a run of plain characters of a JSON string ends, and
//! compares bytes eight at a time: reading and writing strings is most of what a request costs, and
//! in wasm the C library compares them one by one.

/// How many bytes come before the first that a JSON string holds only escaped, or that ends it: a
/// quote, a backslash or a control character (RFC 8259, section 7). All of them, if none does.
pub(in crate::wire) fn plain_bytes(bytes: &[u8]) -> usize {
    let (blocks, rest) = bytes.as_chunks::<16>();
    for (index, block) in blocks.iter().enumerate() {
        if let Some(plain) = block::plain_bytes(block) {
            return index * 16 + plain;
        }
    }
    let plain = rest.iter().position(|byte| !is_plain(*byte));
    blocks.len() * 16 + plain.unwrap_or(rest.len())
}

/// May a JSON string hold this byte as it is?
pub(super) fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
}

/// Are all bytes the same?
pub(crate) fn is_same(a: &[u8], b: &[u8]) -> bool {
    same_start(a, b).is_some_and(<[u8]>::is_empty)
}

/// What follows this beginning, if the bytes begin so.
pub(in crate::wire) fn same_start<'a>(bytes: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = bytes.split_at_checked(start.len())?;
    let ((found, found_end), (start, start_end)) = (found.as_chunks::<8>(), start.as_chunks::<8>());
    let same = |(a, b): (&[u8; 8], &[u8; 8])| u64::from_le_bytes(*a) == u64::from_le_bytes(*b);
    let is_same =
        found.iter().zip(start).all(same) && found_end.iter().zip(start_end).all(|(a, b)| a == b);
    is_same.then_some(rest)
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod block {
    use std::arch::wasm32::{
        u8x16_bitmask, u8x16_eq, u8x16_lt, u8x16_splat, u64x2, v128_any_true, v128_or,
    };

    /// How many bytes come before the first that is not plain; `None` if all are.
    pub(super) fn plain_bytes(block: &[u8; 16]) -> Option<usize> {
        let (words, _) = block.as_chunks::<8>();
        let [low, high] = words else { return None };
        let bytes = u64x2(u64::from_le_bytes(*low), u64::from_le_bytes(*high));
        let special = v128_or(
            u8x16_lt(bytes, u8x16_splat(0x20)),
            v128_or(
                u8x16_eq(bytes, u8x16_splat(b'"')),
                u8x16_eq(bytes, u8x16_splat(b'\\')),
            ),
        );
        v128_any_true(special).then(|| u8x16_bitmask(special).trailing_zeros() as usize)
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod block {
    /// Every byte 1.
    const ONES: u64 = 0x0101_0101_0101_0101;
    /// The highest bit of every byte.
    const HIGH: u64 = 0x8080_8080_8080_8080;

    /// How many bytes come before the first that is not plain; `None` if all are.
    pub(super) fn plain_bytes(block: &[u8; 16]) -> Option<usize> {
        let (words, _) = block.as_chunks::<8>();
        words.iter().enumerate().find_map(|(index, word)| {
            let found = special(u64::from_le_bytes(*word));
            // The lowest of the marks is always a true one: a borrow runs upwards.
            (found != 0).then(|| index * 8 + (found.trailing_zeros() / 8) as usize)
        })
    }

    /// Marks the bytes of a word that are not plain by their highest bit; above the first of them
    /// there may be marks too many. (H. S. Warren, Hacker's Delight, 2nd edition, section 6-1.)
    fn special(word: u64) -> u64 {
        let zero = |word: u64| word.wrapping_sub(ONES) & !word;
        let quote = zero(word ^ (ONES * b'"' as u64));
        let backslash = zero(word ^ (ONES * b'\\' as u64));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        (quote | backslash | control) & HIGH
    }
}

#[cfg(test)]
mod tests {
    use super::{is_plain, is_same, plain_bytes, same_start};

    #[test]
    fn beginnings_are_told_apart_wherever_they_differ() {
        let bytes: Vec<u8> = (0..40).collect();
        for length in 0..bytes.len() {
            let (start, rest) = bytes.split_at(length);
            assert_eq!(same_start(&bytes, start), Some(rest));
            assert_eq!(is_same(&bytes, start), rest.is_empty());
            for at in 0..length {
                let mut other = start.to_vec();
                if let Some(byte) = other.get_mut(at) {
                    *byte ^= 1;
                }
                assert_eq!(same_start(&bytes, &other), None, "{at} of {length}");
            }
            assert_eq!(same_start(start, &bytes), None);
        }
    }

    #[test]
    fn every_byte_is_found_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for before in [0x20, b'!', b'#', b'[', b']', b'a', 0x7f, 0x80, 0xff] {
                for length in 0..40 {
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
