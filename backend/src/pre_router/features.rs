//! What a prompt looks like, as numbers: what the filter's router sees, and how the question and
//! its options are built. Unlike a subject, these mean the same in one that the router has never
//! seen.

use std::collections::BTreeSet;

use farthing_core::route;

/// How a text is built, beside [`route::FEATURE_NAMES`].
const BUILT: [&str; 29] = [
    "question_words",
    "numbers_distinct",
    "lines",
    "asks",
    "asks_last",
    "blank",
    "sentences",
    "dollars",
    "percents",
    "formula",
    "commas",
    "options",
    "options_length",
    "options_spread",
    "options_alike",
    "options_begin_alike",
    "options_from_question",
    "word_length",
    "distinct_words",
    "capitals",
    "roman",
    "hypothetical",
    "excepting",
    "of_the_above",
    "quotes",
    "year",
    "second_person",
    "third_person",
    "best",
];

/// How many there are.
pub(super) const FEATURES: usize = route::FEATURES + BUILT.len();

/// Counts beyond these say nothing new.
const COUNT_MAX: usize = 15;
const WORDS_MAX: usize = 511;
/// Letters that options are marked with.
const OPTION_LETTERS: std::ops::RangeInclusive<u8> = b'A'..=b'H';
/// Bytes of a prompt that are read.
const BYTES_MAX: usize = farthing_core::limits::ROUTE_TEXT_BYTES_MAX;

/// What each is, in the order of [`features`]. A file names those it was made for.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    route::FEATURE_NAMES.into_iter().chain(BUILT)
}

/// The features of a text.
pub(super) fn features(text: &str) -> [f64; FEATURES] {
    let text = beginning(text);
    let lower = text.to_lowercase();
    let built = Built::of(text, &lower);
    let mut all = [0.0; FEATURES];
    let (known, own) = all.split_at_mut(route::FEATURES);
    known.copy_from_slice(&route::features(text.as_bytes()));
    own.copy_from_slice(&built.numbers(text, &lower));
    all
}

fn beginning(text: &str) -> &str {
    let end = (0..=BYTES_MAX.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// A question, its options and its words.
struct Built<'a> {
    question: &'a str,
    /// Without the letters before them.
    options: Vec<String>,
    /// In lower case.
    words: Vec<&'a str>,
}

// === impl Built ===

impl<'a> Built<'a> {
    /// An option begins with a line such as `A. `, and ends where the next one begins.
    fn of(text: &'a str, lower: &'a str) -> Built<'a> {
        let mut question = text;
        let mut options: Vec<String> = Vec::new();
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            if at > 0
                && let Some(option) = option_of(line)
            {
                if options.is_empty() {
                    question = text.get(..at).unwrap_or(text);
                }
                options.push(option.to_owned());
            } else if let Some(option) = options.last_mut()
                && !line.trim().eq_ignore_ascii_case("answer:")
            {
                option.push_str(line);
            }
            at += line.len();
        }
        Built {
            question,
            options,
            words: words(lower).collect(),
        }
    }

    fn numbers(&self, text: &str, lower: &str) -> [f64; BUILT.len()] {
        let question_lower = self.question.to_lowercase();
        let asked: BTreeSet<&str> = words(&question_lower).collect();
        let lengths: Vec<f64> = self.options.iter().map(|o| o.trim().len() as f64).collect();
        let mean_length = mean(&lengths);
        let apart: Vec<f64> = lengths.iter().map(|l| (l - mean_length).powi(2)).collect();
        let lower_options: Vec<String> = self.options.iter().map(|o| o.to_lowercase()).collect();
        let sets: Vec<BTreeSet<&str>> = lower_options.iter().map(|o| words(o).collect()).collect();
        let says = |of: &[&str]| flag(self.words.iter().any(|word| of.contains(word)));
        let letters: Vec<f64> = self.words.iter().map(|word| word.len() as f64).collect();
        let distinct = self.words.iter().collect::<BTreeSet<_>>().len();
        let question = self.question;
        [
            log2(words(&question_lower).count(), WORDS_MAX),
            log2(figures(text).collect::<BTreeSet<_>>().len(), COUNT_MAX),
            log2(question.matches('\n').count(), COUNT_MAX),
            flag(question.contains('?')),
            flag(question.trim_end().ends_with('?')),
            flag(question.contains('_')),
            log2(question.matches(". ").count(), COUNT_MAX),
            flag(text.contains('$')),
            flag(text.contains('%')),
            log2(text.chars().filter(|c| is_formal(*c)).count(), COUNT_MAX),
            log2(question.matches(',').count(), COUNT_MAX),
            self.options.len().min(COUNT_MAX) as f64,
            (1.0 + mean_length).log2(),
            mean(&apart).sqrt() / (1.0 + mean_length),
            alike(&sets),
            flag(begin_alike(&lower_options)),
            mean(
                &sets
                    .iter()
                    .map(|set| shared(set, &asked))
                    .collect::<Vec<_>>(),
            ),
            mean(&letters),
            distinct as f64 / self.words.len().max(1) as f64,
            log2(capitals(question), COUNT_MAX),
            flag(lower.contains("(i)") || text.contains("I and II") || text.contains(" II ")),
            says(&["if", "suppose", "assume", "would"]),
            flag(text.contains("EXCEPT") || text.contains("NOT")),
            flag(lower.contains("of the above")),
            flag(text.contains('"') || question.contains('\'')),
            flag(figures(text).any(is_year)),
            says(&["you", "your"]),
            says(&["he", "she", "his", "her"]),
            says(&["best", "most"]),
        ]
    }
}

