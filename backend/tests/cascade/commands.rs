//! `farthing calibrate cascade` and `farthing eval cascade`, as a person runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use farthing_backend::cascade::calibration::CascadeCalibration;
use farthing_backend::cascade::outcomes;
use serde_json::Value;

use super::rows::{Behaviour, rows};

const TIERS: [Behaviour; 2] = [
    Behaviour {
        model: "small",
        right: 0.6,
        tells: 1.0,
        completion_tokens: 20,
    },
    Behaviour {
        model: "large",
        right: 0.85,
        tells: 0.3,
        completion_tokens: 20,
    },
];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cascade-{name}"))
}

fn farthing(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_farthing"))
        .args(arguments)
        .output()
        .expect("farthing runs")
}

/// What a command printed and complained of.
pub fn said(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr];
    both.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

#[test]
fn answers_that_were_collected_are_measured() {
    let (collected, picture) = (file("measured.jsonl"), file("measured.svg"));
    outcomes::write(&collected, &rows(800, &TIERS, 11)).expect("the rows");
    let output = farthing(&[
        "eval",
        "cascade",
        collected.to_str().expect("a path"),
        "--price",
        "0.01,0.04",
        "--price",
        "0.1,0.4",
        "--svg",
        picture.to_str().expect("a path"),
        "--json",
    ]);
    assert!(output.status.success(), "{}", said(&output));
    let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    let value = |metric: &str| {
        let line = lines.iter().find(|line| line["metric"] == metric);
        let line = line.unwrap_or_else(|| panic!("no {metric}"));
        line["value"].as_f64().unwrap_or(f64::NAN)
    };
    assert!(lines.iter().all(|line| line["eval"] == "cascade"));
    assert!((0.3..0.75).contains(&value("cost_share")), "{lines:?}");
    assert!(value("accuracy") > 0.82 && value("ece") < 0.06, "{lines:?}");
    let svg = fs::read_to_string(&picture).expect("a picture");
    assert!(svg.starts_with("<svg") && svg.contains("chosen"));
}

#[test]
fn a_file_is_made_that_can_be_read() {
    let (collected, made) = (file("made.jsonl"), file("made.cascade"));
    outcomes::write(&collected, &rows(200, &TIERS, 12)).expect("the rows");
    let (collected, out) = (
        collected.to_str().expect("a path"),
        made.to_str().expect("a path"),
    );
    let prices = ["--price", "0.01,0.04", "--price", "0.1,0.4"];
    let arguments = ["calibrate", "cascade", collected, "--out", out, "--json"];
    let output = farthing(&[arguments.as_slice(), prices.as_slice()].concat());
    assert!(output.status.success(), "{}", said(&output));
    let line: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!(line["measured"]["rows"], 200);
    let read = CascadeCalibration::load(&made).expect("a calibration");
    let models: Vec<&str> = read.tiers.iter().map(|tier| tier.model.as_str()).collect();
    assert_eq!(models, ["small", "large"]);
    // It is about answers, and holds none.
    assert_eq!(read.rows.len(), 200);
    let bytes = fs::read(&made).expect("the file");
    let question = b"Question number";
    assert!(
        !bytes
            .windows(question.len())
            .any(|window| window == question)
    );
}

#[test]
fn wrong_numbers_are_refused_by_their_option() {
    for (option, wrong, expected) in [
        (
            "--value",
            ["0", "-1", "nan", "much"],
            "is not a number above 0",
        ),
        (
            "--max-loss",
            ["0", "0.5", "nan", "-0.1"],
            "is not above 0 and below 0.5",
        ),
    ] {
        for wrong in wrong {
            let output = farthing(&[
                "eval",
                "cascade",
                "rows.jsonl",
                &format!("{option}={wrong}"),
            ]);
            let said = said(&output);
            assert!(!output.status.success(), "{said}");
            assert!(said.contains(option) && said.contains(expected), "{said}");
        }
    }
}

#[test]
fn wrong_rows_are_refused_by_their_line() {
    let check = |name: &str, text: &str, expected: &str| {
        let path = file(name);
        fs::write(&path, text).expect("the rows");
        let output = farthing(&["eval", "cascade", path.to_str().expect("a path")]);
        let said = said(&output);
        assert!(
            !output.status.success() && said.contains(expected),
            "{said}"
        );
    };
    let tier = |model: &str| {
        format!(
            r#"{{"model":"{model}","text":"a","is_complete":true,"prompt_tokens":1,"completion_tokens":1}}"#
        )
    };
    let row =
        |tiers: &str| format!(r#"{{"prompt":"p","answer":"a","check":"exact","tiers":[{tiers}]}}"#);
    check(
        "label.jsonl",
        r#"{"prompt":"a","check":"exact"}"#,
        "line 1: missing field `answer`",
    );
    check(
        "kind.jsonl",
        r#"{"prompt":"a","answer":"b","check":"guess"}"#,
        "line 1: unknown variant `guess`",
    );
    check(
        "empty.jsonl",
        r#"{"prompt":"","answer":"b","check":"exact"}"#,
        "line 1: has an empty prompt",
    );
    check(
        "prompt.jsonl",
        r#"{"prompt":7,"answer":"b","check":"exact"}"#,
        "line 1: the prompt is neither a text nor a list of messages",
    );
    let mixed = format!("{}\n{}\n", row(&tier("a")), row(&tier("b")));
    check(
        "mixed.jsonl",
        &mixed,
        "line 2: has answers of other models than the first line",
    );
    check(
        "few.jsonl",
        &row(&[tier("a"), tier("b")].join(",")),
        "rows are too few: 60 are needed",
    );
}

#[test]
fn prices_are_needed_for_models_that_are_not_here() {
    let collected = file("priceless.jsonl");
    outcomes::write(&collected, &rows(200, &TIERS, 13)).expect("the rows");
    let path = collected.to_str().expect("a path");
    let unknown = said(&farthing(&["eval", "cascade", path]));
    assert!(
        unknown.contains("what small costs is not known"),
        "{unknown}"
    );
    let one = said(&farthing(&["eval", "cascade", path, "--price", "1,1"]));
    assert!(one.contains("1 prices are given for 2 tiers"), "{one}");
    let odd = said(&farthing(&["eval", "cascade", path, "--price", "cheap"]));
    assert!(odd.contains("is not two amounts of dollars"), "{odd}");
}
