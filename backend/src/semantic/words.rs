//! A text as the guard reads it: words with their stems, figures, and what is quoted.

use super::lexicon::Lexicon;

/// Says which words, in lower case, are no misspellings.
pub type Knows<'a> = &'a dyn Fn(&str) -> bool;

/// A word of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// In lower case.
    pub text: String,
    /// What is left of it without its endings.
    pub stem: String,
    /// It is written with a capital where only names are.
    pub is_name: bool,
    /// The model has it in its vocabulary. What it does not know may be a misspelling.
    pub is_known: bool,
}

/// Everything that reading a text gives.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// All words in lower case, as they follow each other.
    pub all: Vec<String>,
    /// Those of content, in their order.
    pub content: Vec<Word>,
    /// Numbers with their units, days and months.
    pub figures: Vec<String>,
    /// Quoted strings, addresses, identifiers.
    pub marks: Vec<String>,
    /// Words that turn the question round.
    pub negations: usize,
}

/// Words after which "one" is no number.
const BEFORE_ONE: &[&str] = &[
    "the", "which", "this", "that", "a", "an", "my", "your", "first", "second", "next", "last",
    "other", "any", "new", "each", "every", "no",
];

/// Reads a text.
pub(super) fn read(text: &str, is_known: Knows<'_>) -> Read {
    let mut read = Read {
        marks: quoted(text),
        ..Read::default()
    };
    let shouts = is_all_capitals(text);
    let mut starts_sentence = true;
    for raw in text.split_whitespace() {
        if is_address(raw) {
            read.marks.push(trim(raw).to_lowercase());
            starts_sentence = false;
            continue;
        }
        for part in raw.split([
            '-', '/', '(', ')', ',', ';', '\u{2013}', '\u{2014}', '*', '_',
        ]) {
            // A thousands separator or a date splits here too: the same way in both texts.
            read.part(part, starts_sentence || shouts, is_known);
            starts_sentence &= !part.chars().any(char::is_alphanumeric);
        }
        starts_sentence |= raw.ends_with(['.', '?', '!', ':']);
    }
    read.figures.sort_unstable();
    read.marks.sort_unstable();
    read
}

impl Read {
    fn part(&mut self, part: &str, is_start: bool, is_known: Knows<'_>) {
        let part = trim(part);
        if part.chars().any(|c| c.is_ascii_digit()) {
            self.figure(&part.to_lowercase());
            return;
        }
        let is_capital = part.chars().next().is_some_and(char::is_uppercase);
        let lower = part.to_lowercase().replace('\u{2019}', "'");
        let (lower, negated) = match lower.strip_suffix("n't") {
            Some(base) => (base.to_owned(), true),
            None => (lower, false),
        };
        self.negations += usize::from(negated);
        for (index, piece) in lower.split('\'').enumerate() {
            let piece: String = piece.chars().filter(|c| c.is_alphanumeric()).collect();
            if !piece.is_empty() {
                let is_name = is_capital && !is_start && index == 0 && piece != "i";
                self.word(piece, is_name, is_known);
            }
        }
    }

    fn word(&mut self, text: String, is_name: bool, is_known: Knows<'_>) {
        let lexicon = Lexicon::english();
        let singular = text.strip_suffix('s').unwrap_or(&text);
        let before = self.all.last().map(String::as_str);
        let refers = |word: &str| {
            BEFORE_ONE.contains(&word) || word.starts_with(|c: char| c.is_ascii_digit())
        };
        let is_pronoun = text == "one" && before.is_some_and(refers);
        if let Some(figure) = lexicon.number(&text).filter(|_| !is_pronoun) {
            self.number(figure);
        } else if lexicon.is_date(singular) {
            self.figures.push(singular.to_owned());
        } else if let Some(unit) = self.unit(&text) {
            if let Some(figure) = self.figures.last_mut() {
                figure.push_str(unit);
            }
        } else if lexicon.negates(&text) {
            self.negations += 1;
        } else if is_name || !lexicon.is_idle(&text) {
            self.content.push(Word {
                stem: stem(&text),
                is_name,
                is_known: is_known(&text),
                text: text.clone(),
            });
        }
        self.all.push(text);
    }

    /// A number in words: "twenty three" is one.
    fn number(&mut self, figure: &str) {
        let follows = self
            .all
            .last()
            .is_some_and(|word| Lexicon::english().number(word).is_some());
        let tens = self
            .figures
            .last()
            .and_then(|tens| tens.parse::<u32>().ok());
        match (tens, figure.parse::<u32>()) {
            (Some(tens), Ok(ones @ 1..=9)) if follows && (20..100).contains(&tens) => {
                self.figures.pop();
                self.figures.push((tens + ones).to_string());
            }
            _ => self.figures.push(figure.to_owned()),
        }
    }

