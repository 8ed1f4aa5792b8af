//! all-MiniLM-L6-v2 on real weights.

use farthing_backend::embed::{self, CandleBert, Embedder};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, Waker};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.farthing/models/all-MiniLM-L6-v2")
}

fn vectors(embedder: &Embedder, texts: &[&str]) -> (Vec<Vec<f32>>, usize) {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    let embedded = embedder
        .embed(&texts, || true)
        .expect("it embeds")
        .expect("it goes on");
    (embedded.vectors, embedded.tokens)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The expected numbers were computed in double precision by a NumPy implementation of BERT on the
/// same weights; those of the first sentence are also printed by the model's authors.
#[test]
fn vectors_are_those_of_the_reference() {
    let embedder = Embedder::load(&folder()).expect("the model loads");
    let check = |text: &str, tokens: usize, expected: [f32; 8]| {
        // Beside a longer text, so that this one is padded.
        let other = "A longer text, which shares the batch and makes padding necessary here.";
        let ((alone, counted), (padded, _)) = (
            vectors(&embedder, &[text]),
            vectors(&embedder, &[text, other]),
        );
        assert_eq!(counted, tokens);
        for vector in [&alone[0], &padded[0]] {
            assert_eq!(vector.len(), 384);
            assert!((dot(vector, vector) - 1.0).abs() < 1e-4);
            for (ours, reference) in vector.iter().zip(expected) {
                assert!(
                    (ours - reference).abs() < 1e-4,
                    "{text}: {ours} for {reference}"
                );
            }
        }
    };
    check(
        "This is an example sentence",
        7,
        [
            0.067657, 0.063496, 0.048713, 0.079305, 0.037448, 0.002653, 0.039375, -0.007098,
        ],
    );
    check(
        "The quick brown fox jumps over the lazy dog.",
        12,
        [
            0.043934, 0.058934, 0.048178, 0.077548, 0.026744, -0.037630, -0.002605, -0.059943,
        ],
    );
    check(
        "你好, wörld! 1,234.5 #hash",
        14,
        [
            0.010881, 0.045494, 0.001002, -0.079789, -0.006520, -0.083550, 0.078748, -0.000256,
        ],
    );
}

#[test]
fn paraphrases_are_closer_than_strangers() {
    let embedder = Embedder::load(&folder()).expect("the model loads");
    let check = |text: &str, paraphrase: &str, stranger: &str| {
        let (vectors, _) = vectors(&embedder, &[text, paraphrase, stranger]);
        let (near, far) = (dot(&vectors[0], &vectors[1]), dot(&vectors[0], &vectors[2]));
        assert!(near > far + 0.3, "{text}: {near} and {far}");
    };
    check(
        "How do I reset my password?",
        "I forgot my password, how can I change it?",
        "The recipe needs two eggs and some flour.",
    );
    check(
        "The flight was delayed by three hours.",
        "Our plane left three hours late.",
        "Sort the list in ascending order.",
    );
}

#[test]
fn batches_keep_the_order_of_the_texts() {
    let embedder = Embedder::load(&folder()).expect("the model loads");
    let texts: Vec<String> = (0..40)
        .map(|n| format!("{} {n}", "word ".repeat(n % 7)))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (together, tokens) = vectors(&embedder, &texts);
    let alone: Vec<_> = texts
        .iter()
        .map(|text| vectors(&embedder, &[text]))
        .collect();
    assert_eq!(
        tokens,
        alone.iter().map(|(_, tokens)| tokens).sum::<usize>()
    );
    for ((together, (alone, _)), text) in together.iter().zip(&alone).zip(&texts) {
        assert!(dot(together, &alone[0]) > 0.9999, "{text}");
    }
}

/// Alone and in any batch a text has the same bits, and the numbers that candle computes.
#[test]
fn vectors_are_those_of_candle() {
    let embedder = Embedder::load(&folder()).expect("the model loads");
    let candle = CandleBert::load(&folder()).expect("the model loads");
    let words = [
        "rivers",
        "of",
        "Norway",
        "42",
        "don't",
        "na\u{ef}ve",
        "x=y",
        "\u{4f60}",
    ];
    for count in [0, 1, 3, 7, 14, 15, 16, 17, 40, 200, 300] {
        let text: Vec<&str> = words
            .iter()
            .cycle()
            .skip(count)
            .take(count)
            .copied()
            .collect();
        let text = text.join(" ");
        let reference = candle
            .embed(std::slice::from_ref(&text))
            .expect("it embeds");
        let (alone, _) = vectors(&embedder, &[&text]);
        let (beside, _) = vectors(&embedder, &["another text", &text, "and a third one"]);
        assert_eq!(alone[0], beside[1], "{count} words");
        for (ours, candle) in alone[0].iter().zip(&reference[0]) {
            assert!(
                (ours - candle).abs() < 1e-5,
                "{count} words: {ours} for {candle}"
            );
        }
    }
}

#[test]
fn long_texts_are_cut_off_and_empty_ones_have_a_vector() {
    let embedder = Embedder::load(&folder()).expect("the model loads");
    let long = "word ".repeat(5_000);
    let (cut, tokens) = vectors(&embedder, &[&long, &"word ".repeat(254), ""]);
    assert_eq!(tokens, 256 + 256 + 2, "with [CLS] and [SEP]");
    assert!(dot(&cut[0], &cut[1]) > 0.9999);
    assert!((dot(&cut[2], &cut[2]) - 1.0).abs() < 1e-4);
    assert_eq!(
        embedder
            .embed(&[], || true)
            .expect("it embeds")
            .expect("it goes on")
            .tokens,
        0
    );
    let stopped = embedder
        .embed(&["text".to_owned()], || false)
        .expect("it embeds");
    assert!(stopped.is_none(), "a request that nobody waits for is left");
}

#[test]
fn the_handle_answers_and_survives_requests_that_leave() {
    let handle = embed::load("minilm", &folder()).expect("the model loads");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let texts = || vec!["one".to_owned(), "two".to_owned()];
    {
        let mut left = Box::pin(handle.embed(texts()));
        let polled = left.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending | Poll::Ready(Ok(_))));
    }
    let embedded = runtime.block_on(handle.embed(texts())).expect("an answer");
    assert_eq!(
        (handle.id.as_str(), embedded.vectors.len(), embedded.tokens),
        ("minilm", 2, 6)
    );
}

