//! Numbers as text, without the machinery of `fmt`: a request has some fifty of them in headers, in
//! keys of the shared store and in its line of the ledger.

/// Digits of the longest number of 64 bits.
const DIGITS_MAX: usize = 20;

/// A number in decimal digits.
#[derive(Clone, Copy)]
pub(crate) struct Digits {
    digits: [u8; DIGITS_MAX],
    /// Where the first one is.
    from: usize,
}

impl Digits {
    pub(crate) fn of(number: u64) -> Digits {
        Digits::padded(number, 1)
    }

    /// With zeros before it, up to so many digits.
    pub(crate) fn padded(number: u64, width: usize) -> Digits {
        let mut digits = [b'0'; DIGITS_MAX];
        let mut rest = number;
        let mut written = 0;
        for digit in digits.iter_mut().rev() {
            if rest == 0 && written >= width {
                break;
            }
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            written += 1;
        }
        Digits {
            digits,
            from: DIGITS_MAX - written,
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.digits.get(self.from..).unwrap_or_default()
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// A number in decimal digits.
pub(crate) fn text(number: u64) -> String {
    Digits::of(number).as_str().to_owned()
}

/// Bytes in lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    let pairs = bytes.iter().map(|byte| [byte >> 4, byte & 0x0f].map(digit));
    let mut hex = Vec::with_capacity(bytes.len().saturating_mul(2));
    pairs.for_each(|pair| hex.extend_from_slice(&pair));
    String::from_utf8(hex).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Digits, hex, text};

    #[test]
    fn numbers_are_written_as_fmt_writes_them() {
        let tens = (0..20).map(|power| 10_u64.pow(power));
        for number in tens
            .flat_map(|ten| [ten - 1, ten, ten + 1])
            .chain([0, u64::MAX])
        {
            assert_eq!(text(number), number.to_string());
            assert_eq!(
                Digits::padded(number, 9).as_str(),
                format!("{number:09}"),
                "{number}"
            );
        }
        assert_eq!(hex(&[0, 0x1f, 0xf0, 0xab]), "001ff0ab");
    }
}