    /// The unit that a word is to the number before it: "3 pm", "11 at night", "2 kilos".
    fn unit(&self, text: &str) -> Option<&'static str> {
        let figure = self.figures.last()?;
        if !figure.ends_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let back = |words: usize| {
            let at = self.all.len().checked_sub(words)?;
            self.all.get(at).map(String::as_str)
        };
        let is_number = |word: Option<&str>| {
            word.is_some_and(|word| word == figure || Lexicon::english().number(word).is_some())
        };
        if is_number(back(1)) {
            return Some(match text {
                "am" => "am",
                "pm" => "pm",
                "percent" | "pct" => "%",
                "kg" | "kilo" | "kilos" | "kilogram" | "kilograms" => "kg",
                "gb" | "gig" | "gigs" | "gigabytes" => "gb",
                "km" | "kilometres" | "kilometers" => "km",
                _ => return None,
            });
        }
        let of_day = (back(1) == Some("at") && is_number(back(2)))
            || (back(1) == Some("the") && back(2) == Some("in") && is_number(back(3)));
        match text {
            "night" | "evening" | "afternoon" if of_day => Some("pm"),
            "morning" if of_day => Some("am"),
            _ => None,
        }
    }

    /// A number with what is written onto it: `3pm`, `15%`, `400k`. An ordinal is its number.
    fn figure(&mut self, part: &str) {
        let is_figure = |c: char| c.is_alphanumeric() || matches!(c, '.' | ':' | '%');
        let currency = part
            .chars()
            .find(|c| matches!(c, '$' | '\u{a3}' | '\u{20ac}'));
        let mut figure: String = part.chars().filter(|c| is_figure(*c)).collect();
        let letters_at = figure.find(|c: char| c.is_alphabetic());
        if let Some(suffix) = letters_at.and_then(|at| figure.get(at..)) {
            if matches!(suffix, "st" | "nd" | "rd" | "th" | "s") {
                figure.truncate(letters_at.unwrap_or(figure.len()));
            } else if letters_at == Some(0) || !Lexicon::english().is_unit(suffix) {
                self.marks.push(figure);
                return;
            }
        }
        figure.extend(currency);
        self.all.push(figure.clone());
        self.figures.push(figure);
    }
}

/// What stands between quotation marks or backquotes.
fn quoted(text: &str) -> Vec<String> {
    let straight = text.replace(['\u{201c}', '\u{201d}', '\u{ab}', '\u{bb}', '`'], "\"");
    let pieces: Vec<&str> = straight.split('"').collect();
    // An opening mark without its closing one quotes nothing.
    let closed = pieces.len().saturating_sub(1) / 2;
    let inside = pieces.iter().skip(1).step_by(2).take(closed);
    inside.map(|piece| piece.trim().to_lowercase()).collect()
}

fn is_address(raw: &str) -> bool {
    raw.contains("://") || raw.starts_with("www.") || trim(raw).contains('@')
}

/// In a text that capitalises most words, capitals say nothing.
fn is_all_capitals(text: &str) -> bool {
    let initials = text
        .split_whitespace()
        .filter_map(|word| word.chars().next());
    let letters: Vec<char> = initials.filter(|c| c.is_alphabetic()).collect();
    let capitals = letters.iter().filter(|c| c.is_uppercase()).count();
    capitals * 10 > letters.len() * 7
}

fn trim(raw: &str) -> &str {
    let is_kept = |c: char| c.is_alphanumeric() || matches!(c, '%' | '$' | '\u{a3}' | '\u{20ac}');
    raw.trim_matches(|c| !is_kept(c))
}

/// English endings taken off, so that forms of one word meet. It need not be a word that is left.
pub(super) fn stem(word: &str) -> String {
    let mut stem = word.to_owned();
    let ends = |stem: &str, ending: &str, left: usize| {
        stem.len() >= ending.len() + left && stem.ends_with(ending) && stem.is_ascii()
    };
    if ends(&stem, "ies", 2) {
        stem.truncate(stem.len() - 3);
        stem.push('y');
    } else if ends(&stem, "s", 3) && !stem.ends_with("ss") && !stem.ends_with("us") {
        stem.truncate(stem.len() - 1);
    }
    for ending in ["ations", "ation", "ment", "ing", "ed", "al", "ly"] {
        if ends(&stem, ending, 3) {
            stem.truncate(stem.len() - ending.len());
            break;
        }
    }
    if ends(&stem, "e", 3) {
        stem.truncate(stem.len() - 1);
    }
    let mut last = stem.bytes().rev();
    if let (Some(a), Some(b)) = (last.next(), last.next())
        && a == b
        && stem.len() > 3
        && !matches!(a, b's' | b'e' | b'o')
        && stem.is_ascii()
    {
        stem.truncate(stem.len() - 1);
    }
    if ends(&stem, "y", 3) {
        stem.truncate(stem.len() - 1);
        stem.push('i');
    }
    stem
}