/// Loads the model with one of its files replaced, or removed.
fn check_refused(file: &str, replacement: Option<&[u8]>, expected: &str) {
    let changed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("damaged-embedding-model");
    std::fs::create_dir_all(&changed).expect("a folder for the test");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let bytes = std::fs::read(folder().join(name)).expect("the model's file");
        let bytes = if name == file {
            replacement
        } else {
            Some(bytes.as_slice())
        };
        if let Some(bytes) = bytes {
            std::fs::write(changed.join(name), bytes).expect("a file for the test");
        }
    }
    let error = Embedder::load(&changed)
        .map(|_| ())
        .expect_err(expected)
        .to_string();
    std::fs::remove_dir_all(&changed).expect("the test's folder is removed");
    assert!(error.contains(expected), "{error}");
}

#[test]
fn damaged_models_are_refused() {
    let weights = std::fs::read(folder().join("model.safetensors")).expect("the weights");
    let from = b"embeddings.LayerNorm.bias";
    let at = weights
        .windows(from.len())
        .position(|bytes| bytes == from)
        .expect("a tensor's name");
    let mut renamed = weights.clone();
    renamed[at] = b'E';
    let header_of_2_to_the_64 = b"\xff\xff\xff\xff\xff\xff\xff\xff{}";

    let weights_file = |bytes, expected| check_refused("model.safetensors", bytes, expected);
    weights_file(None, "model.safetensors: ");
    weights_file(Some(b""), "model.safetensors: ");
    weights_file(Some(header_of_2_to_the_64), "model.safetensors: ");
    weights_file(Some(&weights[..1 << 20]), "model.safetensors: ");
    weights_file(Some(&renamed), "embeddings.LayerNorm.bias");

    let config_file = |json: &str, expected| {
        check_refused("config.json", Some(json.as_bytes()), expected);
    };
    config_file("{", "config.json: ");
    config_file(
        r#"{"num_attention_heads": 7}"#,
        "7 attention heads do not divide",
    );
    config_file(r#"{"num_attention_heads": 0}"#, "out of range");
    config_file(r#"{"hidden_act": "relu"}"#, "hidden_act is \"relu\"");
    config_file(r#"{"pooling_mode_mean_tokens": false}"#, "mean pooling");

    check_refused("tokenizer.json", Some(b"{}"), "tokenizer.json: ");
}
