//! Small vocabularies made here; equality with the reference tokenizer on real ones is tested in
//! the backend, which has the models.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use super::*;
use proptest::prelude::*;

/// A vocabulary of all bytes and the given merges, each of two byte strings.
fn bpe(merges: &[(&str, &str)], specials: &[(&str, SpecialKind)], pre: PreTokenizer) -> Bpe {
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let mut pairs = Vec::new();
    for (left, right) in merges {
        let id = |part: &str| {
            tokens
                .iter()
                .position(|token| token == part.as_bytes())
                .unwrap()
        };
        pairs.push((id(left) as u32, id(right) as u32));
        tokens.push(format!("{left}{right}").into_bytes());
    }
    let mut specials_with_ids = Vec::new();
    for (text, kind) in specials {
        let (id, text) = (tokens.len() as u32, (*text).to_owned());
        tokens.push(text.clone().into_bytes());
        specials_with_ids.push(SpecialToken {
            text,
            id,
            kind: *kind,
        });
    }
    Bpe::new(&tokens, &pairs, specials_with_ids, pre).unwrap()
}

fn check_pieces(pre: PreTokenizer, text: &str, pieces: &[&str]) {
    assert_eq!(
        pre.pieces(text).collect::<Vec<_>>(),
        pieces,
        "{pre:?} of {text:?}"
    );
}

#[test]
fn pieces_are_those_of_the_regular_expressions() {
    use PreTokenizer::{Gpt2, Llama3, Qwen2, SmolLm};
    let cases: &[(PreTokenizer, &str, &[&str])] = &[
        (Gpt2, "", &[]),
        (
            Gpt2,
            "Hello world's  end",
            &["Hello", " world", "'s", " ", " end"],
        ),
        (Gpt2, "a   ", &["a", "   "]),
        (Gpt2, "a 12 b", &["a", " 12", " b"]),
        (Gpt2, "it'S ''s", &["it", "'", "S", " ''", "s"]),
        (Gpt2, "\n\n\tx", &["\n\n", "\t", "x"]),
        (SmolLm, "a  12 b", &["a", "  ", "1", "2", " b"]),
        (SmolLm, "Ⅷ½", &["Ⅷ", "½"]),
        (SmolLm, " \n7", &[" \n", "7"]),
        (Qwen2, "I'M here'Ll'ſ", &["I", "'M", " here", "'Ll", "'ſ"]),
        (
            Qwen2,
            "x=1234\n\n  y",
            &["x", "=", "1", "2", "3", "4", "\n\n", " ", " y"],
        ),
        (
            Qwen2,
            "f(a);\r\n\tb !?\n",
            &["f", "(a", ");\r\n", "\tb", " !?\n"],
        ),
        (Qwen2, "a \n  \n  b", &["a", " \n  \n", " ", " b"]),
        (Llama3, "12345 6", &["123", "45", " ", "6"]),
        (Llama3, "你好 мир", &["你好", " мир"]),
    ];
    for (pre, text, pieces) in cases {
        check_pieces(*pre, text, pieces);
    }
}

#[test]
fn merges_follow_rank_then_position() {
    let vocabulary = bpe(
        &[("b", "c"), ("a", "b"), ("a", "bc")],
        &[],
        PreTokenizer::Gpt2,
    );
    assert_eq!(
        vocabulary.encode("abc", Specials::Plain),
        [258],
        "bc first, though ab is leftmost"
    );
    assert_eq!(vocabulary.encode("ab", Specials::Plain), [257]);
    let runs = bpe(&[("_", "_"), ("__", "__")], &[], PreTokenizer::Gpt2);
    assert_eq!(
        runs.encode("_____", Specials::Plain),
        [257, u32::from(b'_')]
    );
}

#[test]
fn llama3_takes_a_piece_that_is_a_token() {
    // Merges alone give "a" + "bc": the token "abc" is out of their reach.
    let tokens: Vec<Vec<u8>> = (0..=255)
        .map(|byte| vec![byte])
        .chain(["ab", "bc", "abc"].map(|token| token.as_bytes().to_vec()))
        .collect();
    let merges = [(98, 99), (97, 98)];
    let encode = |pre| {
        Bpe::new(&tokens, &merges, vec![], pre)
            .unwrap()
            .encode("abc", Specials::Plain)
    };
    assert_eq!(encode(PreTokenizer::Gpt2), [97, 257]);
    assert_eq!(encode(PreTokenizer::Llama3), [258]);
}

