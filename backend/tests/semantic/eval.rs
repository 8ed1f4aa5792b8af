//! `farthing eval cache-pairs` and `cache-stream`, as a person runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn model() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.farthing/models/all-MiniLM-L6-v2");
    folder.display().to_string()
}

fn file(name: &str, content: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("eval-{name}"));
    fs::write(&path, content).expect("written");
    path
}

fn eval(command: &str, path: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_farthing"))
        .args(["eval", command, &path.display().to_string()])
        .args(["--embedding-model", &model()])
        .args(more)
        .output()
        .expect("farthing runs")
}

fn lines(output: &Output) -> Vec<Value> {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON lines"))
        .collect()
}

#[track_caller]
fn value(lines: &[Value], metric: &str) -> f64 {
    let line = lines
        .iter()
        .find(|line| line["metric"] == metric)
        .expect("it is measured");
    assert_eq!(line["baseline"], "cosine@0.90");
    let [low, high] = [0, 1].map(|at| line["ci95"][at].as_f64().expect("a bound"));
    let value = line["value"].as_f64().expect("a number");
    assert!((low..=high).contains(&value), "{line}");
    value
}

fn pairs() -> String {
    let cancel = |said: &str| {
        json!([{"role": "user", "content": said}, {"role": "assistant", "content": "End it?"},
            {"role": "user", "content": "cancel it"}])
    };
    let told = |told: &str| {
        let asks = json!({"role": "user", "content": "Who are you?"});
        json!([{"role": "system", "content": told}, asks])
    };
    let pair = |a: Value, b: Value, same: bool| {
        let line = json!({"a": a, "b": b, "same_answer": same, "note": "for people"});
        format!("{line}\n")
    };
    let texts = |a: &str, b: &str, same| pair(json!(a), json!(b), same);
    [
        texts(
            "How do I reset my password?",
            "How can I reset my password please?",
            true,
        ),
        texts(
            "Who wrote Jane Eyre?",
            "Who is the author of Jane Eyre?",
            true,
        ),
        texts("What's 15% of 200?", "What's 50% of 200?", false),
        texts("Is it safe to eat?", "Is it unsafe to eat?", false),
        "\n".to_owned(),
        pair(
            cancel("My gym is PulseFit"),
            cancel("I have Flixora at home"),
            false,
        ),
        pair(told("You are Ann."), told("You are Bob."), false),
    ]
    .concat()
}

#[test]
fn pairs_are_measured() {
    let path = file("pairs.jsonl", &pairs());
    let svg = file("pairs.svg", "");
    let picture = svg.display().to_string();
    let measured = lines(&eval("cache-pairs", &path, &["--json", "--svg", &picture]));
    assert_eq!(value(&measured, "repeats_served_share"), 1.0);
    assert_eq!(value(&measured, "traps_served_share"), 0.0);
    assert!(measured.iter().all(|line| line["eval"] == "cache-pairs"));
    let svg = fs::read_to_string(svg).expect("a picture");
    assert!(svg.starts_with("<svg") && svg.contains("verified") && svg.ends_with("</svg>\n"));
    assert!(eval("cache-pairs", &path, &[]).status.success());
}

#[test]
fn a_stream_is_measured_in_any_order() {
    let mut rows = "text,label\n".to_owned();
    for round in 0..6 {
        let please = ["", "Please ", "Hi, ", "Sorry, ", "Hello, ", "OK, "][round];
        for (text, label) in [
            ("how do I reset my password?", "password"),
            ("who wrote Jane Eyre?", "author"),
            ("do you accept PayPal?", "paypal"),
            ("what's 15% of 200?", "sum"),
        ] {
            rows += &format!("\"{please}{text}\",{label}\n");
        }
    }
    let path = file("stream.csv", &rows);
    let measured = lines(&eval("cache-stream", &path, &["--json"]));
    assert!(value(&measured, "hit_share") > 0.6, "{measured:?}");
    assert_eq!(value(&measured, "wrong_share"), 0.0);
    let shuffled = lines(&eval("cache-stream", &path, &["--json", "--shuffles", "5"]));
    assert_eq!(value(&shuffled, "bound_broken_share"), 0.0);
    let hits = shuffled
        .iter()
        .find(|line| line["metric"] == "hit_share")
        .expect("measured");
    assert_eq!(hits["sample"], 5 * 24);
}

