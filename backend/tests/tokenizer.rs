//! Our byte-level BPE against the reference tokenizer, on the real vocabularies.

mod adversarial;
mod model_files;
mod tokenizer_oracle;

use farthing_backend::text::{Specials, Tokenizer, TokenizerSource};
use model_files::{BOTH, QWEN, SMOLLM2, tokenizer_source};
use std::path::Path;
use std::sync::LazyLock;
use tokenizer_oracle::{Added, oracle};

const SEED: u64 = 0x6661_7274_6869_6e67;
/// Strings of each of the kinds in `adversarial`: 13 * 770 for every model.
const STRINGS_PER_KIND: usize = 770;

/// Ours, the reference, and what both were built from.
struct Pair {
    source: TokenizerSource,
    ours: Tokenizer,
    plain: tokenizers::Tokenizer,
    parse: tokenizers::Tokenizer,
}

/// Built once for each model: the reference takes seconds to build.
static PAIRS: LazyLock<[Pair; 2]> = LazyLock::new(|| BOTH.map(|model| pair(model, None)));

fn pair(model: &str, pre: Option<&str>) -> Pair {
    let mut source = tokenizer_source(model);
    source.pre = pre.map_or(source.pre, str::to_owned);
    let ours = Tokenizer::new(&source).expect("the model's vocabulary is valid");
    let plain = oracle(&source, &source.pre, Added::UserDefined);
    let parse = oracle(&source, &source.pre, Added::All);
    Pair {
        source,
        ours,
        plain,
        parse,
    }
}

impl Pair {
    /// Ours must equal the reference in both modes and decode to the same bytes.
    fn check(&self, kind: &str, text: &str) {
        let modes = [
            (Specials::Plain, &self.plain),
            (Specials::Parse, &self.parse),
        ];
        for (specials, reference) in modes {
            let expected = reference
                .encode_fast(text, false)
                .expect("the reference encodes");
            let ours = self.ours.encode(text, specials);
            let what = || format!("{} {kind} {specials:?} {text:?}", self.source.pre);
            assert_eq!(ours, expected.get_ids(), "{}", what());
            assert_eq!(self.ours.decode(&ours), self.encodable(text), "{}", what());
        }
    }

    /// The text's bytes without those that the vocabulary has no token for; nearly always all.
    fn encodable(&self, text: &str) -> Vec<u8> {
        text.bytes()
            .filter(|byte| self.ours.bpe().covers_byte(*byte))
            .collect()
    }
}

fn samples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let files = std::fs::read_dir(folder).expect("the samples are part of the repository");
    let read = files.map(|file| {
        let file = file.expect("a readable folder");
        let text = std::fs::read_to_string(file.path()).expect("samples are UTF-8");
        (file.file_name().to_string_lossy().into_owned(), text)
    });
    read.collect()
}

#[test]
fn samples_encode_as_the_reference_does() {
    let samples = samples();
    assert!(samples.len() >= 10, "{} samples", samples.len());
    for pair in PAIRS.iter() {
        for (name, text) in &samples {
            pair.check(name, text);
            pair.check(name, &text.replace('\n', "\r\n"));
            pair.check(name, text.trim_end());
        }
    }
}

#[test]
fn adversarial_strings_encode_as_the_reference_does() {
    println!("seed {SEED:#x}");
    let strings = adversarial::strings(SEED, STRINGS_PER_KIND);
    assert!(strings.len() >= 10_000);
    // The other two pre-tokenizers have no model here: Qwen's vocabulary serves them as well.
    let others = [(QWEN, "llama-bpe"), (SMOLLM2, "gpt-2")];
    let others = others.map(|(model, pre)| pair(model, Some(pre)));
    for pair in PAIRS.iter().chain(&others) {
        for (kind, text) in &strings {
            pair.check(kind, text);
        }
    }
}

