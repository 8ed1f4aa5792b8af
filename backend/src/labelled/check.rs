//! Is an answer right? By the label of its row.

use serde::{Deserialize, Serialize};

use super::answer_span::{answer_span, answered_by, last_number};

/// How an answer is compared with the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// The same words, whatever their case and punctuation.
    Exact,
    /// The last number of both is the same: `1,200.0` is `1200`.
    Number,
    /// The same letter of a list of options: `(B)`, `B)`, `B.` or `B`.
    Choice,
}

impl Check {
    /// Whether `text` gives the answer of the label.
    pub fn is_right(self, text: &str, label: &str) -> bool {
        match self {
            Check::Exact => {
                let label = plain(label);
                let said = text.get(answer_span(text)).unwrap_or_default();
                let first = text.trim().lines().next().unwrap_or_default();
                let first = first.get(answered_by(first)..).unwrap_or_default();
                !label.is_empty() && [said, first, text].iter().any(|part| plain(part) == label)
            }
            Check::Number => match (last_number(text), last_number(label)) {
                (Some(said), Some(label)) => (said - label).abs() <= 1e-6 * label.abs().max(1.0),
                _ => false,
            },
            Check::Choice => match (choice(text), choice(label)) {
                (Some(said), Some(label)) => said == label,
                _ => false,
            },
        }
    }
}

/// The letter that is chosen: the first in parentheses of the part that holds the answer, else of
/// the whole text, else a letter that stands alone.
pub fn choice(text: &str) -> Option<char> {
    let span = text.get(answer_span(text)).unwrap_or_default();
    [span, text]
        .iter()
        .find_map(|part| parenthesised(part))
        .or_else(|| [span, text].iter().find_map(|part| alone(part)))
}

fn parenthesised(text: &str) -> Option<char> {
    let letters: Vec<char> = text.chars().collect();
    letters.windows(3).find_map(|three| match three {
        ['(', letter, ')'] if letter.is_ascii_alphabetic() => Some(letter.to_ascii_uppercase()),
        _ => None,
    })
}

/// A capital letter before punctuation or the end: "A", "B.", "C)"; not the article of a sentence.
fn alone(text: &str) -> Option<char> {
    text.split_whitespace().find_map(|word| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let mut letters = bare.chars();
        match (letters.next(), letters.next()) {
            (Some(letter), None) if letter.is_ascii_uppercase() => {
                let is_article = letter == 'A' && word == "A" && text.trim().len() > 1;
                (!is_article && letter != 'I').then_some(letter)
            }
            _ => None,
        }
    })
}

/// Words in lower case, without what stands around them.
pub fn plain(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let bare = word.trim_matches(|c: char| c.is_ascii_punctuation() && !"[](){}<>".contains(c));
        bare.to_lowercase()
    });
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_right_from_wrong() {
        let cases = [
            (
                Check::Number,
                "48 + 24 = 72 clips.\n#### 72",
                "... #### 72",
                true,
            ),
            (Check::Number, "She has $1,200.00 left.", "1200", true),
            (Check::Number, "The answer is 7.", "72", false),
            (Check::Number, "no number", "3", false),
            (Check::Number, "-5", "5", false),
            (Check::Choice, "The answer is (B).", "(B)", true),
            (
                Check::Choice,
                "(A) is wrong. So the answer is (C)",
                "(C)",
                true,
            ),
            (Check::Choice, "B", "(B)", true),
            (Check::Choice, "A bird is it: D.", "(D)", true),
            (Check::Choice, "(E)", "(B)", false),
            (Check::Choice, "I do not know", "(A)", false),
            (Check::Exact, "A: down\n\nQ: gold", "down", true),
            (Check::Number, "It was 12, then -7", "#### -7", true),
            (Check::Number, "3 + 4 is $1,234.50.", "1234.5", true),
            (Check::Choice, "B. Because A is wrong", "B", true),
            (Check::Choice, "none", "C", false),
            (Check::Exact, "False", "False", true),
            (Check::Exact, "down\n\nQ: gold", "down", true),
            (Check::Exact, "The answer is **no**.", "no", true),
            (
                Check::Exact,
                "syndrome, therefrom",
                "syndrome therefrom",
                true,
            ),
            (Check::Exact, "up", "down", false),
            (Check::Exact, "", "down", false),
            (Check::Exact, "] ]", "] ]", true),
        ];
        for (check, text, label, expected) in cases {
            assert_eq!(
                check.is_right(text, label),
                expected,
                "{check:?} {text:?} {label:?}"
            );
        }
    }
}
