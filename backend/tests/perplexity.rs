//! Perplexity: on a fixed text the engine's is that of a forward pass in f32 on candle's
//! dequantized weights, and the command prints it.

mod gguf_writer;
mod model_files;
mod reference_forward;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use farthing_backend::perplexity::{Perplexity, counted, load, measure, windows};
use farthing_kernels::ThreadPool;
use gguf_writer::tiny_model;
use model_files::{SMOLLM2, path};
use reference_forward::reference_likelihoods;
use serde_json::Value;

const TEXT: &str = include_str!("data/perplexity.txt");
/// By how much the two may differ: int8 activations and f16 keys and values cost 0.4 to 0.49 %, by
/// the order of the sums, and with it the processor.
const DIFFERENCE_MAX: f64 = 0.005;

/// The reference over the same windows.
fn reference(file: &Path, windows: &[Vec<u32>]) -> Perplexity {
    let window = windows[0].len();
    let likelihoods = windows.iter().map(|tokens| {
        reference_likelihoods(file, tokens, counted(window)).expect("candle reads the file")
    });
    let likelihoods: Vec<f64> = likelihoods.flatten().collect();
    Perplexity::of(&likelihoods, windows.len(), window)
}

#[track_caller]
fn check(file: &Path, text: &str, window: usize) {
    let mut model = load(file, window).expect("the model loads");
    let windows = windows(&model.info.tokenizer, text, window).expect("the text is long enough");
    let ours = measure(&ThreadPool::new(2), &mut model, text, window).expect("measured");
    let theirs = reference(file, &windows);
    let difference = ours.value / theirs.value - 1.0;
    println!("{}: {ours}; reference {theirs}", model.info.id);
    println!("difference {:+.3} %", difference * 100.0);
    assert_eq!(ours.tokens, windows.len() * (window - 1 - window / 2));
    assert_eq!((ours.tokens, ours.windows), (theirs.tokens, theirs.windows));
    assert!(difference.abs() < DIFFERENCE_MAX, "{difference}");
}

#[test]
fn smollm2_is_as_the_f32_forward_pass() {
    check(&path(&format!("{SMOLLM2}.gguf")), TEXT, 512);
}

fn tiny(name: &str, architecture: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut model = tiny_model(architecture);
    let base = format!("{architecture}.rope.freq_base");
    model.set(&base, gguf_writer::Value::F32(10_000.0));
    std::fs::write(&file, model.bytes()).expect("the target folder is writable");
    file
}

#[test]
fn tiny_models_are_as_the_f32_forward_pass() {
    for architecture in ["llama", "qwen2"] {
        let file = tiny(&format!("perplexity-{architecture}.gguf"), architecture);
        for window in [4, 5, 64, 100] {
            check(&file, &TEXT[..700], window);
        }
    }
}

fn perplexity(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_farthing"))
        .arg("perplexity")
        .args(arguments)
        .output()
        .expect("farthing runs")
}

#[test]
fn the_command_prints_what_was_measured() {
    let model = tiny("perplexity-command.gguf", "llama");
    let text = Path::new(env!("CARGO_TARGET_TMPDIR")).join("perplexity-command.txt");
    std::fs::write(&text, &TEXT[..400]).expect("the target folder is writable");
    let (model, text) = (
        model.to_str().expect("UTF-8"),
        text.to_str().expect("UTF-8"),
    );
    let arguments = [
        "--model", model, "--text", text, "--window", "100", "--json",
    ];
    let output = perplexity(&arguments);
    let line: Value = serde_json::from_slice(&output.stdout).expect("one JSON line");
    assert_eq!(
        (&line["tokens"], &line["windows"]),
        (&(4 * 49).into(), &4.into())
    );
    // Random weights foretell nothing: about as good as choosing among 256 bytes, or worse.
    assert!(line["value"].as_f64().expect("a number") > 100.0, "{line}");
    let output = perplexity(&arguments[..4]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.starts_with("perplexity ") && said.contains("1 windows of 400"),
        "{said}"
    );
    for (arguments, reason) in [
        (
            ["--model", model, "--text", "/nonexistent.txt"],
            "/nonexistent.txt",
        ),
        (
            ["--model", "/nonexistent.gguf", "--text", text],
            "/nonexistent.gguf",
        ),
        (["--model", model, "--text", model], "is not UTF-8"),
    ] {
        let output = perplexity(&arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(reason), "{stderr}");
    }
}