#[test]
fn every_character_has_the_class_that_the_reference_gives_it() {
    // All that are assigned; of the planes that are not, a sample.
    let assigned = |c: &char| matches!(u32::from(*c), 0..0x4_0000 | 0xe_0000..0xe_1000);
    let all = ('\0'..=char::MAX).enumerate();
    let chosen = all.filter(|(index, c)| assigned(c) || index % 251 == 0);
    let scalars: Vec<char> = chosen.map(|(_, c)| c).collect();
    for pair in PAIRS.iter() {
        for some in scalars.chunks(512) {
            // Letters and numbers join or part from what stands beside them.
            let text: String = some
                .iter()
                .flat_map(|c| ['a', *c, ' ', *c, '1', '!'])
                .collect();
            let expected = pair
                .plain
                .encode_fast(text.as_str(), false)
                .expect("encodes");
            assert_eq!(
                pair.ours.encode(&text, Specials::Plain),
                expected.get_ids(),
                "{}: {:#x}..={:#x}",
                pair.source.pre,
                u32::from(some[0]),
                u32::from(some[some.len() - 1])
            );
        }
    }
}

/// Quadratic merging would need hours for these. The reference is slow as well, so it reads one of
/// them whole and of the others less.
#[test]
fn a_mebibyte_of_one_byte_encodes_as_the_reference_does() {
    for pair in PAIRS.iter() {
        pair.check("a mebibyte", &"_".repeat(1 << 20));
        for unit in [" ", "a", "\n", "'", "7"] {
            pair.check("a long run", &unit.repeat(20_000));
            let text = unit.repeat(1 << 20);
            let ids = pair.ours.encode(&text, Specials::Plain);
            assert!(
                pair.ours.decode(&ids) == text.as_bytes(),
                "{} {unit:?}",
                pair.source.pre
            );
        }
    }
}

#[test]
fn control_tokens_are_named_by_the_file() {
    let check = |pair: &Pair, ends: &[&str], control: &str, ordinary: &str| {
        let tokenizer = &pair.ours;
        let id = |text: &str| tokenizer.encode(text, Specials::Parse)[0];
        for end in ends {
            assert!(tokenizer.is_end_of_generation(id(end)), "{end}");
        }
        let (control, word) = (id(control), id(ordinary));
        assert!(tokenizer.is_control(control) && !tokenizer.is_end_of_generation(control));
        assert!(!tokenizer.is_control(word) && !tokenizer.is_end_of_generation(word));
        assert_eq!(tokenizer.token_bytes(word), ordinary.as_bytes());
        assert!(tokenizer.token_bytes(u32::MAX).is_empty());
        assert_eq!(
            tokenizer.encode_prompt("a", Specials::Parse).len(),
            1,
            "nothing is added"
        );
    };
    let [smollm2, qwen] = &*PAIRS;
    check(
        smollm2,
        &["<|im_end|>", "<|endoftext|>"],
        "<|im_start|>",
        " the",
    );
    check(
        qwen,
        &["<|im_end|>", "<|endoftext|>", "<|file_sep|>"],
        "<|im_start|>",
        " the",
    );
}

#[test]
fn a_prompt_begins_with_the_token_that_the_file_asks_for() {
    let mut source = PAIRS[0].source.clone();
    source.add_bos = true;
    let tokenizer = Tokenizer::new(&source).expect("the vocabulary is valid");
    let bos = source.bos.expect("the file names one");
    let word = tokenizer.encode("a", Specials::Plain);
    assert_eq!(
        tokenizer.encode_prompt("a", Specials::Parse),
        [vec![bos], word.clone()].concat()
    );
    let spelled = "<|im_start|>a";
    assert_eq!(
        tokenizer.encode_prompt(spelled, Specials::Parse),
        [vec![bos], word].concat()
    );
}

#[test]
fn unusable_vocabularies_are_refused() {
    let source = &PAIRS[0].source;
    let check = |change: fn(&mut TokenizerSource), expected: &str| {
        let mut source = source.clone();
        change(&mut source);
        let error = Tokenizer::new(&source).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(
        |source| source.model = "llama".to_owned(),
        "tokenizer.ggml.model is \"llama\"",
    );
    check(
        |source| source.pre = "mystery".to_owned(),
        "the pre-tokenizer is \"mystery\"",
    );
    check(
        |source| source.eos = Some(49_152),
        "eos_token_id is 49152, outside of the vocabulary",
    );
    check(
        |source| source.token_types.truncate(49_151),
        "49152 tokens but 49151 token types",
    );
    check(
        |source| source.merges.push("x".to_owned()),
        "merge 48900 (\"x\")",
    );
}
