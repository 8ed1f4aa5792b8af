//! Where in a text its answer stands: behind the words that announce it, or in its last line.

use std::ops::Range;

/// What announces an answer, in lower case.
const ANNOUNCED: [&str; 5] = ["####", "final answer:", "answer is", "answer:", "\\boxed{"];

/// A last line that is longer is prose, of which the last words count.
const SPAN_BYTES_MAX: usize = 48;

/// The bytes of the answer, at the borders of characters; empty only for an empty text.
pub fn answer_span(text: &str) -> Range<usize> {
    let end = text.trim_end().len();
    let kept = text.get(..end).unwrap_or_default();
    // Lower case can change lengths, which must not be.
    let lower = kept.to_ascii_lowercase();
    let announced = ANNOUNCED
        .iter()
        .filter_map(|mark| lower.rfind(mark).map(|at| at + mark.len()))
        .max();
    if let Some(start) = announced {
        let rest = kept.get(start..).unwrap_or_default();
        let lead = rest.len() - rest.trim_start_matches([' ', ':', '*', '\n']).len();
        let start = start + lead;
        let line = kept.get(start..).unwrap_or_default().lines().next();
        let length = line.map_or(0, |line| line.trim_end().len());
        if length > 0 {
            return start..start + length;
        }
    }
    let start = kept.rfind('\n').map_or(0, |at| at + 1);
    let start = start + answered_by(kept.get(start..).unwrap_or_default());
    let line = kept.get(start..).unwrap_or_default();
    if line.len() <= SPAN_BYTES_MAX {
        return start..end;
    }
    let mut from = end - SPAN_BYTES_MAX;
    while !kept.is_char_boundary(from) {
        from += 1;
    }
    let word = kept.get(from..).and_then(|tail| tail.find(' '));
    from + word.map_or(0, |at| at + 1)..end
}

/// Bytes of the `A:` with which a model goes on where it was shown questions and answers.
pub fn answered_by(line: &str) -> usize {
    let said = line.trim_start();
    let is_answer = said.starts_with("A:") && said.len() > 2;
    match is_answer {
        true => line.len() - said.get(2..).unwrap_or_default().trim_start().len(),
        false => 0,
    }
}

/// The last number of a text, without separators between thousands.
pub fn last_number(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let end = bytes.iter().rposition(u8::is_ascii_digit)? + 1;
    let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b',' | b'.');
    let mut start = end;
    while start > 0 && bytes.get(start - 1).is_some_and(is_part) {
        start -= 1;
    }
    while bytes.get(start).is_some_and(|byte| *byte == b',') {
        start += 1;
    }
    let digits: String = text.get(start..end)?.replace(',', "");
    // "3.4.5" is no number: what follows the last but one point is.
    let digits = match digits.matches('.').count() {
        0 | 1 => digits.as_str(),
        _ => digits.rsplit('.').next().unwrap_or_default(),
    };
    let value: f64 = digits.parse().ok()?;
    let before = text.get(..start)?.trim_end_matches('$');
    // "then -7" is below zero, "10-4" and "(2) - 7" take something away.
    let (minus, spaced) = match before.strip_suffix('-') {
        Some(rest) => (Some(rest), rest),
        None => {
            let rest = before.trim_end().strip_suffix('-');
            (rest, rest.map_or("", str::trim_end))
        }
    };
    let takes_away = spaced.ends_with(|c: char| c.is_alphanumeric() || c == ')');
    let negative = minus.is_some() && !takes_away;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_found() {
        let cases = [
            ("", ""),
            ("down", "down"),
            ("48 + 24 = 72\n#### 72", "72"),
            ("So the answer is (C).\n", "(C)."),
            ("**Answer:** 12 apples\nbecause", "12 apples"),
            ("A: none", "none"),
            ("A:", "A:"),
            ("First this.\nThen that: 5", "Then that: 5"),
        ];
        for (text, answer) in cases {
            assert_eq!(&text[answer_span(text)], answer, "{text:?}");
        }
        let prose = "A long line of prose without any announcement that ends with the number 17";
        let span = answer_span(prose);
        assert!(prose[span.clone()].ends_with("number 17") && span.len() <= 48);
        // Any text has a span of its own.
        for text in [
            "####",
            "answer is",
            "\u{130}\u{130} answer: \u{1f600}",
            "\n\n",
        ] {
            assert!(text.get(answer_span(text)).is_some(), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        let cases = [
            ("no", None),
            ("1,234,567", Some(1_234_567.0)),
            ("it is $3.50.", Some(3.5)),
            ("= -4", Some(-4.0)),
            ("10-4", Some(4.0)),
            ("(2) - 7", Some(7.0)),
            ("-$12", Some(-12.0)),
            (",5", Some(5.0)),
            ("version 1.2.3", Some(3.0)),
        ];
        for (text, number) in cases {
            assert_eq!(last_number(text), number, "{text:?}");
        }
    }
}
