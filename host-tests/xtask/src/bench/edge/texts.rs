//! Texts whose tokens are counted: English and code of this repository, and strings that are made
//! to cost much.

use super::bodies::noise;
use crate::error::XtaskError;
use farthing_host_tests::paths;
use std::fs;
use std::path::Path;

/// Bytes of one text: nearly what one request may have tokenized.
pub const BYTES: usize = 56 << 10;
/// Different texts of one kind at most, so that little of one is remembered when it comes again.
const TEXTS: usize = 8;

/// Characters to put together at random, by the name of the kind.
const RANDOM: [(&str, &str); 12] = [
    ("random_letters", "abcdefghijklmnopqrstuvwxyz"),
    ("random_words", "abcdefghijklmnopqrstuvwxyz     "),
    ("random_ab", "ab"),
    ("random_case", "aAbBcCdDeEfF"),
    ("random_signs", "!?-_=+*/.,:;<>|&%$#@~^"),
    ("random_latin", "áéíóúñçãõêâôàü"),
    ("random_hindi", "नमस्तेदुनियाकखगघ"),
    ("random_thai", "กขคงจฉชซสวัดี"),
    ("random_korean", "안녕하세요세계한국어"),
    (
        "random_chinese",
        "你好世界的一是在不了有和人这中大为上个国我以要他时来用们",
    ),
    ("random_emoji", "😀😁😂🤣😃😄😅😆😉😊🙂🤗"),
    ("random_spaces", "\u{a0}\u{2003}\u{3000} "),
];
const RUNS: [(&str, &str); 6] = [
    ("underscores", "_"),
    ("spaces", " "),
    ("one_letter", "a"),
    ("digits", "7"),
    ("chinese", "你"),
    ("marks", "e\u{301}\u{302}"),
];

/// Prose: what the comments of the sources say.
pub fn english() -> Result<Vec<String>, XtaskError> {
    let source = source()?;
    let comments = source.lines().filter_map(|line| {
        let line = line.trim_start();
        line.strip_prefix("/// ").or(line.strip_prefix("//! "))
    });
    Ok(slices(&comments.collect::<Vec<_>>().join("\n")))
}

/// The sources without them.
pub fn code() -> Result<Vec<String>, XtaskError> {
    let source = source()?;
    let lines = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    Ok(slices(&lines.collect::<Vec<_>>().join("\n")))
}

/// Every kind that was made to cost much.
pub fn adversarial() -> Vec<(&'static str, Vec<String>)> {
    let random = RANDOM.map(|(name, alphabet)| {
        let letters: Vec<char> = alphabet.chars().collect();
        let mut noise = noise();
        let mut text = || {
            let mut text = String::with_capacity(BYTES);
            while text.len() + 4 <= BYTES {
                let byte = usize::from(noise.next().unwrap_or_default());
                text.push(letters[byte % letters.len()]);
            }
            text
        };
        (name, (0..TEXTS).map(|_| text()).collect())
    });
    let runs = RUNS.map(|(name, unit)| (name, vec![unit.repeat(BYTES / unit.len())]));
    random.into_iter().chain(runs).collect()
}

fn slices(text: &str) -> Vec<String> {
    let mut rest = text;
    let mut slices = Vec::new();
    while slices.len() < TEXTS && rest.len() > BYTES {
        let (slice, after) = rest.split_at(rest.floor_char_boundary(BYTES));
        slices.push(slice.to_owned());
        rest = after;
    }
    slices
}

/// The sources of the core and the backend, file after file.
fn source() -> Result<String, XtaskError> {
    let mut source = String::new();
    for folder in ["plugin/core", "backend"] {
        append(&paths::workspace_root().join(folder), &mut source)?;
    }
    Ok(source)
}

fn append(folder: &Path, source: &mut String) -> Result<(), XtaskError> {
    let entries = fs::read_dir(folder).map_err(XtaskError::file("read", folder))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            append(&path, source)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).map_err(XtaskError::file("read", &path))?;
            source.push_str(&text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{BYTES, adversarial, code, english};

    #[test]
    fn texts_are_long_and_many() {
        for texts in [english().expect("sources"), code().expect("sources")] {
            assert!(texts.len() >= 3, "{} texts", texts.len());
            assert!(texts.iter().all(|text| text.len() > BYTES - 4));
        }
        for (kind, texts) in adversarial() {
            assert!(texts.iter().all(|text| text.len() > BYTES - 8), "{kind}");
        }
    }
}