#[test]
fn what_cannot_be_read_is_said_with_its_line() {
    let role = json!({"a": [{"role": "king", "content": "x"}], "b": "x", "same_answer": true});
    for (name, command, content, said) in [
        ("wrong.jsonl", "cache-pairs", "{\"a\": 1}\n", "line 1"),
        ("role.jsonl", "cache-pairs", &role.to_string(), "king"),
        ("one.csv", "cache-stream", "text\nalone\n", "line 2"),
    ] {
        let output = eval(command, &file(name, content), &[]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(said), "{error}");
    }
    let path = file("bound.csv", "text,label\na,b\n");
    assert!(
        !eval("cache-stream", &path, &["--max-wrong", "0.7"])
            .status
            .success()
    );
}

fn calibrate(path: &Path, out: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_farthing"))
        .args(["calibrate", "cache", &path.display().to_string()])
        .args(["--out", &out.display().to_string()])
        .args(["--embedding-model", &model()])
        .args(more)
        .output()
        .expect("farthing runs")
}

/// Questions with their answers, each asked in many ways.
fn answered(rounds: usize) -> String {
    const POLITE: [&str; 5] = ["", "Please ", "Hi, ", "Sorry, ", "Hello, "];
    const ASKED: [(&str, &str); 5] = [
        ("how do I reset my password?", "By the link."),
        ("who wrote Jane Eyre?", "Charlotte Bronte"),
        ("do you accept PayPal?", "Yes."),
        ("what's 15% of 200?", "30"),
        ("where is my parcel?", "On its way."),
    ];
    let row = |round: usize| {
        ASKED.map(|(text, answer)| {
            let asked = format!("{}{text}", POLITE[round % POLITE.len()]);
            format!("{}\n", json!({"prompt": asked, "answer": answer}))
        })
    };
    (0..rounds).flat_map(row).collect()
}

#[test]
fn a_cache_is_calibrated_by_ones_own_questions() {
    let out = file("own.cache", "");
    let path = file("answered.jsonl", &answered(100));
    let line = &lines(&calibrate(&path, &out, &["--json"]))[0];
    assert_eq!(
        (&line["calibrate"], &line["questions"]),
        (&json!("cache"), &json!(500))
    );
    assert_eq!(line["own"]["wrong"], 0);
    assert!(line["own"]["served"].as_u64() > Some(300), "{line}");
    assert!(calibrate(&path, &out, &[]).status.success());
    // What was learned is what a stream begins with.
    let mut rows = "text,label\n".to_owned();
    for round in 0..6 {
        let please = ["", "Please ", "Hi, ", "Sorry, ", "Hello, ", "OK, "][round];
        rows += &format!("\"{please}do you accept PayPal?\",paypal\n");
    }
    let stream = file("stream-of-own.csv", &rows);
    let with = ["--json", "--calibration", &out.display().to_string()];
    assert!(value(&lines(&eval("cache-stream", &stream, &with)), "hit_share") > 0.6);
}

#[test]
fn what_a_cache_cannot_be_calibrated_by_is_said() {
    let out = file("none.cache", "");
    let two = json!({"prompt": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        "answer": "x"});
    for (name, content, more, said) in [
        ("few.jsonl", answered(2), vec![], "299 are needed"),
        (
            "two.jsonl",
            two.to_string(),
            vec![],
            "line 1: `prompt` has 2 messages",
        ),
        (
            "none.jsonl",
            r#"{"prompt": "a", "answer": " "}"#.to_owned(),
            vec![],
            "`answer` is empty",
        ),
        (
            "share.jsonl",
            answered(2),
            vec!["--max-wrong", "0.7"],
            "--max-wrong must be",
        ),
    ] {
        let output = calibrate(&file(name, &content), &out, &more);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(said), "{error}");
    }
    let _ = fs::write(&out, "FSC0");
    let stream = file("unread.csv", "text,label\na,b\n");
    let with = ["--calibration", &out.display().to_string()];
    let output = eval("cache-stream", &stream, &with);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains("is no cache calibration of this version"),
        "{error}"
    );
    // Nor does a backend start with it.
    let yaml = format!(
        "listen: 127.0.0.1:0\nmodels: [{{id: m, path: {}}}]\nsemantic_cache: {{max_wrong: 0.01, path: \
         {}, calibration: {}}}\n",
        model(),
        file("none.farthing", "").display(),
        out.display()
    );
    let served = Command::new(env!("CARGO_BIN_EXE_farthing"))
        .args(["serve", "--config"])
        .arg(file("none.yaml", &yaml))
        .output()
        .expect("farthing runs");
    let error = String::from_utf8_lossy(&served.stderr).into_owned();
    assert_eq!(served.status.code(), Some(2), "{error}");
    assert!(error.contains("semantic_cache.calibration: "), "{error}");
}
