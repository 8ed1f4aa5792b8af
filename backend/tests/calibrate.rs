//! `farthing calibrate router` and `farthing eval router`, as a person runs them.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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

/// Sums, at which the weak model fails, and greetings, at which both are right.
fn rows(count: usize) -> String {
    let mut csv = "prompt,weak,strong\n".to_owned();
    for number in 0..count {
        csv += &match number % 3 {
            0 => format!("\"What is {number} + 7 times 1,{number}?\",False,True\n"),
            1 => format!("Say hello to number {number},True,True\n"),
            _ => format!("\"A \"\"quoted\"\"\nquestion, {number}\",True,True\n"),
        };
    }
    csv
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_calibration_is_made_and_measured() {
    let folder = folder("calibrate");
    let files = ["one.csv", "two.csv"].map(|name| folder.join(name));
    for file in &files {
        fs::write(file, rows(300)).expect("the rows");
    }
    let out = folder.join("gain.cbor");
    let paths = [files[0].to_str().unwrap(), files[1].to_str().unwrap()];
    let made = farthing(&[
        "calibrate",
        "router",
        paths[0],
        paths[1],
        "--out",
        out.to_str().unwrap(),
        "--json",
    ]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let line: Value = serde_json::from_slice(&made.stdout).expect("one JSON line");
    assert_eq!(line["measured"]["rows"], 600);
    assert!(line["measured"]["apgr"].as_f64().unwrap() > 0.8, "{line}");
    let decoded = farthing_core::base64::decode(line["base64"].as_str().unwrap());
    assert_eq!(decoded, fs::read(&out).ok());

    let eval = farthing(&[
        "eval",
        "router",
        paths[0],
        paths[1],
        "--calibration",
        out.to_str().unwrap(),
        "--group-by-file",
        "--json",
    ]);
    assert!(eval.status.success(), "{}", text(&eval.stderr));
    let lines: Vec<Value> = text(&eval.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON lines"))
        .collect();
    let lines: Vec<Value> = (lines.into_iter())
        .filter(|line| line["metric"] == "apgr")
        .collect();
    let counted: Vec<_> = lines.iter().map(|line| line["rows"].as_u64()).collect();
    assert_eq!(counted, [Some(600), Some(300), Some(300)]);
    for line in &lines {
        assert_eq!(
            (&line["eval"], &line["metric"], &line["baseline"]),
            (&"router".into(), &"apgr".into(), &"length".into())
        );
        let [low, high] = [0, 1].map(|at| line["ci95"][at].as_f64().unwrap());
        assert!(
            (low..=high).contains(&line["value"].as_f64().unwrap()),
            "{line}"
        );
    }
}

#[test]
fn the_same_rows_make_the_same_file() {
    let folder = folder("calibrate-twice");
    let file = folder.join("rows.csv");
    fs::write(&file, rows(400)).expect("the rows");
    let [once, again] = ["a.cbor", "b.cbor"].map(|name| {
        let out = folder.join(name);
        let made = farthing(&[
            "calibrate",
            "router",
            file.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ]);
        assert!(
            text(&made.stdout).contains("  calibration: "),
            "{}",
            text(&made.stderr)
        );
        fs::read(out).expect("a calibration")
    });
    assert_eq!(once, again);
}

/// What is wrong is said with its file and line.
#[test]
fn wrong_rows_are_refused() {
    let folder = folder("calibrate-wrong");
    let file = folder.join("rows.csv");
    let swapped = rows(300).replace("False,True", "True,False");
    for (rows, expected) in [
        (rows(299), "299 rows are too few: 300 are needed"),
        (
            "prompt,weak\nWhy?,True\n".to_owned(),
            "rows.csv: line 1: has 2 columns",
        ),
        (
            rows(3) + "Why?,maybe,True\n",
            "rows.csv: line 6: says \"maybe\" of the weak model",
        ),
        (
            rows(3) + "Why?,True\n",
            "rows.csv: line 6: has no column for the strong model",
        ),
        (swapped, "there is nothing to gain"),
    ] {
        fs::write(&file, rows).expect("the rows");
        let out = folder.join("never.cbor");
        let refused = farthing(&[
            "calibrate",
            "router",
            file.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ]);
        let said = text(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains(expected),
            "{expected}: {said}"
        );
        assert!(!out.exists());
    }
    let missing = farthing(&["eval", "router", folder.join("none.csv").to_str().unwrap()]);
    assert!(
        text(&missing.stderr).contains("none.csv"),
        "{}",
        text(&missing.stderr)
    );
}