fn option_of(line: &str) -> Option<&str> {
    let (mark, option) = line.split_once(['.', ')'])?;
    let is_letter = mark.len() == 1 && OPTION_LETTERS.contains(mark.as_bytes().first()?);
    (is_letter && option.starts_with(' ')).then_some(option)
}

fn words(lower: &str) -> impl Iterator<Item = &str> {
    lower
        .split(|c: char| !c.is_alphabetic() && c != '\'')
        .filter(|word| !word.is_empty())
}

/// Numbers with their digits, points and commas.
fn figures(text: &str) -> impl Iterator<Item = &str> {
    let pieces = text.split(|c: char| !c.is_ascii_digit() && c != '.' && c != ',');
    pieces
        .map(|piece| piece.trim_matches(['.', ',']))
        .filter(|piece| !piece.is_empty())
}

fn is_year(figure: &str) -> bool {
    matches!(figure.parse::<u32>(), Ok(1_500..=2_099)) && figure.len() == 4
}

/// A sign of formulas and of logic.
fn is_formal(c: char) -> bool {
    matches!(
        c,
        '=' | '^'
            | '<'
            | '>'
            | '~'
            | '\\'
            | '\u{2200}'
            | '\u{2203}'
            | '\u{2192}'
            | '\u{2283}'
            | '\u{2228}'
            | '\u{b7}'
    )
}

/// Words with a capital that do not begin a sentence.
fn capitals(text: &str) -> usize {
    let words: Vec<&str> = text.split_whitespace().collect();
    let after = words.windows(2).filter(|two| {
        let ends = two[0].ends_with(|c: char| c.is_lowercase() || c == ',');
        ends && two[1].chars().next().is_some_and(char::is_uppercase) && two[1].len() > 1
    });
    after.count()
}

/// How much of their words options share, on average over all pairs.
fn alike(sets: &[BTreeSet<&str>]) -> f64 {
    let mut shares = Vec::new();
    for (at, a) in sets.iter().enumerate() {
        for b in sets.get(..at).unwrap_or_default() {
            let all = a.union(b).count().max(1);
            shares.push(a.intersection(b).count() as f64 / all as f64);
        }
    }
    mean(&shares)
}

/// Of a set, the share that is in another.
fn shared(of: &BTreeSet<&str>, other: &BTreeSet<&str>) -> f64 {
    of.intersection(other).count() as f64 / of.len().max(1) as f64
}

/// Whether two options have the same first word.
fn begin_alike(options: &[String]) -> bool {
    let firsts: Vec<&str> = (options.iter())
        .filter_map(|option| option.split_whitespace().next())
        .collect();
    firsts.iter().collect::<BTreeSet<_>>().len() < firsts.len()
}

fn mean(of: &[f64]) -> f64 {
    of.iter().sum::<f64>() / of.len().max(1) as f64
}

fn log2(count: usize, max: usize) -> f64 {
    (1.0 + count.min(max) as f64).log2()
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_with_options_is_taken_apart() {
        let text = "In 1865 Mr. Smith paid $20, which is NOT?\nA. 20 apples\nB. 30 apples and\n\
                    pears\nAnswer:";
        let lower = text.to_lowercase();
        let built = Built::of(text, &lower);
        assert!(built.question.ends_with("NOT?\n"));
        assert_eq!(built.options, [" 20 apples\n", " 30 apples and\npears\n"]);
        let all = features(text);
        let value = |name: &str| {
            let at = names().position(|known| known == name);
            at.and_then(|at| all.get(at)).copied()
        };
        for (name, expected) in [
            ("options", 2.0),
            ("asks", 1.0),
            ("dollars", 1.0),
            ("percents", 0.0),
            ("year", 1.0),
            ("excepting", 1.0),
            ("options_begin_alike", 0.0),
            ("numbers_distinct", 2.0),
            ("options_alike", 1.0 / 3.0),
        ] {
            assert_eq!(value(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn any_text_has_finite_features() {
        let long = "\u{4f60} A. ".repeat(10_000);
        for text in ["", "\n", "A. ", "x\nA. \nB. ", "\u{4f60}", long.as_str()] {
            assert!(features(text).iter().all(|number| number.is_finite()));
        }
    }
}
