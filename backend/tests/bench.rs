//! `farthing bench` as a person runs it, on a tiny model: every figure that was asked for is there,
//! and what cannot be measured is refused by the name of its argument.

mod gguf_writer;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gguf_writer::tiny_model;
use serde_json::Value;

fn bench(model: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_farthing"))
        .arg("bench")
        .arg("--model")
        .arg(model)
        .args(arguments)
        .output()
        .expect("farthing runs")
}

fn tiny() -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-tiny.gguf");
    std::fs::write(&file, tiny_model("llama").bytes()).expect("the target folder is writable");
    file
}

#[test]
fn every_figure_is_printed_and_written() {
    let json = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench.jsonl");
    let arguments = "--threads 2 --prompt-tokens 40 --generate-tokens 12 --sequences 1,3 \
        --repetitions 4 --step-tokens 32";
    let mut arguments: Vec<&str> = arguments.split_whitespace().collect();
    arguments.extend(["--json", json.to_str().expect("UTF-8")]);
    let output = bench(&tiny(), &arguments);
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read_to_string(&json).expect("the file was written");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let once = [
        "load_ms",
        "load_open_ms",
        "load_weights_ms",
        "load_tokenizer_ms",
        "load_cache_ms",
        "weights_mib",
        "kv_mib",
        "rss_mib",
        "peak_rss_mib",
    ];
    let once = once.map(|metric| (metric, None, 1));
    let measured = [1, 3].into_iter().flat_map(|sequences| {
        [
            ("prefill_tokens_per_s", Some(sequences), 4),
            ("ttft_ms", Some(sequences), 4 * sequences),
            ("decode_tokens_per_s", Some(sequences), 4),
        ]
    });
    for (metric, sequences, values) in once.into_iter().chain(measured) {
        let found = lines.iter().find(|line| {
            line["metric"] == metric
                && line["sequences"].as_u64() == sequences.map(|s: usize| s as u64)
        });
        let line = found.unwrap_or_else(|| panic!("no {metric} of {sequences:?} in {text}"));
        assert_eq!(
            (&line["bench"], &line["model"]),
            (&"engine".into(), &"bench-tiny".into())
        );
        assert_eq!(line["values"], values, "{line}");
        assert_eq!(
            (&line["threads"], &line["prompt_tokens"]),
            (&2.into(), &40.into()),
            "{line}"
        );
        let number = |field: &str| line[field].as_f64().expect("a number");
        assert!(number("value") > 0.0, "{line}");
        let within = number("min") <= number("value") && number("value") <= number("max");
        assert!(within && line["unit"].is_string(), "{line}");
        assert!(table.contains(metric), "{table} lacks {metric}");
    }
    assert_eq!(lines.len(), 9 + 6, "{text}");
}

#[test]
fn what_cannot_be_measured_is_refused_by_name() {
    let model = tiny();
    for (arguments, code, reason) in [
        ("--sequences 0", 2, "--sequences"),
        ("--sequences 1,100000", 2, "--sequences"),
        ("--generate-tokens 1", 2, "--generate-tokens"),
        ("--prompt-tokens 65536", 2, "--prompt-tokens"),
        ("--prompt-tokens 99999999", 2, "--prompt-tokens"),
        ("--threads 0", 2, "--threads"),
        ("--threads 10000", 2, "--threads"),
        ("--repetitions 9999999", 2, "--repetitions"),
        ("--step-tokens 9999999", 2, "--step-tokens"),
        ("--json /nonexistent/out", 1, "/nonexistent/out"),
    ] {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let output = bench(&model, &arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
    }
    let output = bench(Path::new("/nonexistent.gguf"), &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("/nonexistent.gguf"), "{stderr}");
}

/// On a tenth of the usual measurements: what counts here is that all figures are there.
#[test]
fn an_embedding_model_is_measured_beside_candle() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.farthing/models/all-MiniLM-L6-v2");
    let json = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-embedding.jsonl");
    let path = json.to_str().expect("UTF-8");
    let output = bench(&model, &["--repetitions", "1", "--json", path]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = std::fs::read_to_string(&json).expect("the file was written");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(table.contains("texts of 32 tokens"), "{table}");
    for (metric, has_peer, has_target) in [
        ("load_ms", false, false),
        ("embed_text_ms", true, true),
        ("embed_batch_tokens_per_s", true, false),
        ("look_up_100000_ms", false, true),
        ("embed_and_look_up_ms", false, false),
    ] {
        let line = lines.iter().find(|line| line["metric"] == metric);
        let line = line.unwrap_or_else(|| panic!("no {metric} in {text}"));
        assert!(line["value"].as_f64().expect("a number") > 0.0, "{line}");
        assert_eq!(line["peer_value"].is_number(), has_peer, "{line}");
        assert_eq!(line["met"].is_boolean(), has_target, "{line}");
        assert!(table.contains(metric), "{table} lacks {metric}");
    }
}