#[test]
fn control_tokens_are_text_unless_parsed() {
    use SpecialKind::{Control, UserDefined};
    let specials = [
        ("<|end|>", Control),
        ("<|end|>!", Control),
        ("<tool>", UserDefined),
    ];
    let vocabulary = bpe(&[], &specials, PreTokenizer::Gpt2);
    let spelled = |text: &str| text.bytes().map(u32::from).collect::<Vec<u32>>();
    let check = |text: &str, specials, expected: Vec<u32>| {
        assert_eq!(
            vocabulary.encode(text, specials),
            expected,
            "{text:?} {specials:?}"
        );
    };
    check("<|end|>", Specials::Parse, vec![256]);
    check("<|end|>!", Specials::Parse, vec![257]);
    check("<|end|>", Specials::Plain, spelled("<|end|>"));
    check("<tool>", Specials::Plain, vec![258]);
    check(
        "<<|end|>é",
        Specials::Parse,
        [vec![60, 256], spelled("é")].concat(),
    );
    check("<|end|", Specials::Parse, spelled("<|end|"));
}

#[test]
fn bad_vocabularies_are_refused() {
    let strings = |items: &[&str]| {
        items
            .iter()
            .map(|item| (*item).to_owned())
            .collect::<Vec<_>>()
    };
    let check = |tokens: &[&str], merges: &[&str], types: &[i32], pre: &str, expected: &str| {
        let error = Bpe::from_gguf_strings(&strings(tokens), &strings(merges), types, pre);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(
        &["a"],
        &[],
        &[1],
        "mystery",
        "the pre-tokenizer is \"mystery\"",
    );
    check(&[], &[], &[], "gpt-2", "no tokens");
    check(
        &["a", "b"],
        &[],
        &[1],
        "gpt-2",
        "2 tokens but 1 token types",
    );
    check(&["a", "b"], &["a b"], &[1, 1], "gpt-2", "merge 0 (\"a b\")");
    check(
        &["a", "b", "ab"],
        &["ab"],
        &[1, 1, 1],
        "gpt-2",
        "merge 0 (\"ab\")",
    );
    check(&["a", "b", "ab"], &["a b"], &[1, 1, 3], "gpt-2", "merge 0");
}

#[test]
fn a_byte_without_a_token_is_left_out() {
    let tokens = ["a", "b", "ab"].map(str::to_owned);
    let types = [1, 1, 1];
    let vocabulary = Bpe::from_gguf_strings(&tokens, &["a b".to_owned()], &types, "gpt-2").unwrap();
    assert_eq!(
        vocabulary.encode("axb", Specials::Plain),
        [2],
        "as the reference merges it"
    );
    assert!(!vocabulary.covers_byte(b'x'));
    assert_eq!(vocabulary.decode(&[2, 7, 0]), b"aba");
}

/// The definition: the lowest rank anywhere, leftmost first, until none is left.
fn merged_by_definition(text: &str, merges: &[(&str, &str)]) -> Vec<String> {
    let mut parts: Vec<String> = text.chars().map(String::from).collect();
    for (left, right) in merges {
        let mut at = 0;
        while at + 1 < parts.len() {
            if parts[at] == *left && parts[at + 1] == *right {
                let right = parts.remove(at + 1);
                parts[at].push_str(&right);
            }
            at += 1;
        }
    }
    parts
}

proptest! {
    /// Short pieces are scanned and long ones use the heap: both must agree with the definition.
    /// Each rule's parts exist before it, so applying rule after rule is the definition.
    #[test]
    fn both_merge_paths_agree_with_the_definition(text in "[abc]{0,120}") {
        let merges = [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "a"), ("aa", "aa"), ("c", "ab"),
            ("abc", "abc"), ("aaaa", "ab"), ("c", "c"), ("bc", "bc")];
        let vocabulary = bpe(&merges, &[], PreTokenizer::Gpt2);
        let encoded = vocabulary.encode(&text, Specials::Plain);
        let parts: Vec<String> = encoded
            .iter()
            .map(|id| String::from_utf8(vocabulary.decode_bytes(*id).unwrap().to_vec()).unwrap())
            .collect();
        prop_assert_eq!(parts, merged_by_definition(&text, &merges));
    }

    #[test]
    fn decoding_gives_back_any_text(text in any::<String>(), pre in 0..4) {
        let pre = [PreTokenizer::SmolLm, PreTokenizer::Qwen2, PreTokenizer::Gpt2,
            PreTokenizer::Llama3][pre as usize];
        let vocabulary = bpe(&[("a", "b"), (" ", "a")], &[("<|x|>", SpecialKind::Control)], pre);
        let encoded = vocabulary.encode(&text, Specials::Parse);
        prop_assert_eq!(vocabulary.decode(&encoded), text.as_bytes());
        prop_assert_eq!(pre.pieces(&text).collect::<String>(), text);
    }
}
