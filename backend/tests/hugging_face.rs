//! Vocabularies of Hugging Face's `tokenizer.json`: the same as the GGUF files of the same models
//! hold, and refused where they would not be.

mod model_files;
mod tokenizer_oracle;

use std::process::Command;

use farthing_backend::text::{Specials, Tokenizer, TokenizerSource};
use farthing_core::vocabulary::Vocabulary;
use model_files::{BOTH, SMOLLM2, path, tokenizer_source};
use serde_json::{Value, json};
use tokenizer_oracle::{Added, oracle};

/// Its `tokenizer.json`, as the reference writes it.
fn hugging_face(source: &TokenizerSource) -> Value {
    let written = oracle(source, &source.pre, Added::All).to_string(false);
    serde_json::from_str(&written.expect("the reference writes itself")).expect("JSON")
}

fn read(file: &Value) -> Result<TokenizerSource, String> {
    TokenizerSource::from_hugging_face(file.to_string().as_bytes()).map_err(|e| e.to_string())
}

#[test]
fn it_is_the_vocabulary_of_the_same_models_gguf_file() {
    for model in BOTH {
        let expected = tokenizer_source(model);
        let found = read(&hugging_face(&expected)).expect("a known vocabulary");
        assert_eq!(found.pre, expected.pre, "{model}");
        assert_eq!(found.merges, expected.merges, "{model}");
        let ours = Tokenizer::new(&found).expect("it can be used");
        let theirs = Tokenizer::new(&expected).expect("it can be used");
        for text in [
            "The cat's 12 hats\n\n  \u{e9}\u{4f60}\u{1f600} fn main() {}",
            "<|im_start|>user\nx<|im_end|>",
        ] {
            for specials in [Specials::Plain, Specials::Parse] {
                let expected = theirs.encode(text, specials);
                assert_eq!(ours.encode(text, specials), expected, "{model} {text:?}");
            }
        }
    }
}

#[test]
fn other_ways_of_writing_the_same_are_read() {
    let file = hugging_face(&tokenizer_source(SMOLLM2));
    let expected = read(&file).expect("a known vocabulary");
    let mut older = file.clone();
    let merges = older["model"]["merges"].as_array_mut().expect("merges");
    for merge in merges {
        let pair = merge.as_array().expect("a pair");
        *merge = json!(format!(
            "{} {}",
            pair[0].as_str().unwrap(),
            pair[1].as_str().unwrap()
        ));
    }
    older["normalizer"] = json!({"type": "NFC"});
    assert_eq!(read(&older).expect("the same").merges, expected.merges);
}

#[test]
fn what_cuts_or_changes_text_in_other_ways_is_refused() {
    let file = hugging_face(&tokenizer_source(SMOLLM2));
    let cases = [
        (
            "/normalizer",
            json!({"type": "Lowercase"}),
            "its normalizer is \"Lowercase\"",
        ),
        ("/model/type", json!("Unigram"), "its model is \"Unigram\""),
        (
            "/model/byte_fallback",
            json!(true),
            "it falls back to bytes",
        ),
        (
            "/model/end_of_word_suffix",
            json!("</w>"),
            "a prefix or a suffix",
        ),
        ("/pre_tokenizer", json!(null), "it has no pre_tokenizer"),
        (
            "/pre_tokenizer",
            json!({"type": "Whitespace"}),
            "in a way that is not known",
        ),
        (
            "/pre_tokenizer",
            json!({"type": "ByteLevel", "add_prefix_space": true}),
            "a space before",
        ),
        (
            "/added_tokens/0/id",
            json!(4_000_000_000_u32),
            "a token with the id 4000000000",
        ),
        ("/model/vocab", json!([]), "it is no tokenizer.json"),
    ];
    for (place, value, expected) in cases {
        let mut changed = file.clone();
        *changed.pointer_mut(place).expect(place) = value;
        let error = read(&changed).expect_err(place);
        assert!(error.contains(expected), "{place}: {error}");
    }
}

#[test]
fn the_command_makes_files_that_the_filter_reads() {
    let folder = std::env::temp_dir().join(format!("farthing-vocabulary-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let json = folder.join("tokenizer.json");
    let source = tokenizer_source(SMOLLM2);
    std::fs::write(&json, hugging_face(&source).to_string()).expect("written");
    let template = folder.join("chat.jinja");
    std::fs::write(&template, source.chat_template.as_deref().expect("one")).expect("written");
    let run = |from: &std::path::Path, more: &[&std::path::Path]| {
        let out = folder.join("out.vocabulary");
        let mut command = Command::new(env!("CARGO_BIN_EXE_farthing"));
        command
            .arg("vocabulary")
            .arg("--from")
            .arg(from)
            .arg("--out")
            .arg(&out);
        if let [template] = more {
            command.arg("--chat-template").arg(template);
        }
        let done = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        done.status
            .success()
            .then(|| std::fs::read(&out).expect("a file"))
            .ok_or(said)
    };
    let of_json = run(&json, &[&template]).expect("made");
    let vocabulary = Vocabulary::from_file(of_json.into()).expect("the filter reads it");
    assert!(vocabulary.framing().is_some());
    let of_gguf = run(&path(&format!("{SMOLLM2}.gguf")), &[]).expect("made");
    let vocabulary = Vocabulary::from_file(of_gguf.into()).expect("the filter reads it");
    assert!(vocabulary.framing().is_some());
    std::fs::write(&json, "{}").expect("written");
    let error = run(&json, &[]).expect_err("no vocabulary");
    assert!(
        error.contains("tokenizer.json: tokenizer: it is no tokenizer.json"),
        "{error}"
    );
    std::fs::remove_dir_all(&folder).expect("removed");
}
