//! `cargo xtask questions`: writes published question sets as the rows that `farthing calibrate
//! cascade` and `farthing eval cascade` read, a JSON object a line, so that what the README says of
//! them can be measured again. The sets are read as their authors publish them.

mod bbh;
mod gsm8k;
mod headlines;

use crate::cli::{QuestionSet, QuestionsOptions};
use crate::error::XtaskError;
use serde_json::Value;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Reads the set and writes its rows to standard output.
pub fn run(options: &QuestionsOptions) -> Result<(), XtaskError> {
    let from = options.from.as_path();
    let rows = match options.set {
        QuestionSet::Headlines => headlines::rows(from, options.rows),
        QuestionSet::Gsm8k => gsm8k::rows(from, options.rows),
        QuestionSet::Bbh => bbh::rows(from, options.rows),
    }?;
    let mut out = io::stdout().lock();
    let mut written = rows.iter().map(|row| writeln!(out, "{row}"));
    written
        .try_for_each(|row| row)
        .map_err(XtaskError::io("cannot write the rows"))
}

fn read(path: &Path) -> Result<String, XtaskError> {
    fs::read_to_string(path).map_err(XtaskError::file("read", path))
}

/// What is wrong with a file of a set.
fn unexpected(path: &Path, problem: &str) -> XtaskError {
    XtaskError::Unexpected(format!("{}: {problem}", path.display()))
}

/// The text in a field.
fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A folder with a few rows of each set.
    fn sets() -> std::path::PathBuf {
        let folder =
            std::env::temp_dir().join(format!("farthing-questions-{}", std::process::id()));
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
            fs::write(path, text).expect("a writable folder");
        };
        write(
            "HEADLINES_train.csv",
            "\"Q: gold, \"\"up\"\"\nA:\",up,1\n\"Q: gold falls\nA:\",down,2\n",
        );
        write(
            "prompt_HEADLINES_prefix_e8.txt",
            "Which way?\n\nQ: x\nA: up\n\n",
        );
        write(
            "gsm8k.jsonl",
            "{\"question\": \"1 + 1?\", \"answer\": \"It is 2.\\n#### 2\"}\n",
        );
        let examples: Vec<Value> = (0..5)
            .map(|n| json!({"input": format!("not {n}"), "target": if n == 4 {"(B)"} else {"no"}}))
            .collect();
        write(
            "bbh/negation.json",
            &json!({"examples": examples}).to_string(),
        );
        write(
            "bbh/cot-prompts/negation.txt",
            "canary\n-----\nSay no.\n\nQ: ...\n",
        );
        folder
    }

    #[test]
    fn each_set_becomes_rows() {
        let folder = sets();
        let gold = headlines::rows(&folder, None).expect("headlines");
        assert_eq!(
            gold[0],
            json!({"prompt": "Which way?\n\nQ: x\nA: up\n\nQ: gold, \"up\"\nA:", "answer": "up",
                "check": "exact"})
        );
        assert_eq!(
            headlines::rows(&folder, Some(1)).expect("headlines").len(),
            1
        );
        let sums = gsm8k::rows(&folder.join("gsm8k.jsonl"), None).expect("sums");
        assert_eq!(sums[0]["answer"], "2");
        assert_eq!(sums[0]["check"], "number");
        let tasks = bbh::rows(&folder.join("bbh"), None).expect("tasks");
        let roles: Vec<&str> = tasks[1]["prompt"]
            .as_array()
            .expect("messages")
            .iter()
            .map(|message| message["role"].as_str().expect("a role"))
            .collect();
        assert_eq!(
            roles.join(" "),
            "user assistant user assistant user assistant user"
        );
        assert_eq!(tasks[1]["prompt"][0]["content"], "Say no.\n\nnot 0");
        assert_eq!(tasks[1]["prompt"][6]["content"], "not 4");
        assert_eq!(
            (&tasks[0]["check"], &tasks[1]["check"]),
            (&json!("exact"), &json!("choice"))
        );
        let missing = bbh::rows(&folder.join("nowhere"), None).expect_err("no such folder");
        assert!(missing.to_string().contains("nowhere"), "{missing}");
        fs::remove_dir_all(&folder).expect("a writable folder");
    }

    #[test]
    fn what_is_no_row_is_said_with_its_line() {
        let name = format!("farthing-no-questions-{}.jsonl", std::process::id());
        let path = std::env::temp_dir().join(name);
        let good = "{\"question\": \"1?\", \"answer\": \"#### 1\"}\n\n";
        for (bad, said) in [("{}", "line 3: no `question`"), ("no", "line 3: expected")] {
            fs::write(&path, format!("{good}{bad}\n")).expect("a writable folder");
            let error = gsm8k::rows(&path, None)
                .expect_err("it is none")
                .to_string();
            assert!(error.contains(said), "{error}");
            assert_eq!(
                gsm8k::rows(&path, Some(1)).expect("the first is one").len(),
                1
            );
        }
        fs::remove_file(&path).expect("a writable folder");
    }
}
