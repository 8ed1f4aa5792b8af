//! Whether an answer is right, where the row says what is.

use serde::Deserialize;

/// How an answer is compared with the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Check {
    /// It is the same text, but for white space around it.
    Exact,
    /// Its last number is the right one.
    Number,
    /// Its first or else its last single capital letter is the right one: `B`, `B.`, `it is (B)`.
    Choice,
}

impl Check {
    pub(super) fn holds(self, given: &str, right: &str) -> bool {
        match self {
            Check::Exact => given.trim() == right.trim(),
            Check::Number => match (last_number(given), last_number(right)) {
                (Some(given), Some(right)) => (given - right).abs() <= 1e-9 * right.abs().max(1.0),
                _ => false,
            },
            Check::Choice => choice(given).is_some_and(|given| Some(given) == choice(right)),
        }
    }
}

/// `1,234.50` of "that is $1,234.50."
fn last_number(text: &str) -> Option<f64> {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '-');
    let pieces = text.split(|c| !is_part(c));
    let number = |piece: &str| {
        let piece = piece.trim_end_matches(['.', ',', '-']).replace(',', "");
        piece.trim_start_matches('.').parse::<f64>().ok()
    };
    pieces.rev().find_map(number)
}

fn choice(text: &str) -> Option<char> {
    let words = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    let letter = |word: &str| match word.as_bytes() {
        [letter @ b'A'..=b'Z'] => Some(char::from(*letter)),
        _ => None,
    };
    let first = words.clone().next().and_then(letter);
    first.or_else(|| words.filter_map(letter).next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_compared_as_the_row_says() {
        for (check, given, right, holds) in [
            (Check::Exact, " Paris\n", "Paris", true),
            (Check::Exact, "paris", "Paris", false),
            (Check::Number, "3 + 4 is $1,234.50.", "1234.5", true),
            (Check::Number, "It was 12, then -7", "#### -7", true),
            (Check::Number, "seven", "7", false),
            (Check::Choice, "B. Because A is wrong", "B", true),
            (Check::Choice, "The answer is (C).", "C", true),
            (Check::Choice, "none", "C", false),
        ] {
            assert_eq!(check.holds(given, right), holds, "{check:?} {given}");
        }
    }
}
