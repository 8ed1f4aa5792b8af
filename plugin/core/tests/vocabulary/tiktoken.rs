//! Counts and tokens of o200k_base and cl100k_base are tiktoken's, on texts of many kinds and on
//! strings made to break tokenizers.

use super::{adversarial, vocabulary};
use farthing_core::bpe::{Bpe, Scratch, Specials};
use farthing_core::vocabulary::Vocabulary;
use std::path::Path;
use tiktoken_rs::CoreBPE;

const SEED: u64 = 0x746f_6b65_6e73;
/// Strings of each of the twelve kinds in `adversarial`.
const STRINGS_PER_KIND: usize = 900;
const MEBIBYTE: usize = 1 << 20;

struct Pair {
    ours: Vocabulary,
    theirs: CoreBPE,
    scratch: Scratch,
}

impl Pair {
    fn both() -> [Pair; 2] {
        let theirs = [tiktoken_rs::o200k_base(), tiktoken_rs::cl100k_base()];
        let mut names = ["o200k_base", "cl100k_base"].into_iter();
        theirs.map(|theirs| Pair {
            ours: vocabulary(names.next().unwrap()),
            theirs: theirs.unwrap(),
            scratch: Scratch::default(),
        })
    }

    fn bpe(&self) -> &Bpe {
        self.ours.bpe()
    }

    /// Ours must be theirs, decode to the text, and be as many as are counted.
    fn check(&mut self, kind: &str, text: &str) {
        let expected = self.theirs.encode_ordinary(text);
        let bpe = self.ours.bpe();
        let what = || format!("{:?} {kind} {:.200?}", bpe.pre_tokenizer(), text);
        let ids = bpe.encode(text, Specials::Plain);
        assert_eq!(ids, expected, "{}", what());
        assert_eq!(bpe.decode(&ids), text.as_bytes(), "{}", what());
        let count = bpe.count(text, Specials::Plain, &mut self.scratch);
        assert_eq!(count, ids.len(), "{}", what());
        for limit in [0, ids.len() / 2, ids.len().saturating_sub(1), ids.len()] {
            let until = bpe.count_until(text, Specials::Plain, limit, &mut self.scratch);
            let known = (ids.len() <= limit).then_some(ids.len());
            assert_eq!(until, known, "up to {limit}: {}", what());
        }
    }
}

fn samples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../backend/tests/data");
    let files = std::fs::read_dir(folder).unwrap();
    let read = files.map(|file| {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        (
            path.file_stem().unwrap().to_string_lossy().into_owned(),
            text,
        )
    });
    read.collect()
}

#[test]
fn samples_of_every_kind() {
    let samples = samples();
    assert!(samples.len() >= 14, "{} samples", samples.len());
    for mut pair in Pair::both() {
        for (name, text) in &samples {
            pair.check(name, text);
            pair.check(name, &text.replace('\n', "\r\n"));
            pair.check(name, &text.to_uppercase());
            pair.check(name, text.trim_end());
            pair.check(name, &format!("{text}\n \n  "));
        }
    }
}

#[test]
fn adversarial_strings() {
    println!("seed {SEED:#x}");
    let strings = adversarial::strings(SEED, STRINGS_PER_KIND);
    assert!(strings.len() >= 10_000);
    for mut pair in Pair::both() {
        for (kind, text) in &strings {
            pair.check(kind, text);
        }
        let escapes = [
            "\\ud800",
            "\\udfff",
            "\\ud83d\\ude00",
            "\\u0000",
            "\\u2028x",
        ];
        for (index, first) in escapes.iter().enumerate() {
            pair.check(
                "escaped surrogates",
                &format!("\"{first}{}\"", escapes[4 - index]),
            );
            pair.check("escaped surrogates", &first.repeat(1 + 7 * index));
        }
    }
}

#[test]
fn every_character_between_every_kind_of_neighbour() {
    // All that are assigned; of the planes that are not, a sample.
    let assigned = |c: &char| matches!(u32::from(*c), 0..0x4_0000 | 0xe_0000..0xe_1000);
    let all = ('\0'..=char::MAX).enumerate();
    let chosen = all.filter(|(index, c)| assigned(c) || index % 251 == 0);
    let scalars: Vec<char> = chosen.map(|(_, c)| c).collect();
    for mut pair in Pair::both() {
        for some in scalars.chunks(512) {
            let beside = |c: &char| ['a', *c, 'B', *c, 'b', ' ', *c, '1', *c, '\'', *c, '\n'];
            let text: String = some.iter().flat_map(beside).collect();
            pair.check("characters", &text);
        }
    }
}

/// Quadratic merging would need hours for a mebibyte, and the reference does on some of these: it
/// gets a shorter run, and ours must be the same at its start as at any place.
#[test]
fn long_runs() {
    for mut pair in Pair::both() {
        for unit in [
            "_", " ", "a", "\n", "'", "7", "A", "é", "你", "👍", "_-", "ab ",
        ] {
            pair.check("a run", &unit.repeat(20_000 / unit.len()));
            let text = unit.repeat(MEBIBYTE / unit.len());
            let ids = pair.bpe().encode(&text, Specials::Plain);
            assert!(pair.bpe().decode(&ids) == text.as_bytes(), "{unit:?}");
            let count = pair
                .ours
                .bpe()
                .count(&text, Specials::Plain, &mut pair.scratch);
            assert_eq!(count, ids.len(), "{unit:?}");
        }
        pair.check("a mebibyte of underscores", &"_".repeat(MEBIBYTE));
    }
}

#[test]
fn long_pieces_of_random_letters() {
    for mut pair in Pair::both() {
        for alphabet in ["ab", "abcdefghij", "!?-_=", "你好世界的一是", "áéíóú", "aA"] {
            for seed in 0..24 {
                pair.check("random", &adversarial::random_text(seed, alphabet, 3_000));
            }
        }
    }
}
