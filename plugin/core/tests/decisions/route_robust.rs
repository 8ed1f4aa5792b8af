//! What does not change a question changes no route: slips of the pen, case, manners, white space,
//! and five hundred words of padding. The prompts are our own; those of a folder with evaluation
//! data beside the checkout are tried too, if there is one.

use farthing_core::route::{GainCalibration, features};
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Ranks from which the dearer of two models is taken: shares of [0.5, 0.5] and [0.7, 0.3].
const THRESHOLDS: [f64; 2] = [0.5, 0.7];
/// Of all prompts.
const FLIPS_MAX: f64 = 0.05;
/// Prompts of one set that are tried, evenly from all of it: this is no place to wait long.
const PROMPTS_MAX: usize = 1_000;
const SEEDS: [u64; 2] = [1, 20_240_229];

const LOREM: &str = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor \
    incididunt ut labore et dolore magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation \
    ullamco laboris nisi ut aliquip ex ea commodo consequat. Duis aute irure dolor in reprehenderit \
    in voluptate velit esse cillum dolore eu fugiat nulla pariatur. ";
const TALK: &str = "I hope you are doing well today. The weather has been lovely lately and we went \
    for a long walk in the park with the dog. My sister called me yesterday and we talked for a \
    while about the holidays. It is always nice to sit down with a cup of tea and look out of the \
    window. Anyway, the garden looks wonderful this year. ";
const FOX: &str = "The quick brown fox jumps over the lazy dog. ";
const BARE: &str = "well and so on and on it goes ";

/// So many words, and more to the end of a sentence.
fn words(text: &str, count: usize) -> String {
    let each = text.split_whitespace().count();
    text.repeat(count.div_ceil(each))
}

type Apply = Box<dyn Fn(&str, &mut Random) -> String>;

struct Change {
    name: &'static str,
    apply: Apply,
    is_padding: bool,
}

fn changes() -> Vec<Change> {
    let change = |name, apply: Apply| Change {
        name,
        apply,
        is_padding: false,
    };
    let mut changes = vec![
        change("typos", Box::new(with_typos)),
        change("upper case", Box::new(|text, _| text.to_uppercase())),
        change("lower case", Box::new(|text, _| text.to_lowercase())),
        change(
            "white space",
            Box::new(|text, _| format!("  {text}  \n\n \t\r\n")),
        ),
        change(
            "manners before",
            Box::new(|text, _| format!("Hi! Could you please help me with this? {text}")),
        ),
        change(
            "manners after",
            Box::new(|text, _| format!("{text}\nThank you so much in advance!")),
        ),
        change(
            "manners around",
            Box::new(|text, _| format!("Please, {text} Thanks a lot, I really appreciate it.")),
        ),
    ];
    for (name, padding) in [
        ("lorem", LOREM),
        ("talk", TALK),
        ("fox", FOX),
        ("bare", BARE),
    ] {
        let padding = words(padding, 500);
        for (place, between) in [("line", "\n\n"), ("space", " ")] {
            let (before, after) = (padding.clone(), padding.clone());
            changes.push(Change {
                name: Box::leak(format!("{name} before, {place}").into_boxed_str()),
                apply: Box::new(move |text, _| format!("{}{between}{text}", before.trim_end())),
                is_padding: true,
            });
            changes.push(Change {
                name: Box::leak(format!("{name} after, {place}").into_boxed_str()),
                apply: Box::new(move |text, _| format!("{text}{between}{after}")),
                is_padding: true,
            });
        }
    }
    changes
}

/// One or two slips in each sentence: letters that change places, go missing, come twice or are
/// another.
fn with_typos(text: &str, random: &mut Random) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let mut start = 0;
    while start < letters.len() {
        let length = (letters[start..].windows(2))
            .position(|pair| ".?!:\n".contains(pair[0]) && pair[1].is_whitespace())
            .map_or(letters.len() - start, |end| end + 2);
        for _ in 0..=random.below(2) {
            let at = start + random.below(length);
            let inside = at > 0 && at + 1 < letters.len();
            if !inside
                || !letters[at - 1..=at]
                    .iter()
                    .all(|letter| letter.is_alphabetic())
            {
                continue;
            }
            match random.below(4) {
                0 => letters.swap(at - 1, at),
                1 => letters[at] = letters[at - 1],
                2 => letters[at] = char::from(b'a' + random.below(26) as u8),
                _ => letters[at] = '\u{0}',
            }
        }
        start += length;
    }
    letters
        .into_iter()
        .filter(|letter| *letter != '\u{0}')
        .collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}

fn check(set: &str, prompts: &[String]) {
    let calibration = GainCalibration::embedded().unwrap();
    let dear = |text: &str| {
        let rank = calibration.rank(calibration.gain_of(&features(text.as_bytes())));
        THRESHOLDS.map(|threshold| rank >= threshold)
    };
    let before: Vec<_> = prompts.iter().map(|prompt| dear(prompt)).collect();
    let (mut report, mut is_wrong) = (String::new(), false);
    for change in changes() {
        for seed in SEEDS {
            let mut random = Random(seed);
            let after = prompts
                .iter()
                .map(|prompt| dear(&(change.apply)(prompt, &mut random)));
            let pairs: Vec<_> = before.iter().zip(after).collect();
            for (at, threshold) in THRESHOLDS.iter().enumerate() {
                let flips = pairs
                    .iter()
                    .filter(|(before, after)| before[at] != after[at])
                    .count();
                let dearer = pairs
                    .iter()
                    .filter(|(before, after)| !before[at] && after[at])
                    .count();
                is_wrong |= flips as f64 > FLIPS_MAX * prompts.len() as f64;
                is_wrong |= change.is_padding && dearer > 0;
                writeln!(
                    report,
                    "{set}, {}, seed {seed}, from {threshold}: {flips} of {} flip, {dearer} to the dearer",
                    change.name,
                    prompts.len()
                )
                .unwrap();
            }
        }
    }
    assert!(!is_wrong, "\n{report}");
    println!("{report}");
}

#[test]
fn our_own_prompts_keep_their_routes() {
    let text = include_str!("../golden/decisions/prompts.txt");
    let prompts: Vec<String> = text
        .trim_end()
        .split("\n---\n")
        .map(str::to_owned)
        .collect();
    assert!(prompts.len() >= 120);
    check("our own", &prompts);
}

#[test]
fn prompts_of_public_sets_keep_their_routes() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !data.is_dir() {
        println!("{} is not there: not tried", data.display());
        return;
    }
    let first_columns = |path: &PathBuf| -> Vec<String> {
        let mut reader = csv::Reader::from_path(path).unwrap();
        reader
            .records()
            .map(|record| record.unwrap()[0].to_owned())
            .collect()
    };
    let inputs = |path: &PathBuf| -> Vec<String> {
        let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let examples = file["examples"].as_array().unwrap().iter();
        examples
            .map(|example| example["input"].as_str().unwrap().to_owned())
            .collect()
    };
    let of = |folder: &str, extension: &str, read: &dyn Fn(&PathBuf) -> Vec<String>| {
        let files = fs::read_dir(data.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> = files
            .filter(|path| path.extension().is_some_and(|it| it == extension))
            .collect();
        files.sort();
        let all: Vec<String> = files.iter().flat_map(read).collect();
        let step = all.len().div_ceil(PROMPTS_MAX).max(1);
        check(folder, &all.into_iter().step_by(step).collect::<Vec<_>>());
    };
    of("routellm/mmlu", "csv", &first_columns);
    of("banking77", "csv", &first_columns);
    of("bbh", "json", &inputs);
}
