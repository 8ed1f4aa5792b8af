//! The pre-router: learned from two models' answers by the real command, loaded, and asked.

use farthing_backend::embed::Embedder;
use farthing_backend::pre_router::PreRouter;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.farthing/models/all-MiniLM-L6-v2")
}

fn farthing(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_farthing"))
        .args(arguments)
        .output()
        .expect("farthing runs")
}

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Sums, at which the weak model fails, and cities, which both know: their words alone tell them
/// apart. The right answers of sums are numbers, and some rows give what the models answered.
fn rows(first: usize, count: usize) -> String {
    let line = |number: usize| {
        let row = match number % 4 {
            0 => json!({"prompt": format!("What is {number} times 17?"), "weak": "It is 12.",
                "strong": format!("{} it is", number * 17), "answer": format!("{}", number * 17),
                "check": "number"}),
            1 => json!({"prompt": format!("Divide {number} by 3 and add 2."), "weak": false,
                "strong": true}),
            2 => json!({"prompt": format!("Name a famous church of city {number}."),
                "weak": true, "strong": true}),
            _ => json!({"prompt": format!("Which river flows through town {number}?"),
                "weak": "(B)", "strong": "B", "answer": "B", "check": "choice"}),
        };
        format!("{row}\n")
    };
    (first..first + count).map(line).collect()
}

/// A pre-router of two files of such rows, and what the command said of it.
fn calibrate(name: &str) -> (PathBuf, Value) {
    let folder = folder(name);
    let out = folder.join("pre-router.cbor");
    let files = [("one.jsonl", 0), ("two.jsonl", 1_000)].map(|(name, first)| {
        let file = folder.join(name);
        fs::write(&file, rows(first, 180)).expect("the rows");
        file
    });
    let model = model();
    let made = farthing(&[
        "calibrate",
        "router",
        text(&files[0]),
        text(&files[1]),
        "--embedding-model",
        text(&model),
        "--out",
        text(&out),
        "--json",
    ]);
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let said = serde_json::from_slice(&made.stdout).expect("one JSON line");
    (out, said)
}

#[test]
fn it_tells_what_gains_and_what_is_unknown() {
    let (file, said) = calibrate("pre-router-gains");
    assert_eq!(
        (&said["calibration"], &said["measured"]["rows"]),
        (&"pre-router".into(), &360.into())
    );
    for metric in ["apgr", "apgr_files_out"] {
        let value = said["measured"][metric].as_f64().expect("a number");
        assert!(value > 0.7, "{said}");
    }
    let pre_router = PreRouter::load(&file).expect("it loads");
    let embedder = Embedder::load(&model()).expect("the model loads");
    let gain = |prompt: &str| {
        let embedded = embedder.embed(&[prompt.to_owned()], || true);
        let embedded = embedded.expect("it embeds").expect("it goes on");
        pre_router.gain(prompt, &embedded.vectors[0])
    };
    assert_eq!(pre_router.width(), 384);
    let (sum, city) = (
        gain("What is 12 times 19?"),
        gain("Name a church of city 7."),
    );
    assert!(sum.value > 0.5 && city.value < 0.3, "{sum:?} {city:?}");
    assert!(sum.rank > city.rank && sum.is_known && city.is_known);
    assert!(
        sum.p_weak_right < 0.5 && city.p_weak_right > 0.7,
        "{sum:?} {city:?}"
    );
    assert!((sum.p_strong_right - sum.p_weak_right - sum.value).abs() < 1e-5);
    let strange = gain("zxqv wrtp \u{1f980}\u{1f980} grbl lorem");
    assert!(!strange.is_known, "{strange:?}");
    let again = PreRouter::decode(&pre_router.encode()).expect("it loads again");
    assert_eq!(again.encode(), fs::read(&file).expect("the file"));
}

/// Where the dear model is the worse one, nothing is sent to it.
#[test]
fn the_worse_model_is_not_bought() {
    let folder = folder("pre-router-trap");
    let files = [("one.jsonl", 0), ("two.jsonl", 1_000)].map(|(name, first)| {
        let file = folder.join(name);
        let row = |line: &str| {
            let mut row: Value = serde_json::from_str(line).expect("a row");
            let is_city = row["prompt"]
                .as_str()
                .is_some_and(|prompt| prompt.contains("city"));
            (row["weak"], row["strong"]) = (true.into(), is_city.into());
            format!("{row}\n")
        };
        let rows: String = rows(first, 180).lines().map(row).collect();
        fs::write(&file, rows).expect("the rows");
        file
    });
    let model = model();
    let svg = folder.join("curve.svg");
    let eval = farthing(&[
        "eval",
        "router",
        text(&files[0]),
        text(&files[1]),
        "--group-by-file",
        "--embedding-model",
        text(&model),
        "--svg",
        text(&svg),
        "--json",
    ]);
    let error = String::from_utf8_lossy(&eval.stderr);
    assert!(eval.status.success(), "{error}");
    let output = String::from_utf8_lossy(&eval.stdout).into_owned();
    let lines: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON lines"))
        .collect();
    assert_eq!(lines.len(), 3 * 4, "all, and each file");
    let value = |metric: &str| {
        let line = lines.iter().find(|line| line["metric"] == metric);
        line.map(|line| line["value"].clone())
    };
    assert_eq!(value("apgr"), Some(Value::Null), "there is no gap to close");
    assert_eq!(value("cost_share"), Some(json!(0.0)));
    assert_eq!(value("accuracy"), Some(json!(1.0)));
    assert!(
        fs::read_to_string(svg)
            .expect("a picture")
            .starts_with("<svg")
    );
}

#[test]
fn files_that_cannot_be_used_are_refused() {
    let (file, _) = calibrate("pre-router-refused");
    let bytes = fs::read(&file).expect("the file");
    let other = file.with_file_name("other.cbor");
    let truncated = bytes[..bytes.len() - 1].to_vec();
    let newer = [b"FPR9", &bytes[4..]].concat();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for (bytes, expected) in [
        (truncated, "or is damaged"),
        (newer, "is of another version"),
        (flipped, "or is damaged"),
        (b"hello".to_vec(), "is no pre-router"),
        (Vec::new(), "is no pre-router"),
    ] {
        fs::write(&other, bytes).expect("written");
        let error = PreRouter::load(&other).expect_err(expected).to_string();
        assert!(
            error.contains(expected) && error.contains("other.cbor"),
            "{error}"
        );
    }
    let few = file.with_file_name("few.jsonl");
    let model = model();
    for (rows, expected) in [
        (rows(0, 299), "299 rows are too few: 300 are needed"),
        (rows(0, 2) + "{\"prompt\": 1}\n", "few.jsonl: line 3"),
        (
            "{\"prompt\": \"x\", \"weak\": \"y\", \"strong\": true}\n".to_owned(),
            "has an answer of the weak model",
        ),
    ] {
        fs::write(&few, rows).expect("the rows");
        let refused = farthing(&[
            "calibrate",
            "router",
            text(&few),
            "--embedding-model",
            text(&model),
            "--out",
            text(&other),
        ]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && said.contains(expected),
            "{said}"
        );
    }
}
