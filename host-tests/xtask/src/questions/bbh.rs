//! BIG-Bench Hard (MIT): tasks of reasoning. Before each question stand what its task is, as the
//! authors' prompts say it, and the task's first examples with nothing but their answers.

use super::{read, text, unexpected};
use crate::error::XtaskError;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const SHOTS: usize = 3;

/// `count` rows, as many of each task that `folder` has a file of, and at least one; all without a
/// count. They go task by task.
pub fn rows(folder: &Path, count: Option<usize>) -> Result<Vec<Value>, XtaskError> {
    let entries = fs::read_dir(folder).map_err(XtaskError::file("read", folder))?;
    let mut tasks: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    tasks.sort();
    let each = count.map_or(usize::MAX, |count| (count / tasks.len().max(1)).max(1));
    let mut rows = Vec::new();
    for task in &tasks {
        rows.extend(of_task(folder, task, each)?);
    }
    Ok(rows)
}

fn of_task(folder: &Path, path: &Path, count: usize) -> Result<Vec<Value>, XtaskError> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let described = read(&folder.join(format!("cot-prompts/{name}.txt")))?;
    // A warning and a line of dashes come first.
    let description = described.lines().nth(2).unwrap_or_default();
    let task: Value =
        serde_json::from_str(&read(path)?).map_err(|error| unexpected(path, &error.to_string()))?;
    let examples = task.get("examples").and_then(Value::as_array);
    let pairs: Option<Vec<(&str, &str)>> = examples.and_then(|examples| {
        let pair = |example| Some((text(example, "input")?, text(example, "target")?));
        examples.iter().map(pair).collect()
    });
    let pairs = pairs.ok_or_else(|| {
        unexpected(
            path,
            "`examples` is missing, or one has no `input` or no `target`",
        )
    })?;
    let (shots, questions) = pairs.split_at(SHOTS.min(pairs.len()));
    let row = |(input, target): &(&str, &str)| {
        let mut messages = Vec::new();
        for (shot, answer) in shots {
            messages.push(json!({"role": "user", "content": shot}));
            messages.push(json!({"role": "assistant", "content": answer}));
        }
        messages.push(json!({"role": "user", "content": input}));
        if let Some(first) = messages.first_mut() {
            let question = text(first, "content").unwrap_or_default();
            first["content"] = format!("{description}\n\n{question}").into();
        }
        json!({"prompt": messages, "answer": target, "check": check(target)})
    };
    Ok(questions.iter().take(count).map(row).collect())
}

/// How an answer is compared with this label.
fn check(label: &str) -> &'static str {
    let is_letter = label.starts_with('(') && label.ends_with(')') && label.len() == 3;
    match (is_letter, label.parse::<f64>()) {
        (true, _) => "choice",
        (false, Ok(_)) => "number",
        (false, Err(_)) => "exact",
    }
}
