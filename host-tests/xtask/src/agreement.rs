//! `cargo xtask agreement`: what llama.cpp generates greedily from 200 prompts, written down for a
//! test of the engine, which then needs no llama.cpp. The prompts are pieces of the texts that the
//! tokenizer is tested on: fifteen kinds, from prose to digits.

use crate::bench::llama_cpp;
use crate::error::XtaskError;
use crate::fetch;
use crate::signals::Interrupt;
use farthing_host_tests::{client, paths};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const MODELS: [&str; 2] = ["smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct"];
/// Its threads wait for each other at every step, so one is less slowed by other programs.
const THREADS: usize = 1;
const PROMPTS: usize = 200;
const PROMPT_BYTES: usize = 120;
/// Greedy tokens of each prompt.
const TOKENS: u64 = 16;

/// Asks llama.cpp and writes a file for each model.
pub fn run(interrupt: &Interrupt) -> Result<(), XtaskError> {
    fetch::everything(interrupt)?;
    let tests = paths::workspace_root().join("backend/tests");
    let prompts = prompts(&tests.join("data"))?;
    for model in MODELS {
        let server = llama_cpp(interrupt, model, THREADS)?;
        let address = server.address;
        let mut lines = String::new();
        for prompt in &prompts {
            let asked = prompt.clone();
            let line = interrupt.race(move || continuation(address, &asked))??;
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        let name = format!("continuations/llama.cpp-{model}.jsonl");
        let path = tests.join(name);
        fs::write(&path, lines).map_err(XtaskError::file("write", &path))?;
        eprintln!("agreement: {} ({} prompts)", path.display(), prompts.len());
    }
    Ok(())
}

/// Pieces of every text, as many of each.
fn prompts(data: &Path) -> Result<Vec<String>, XtaskError> {
    let failed = || XtaskError::file("read", data);
    let entries = fs::read_dir(data).map_err(failed())?;
    let mut texts: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    texts.sort();
    let each = PROMPTS.div_ceil(texts.len().max(1));
    let mut prompts = Vec::new();
    for path in &texts {
        let text = fs::read_to_string(path).map_err(failed())?;
        for index in 0..each {
            let start = text.floor_char_boundary(text.len() * index / each);
            let end = text.floor_char_boundary((start + PROMPT_BYTES).min(text.len()));
            prompts.push(text[start..end].trim_end().to_string());
        }
    }
    prompts.retain(|prompt| !prompt.is_empty());
    prompts.truncate(PROMPTS);
    Ok(prompts)
}

/// A prompt with its tokens and those that follow it.
fn continuation(address: SocketAddr, prompt: &str) -> Result<Value, XtaskError> {
    let tokenized = post(address, "/tokenize", &json!({"content": prompt}))?;
    let wish = json!({
        "prompt": tokenized["tokens"], "n_predict": TOKENS, "temperature": 0, "top_k": 1,
        "return_tokens": true, "cache_prompt": false,
    });
    let completed = post(address, "/completion", &wish)?;
    Ok(json!({
        "prompt": prompt, "prompt_tokens": tokenized["tokens"], "tokens": completed["tokens"],
    }))
}

fn post(address: SocketAddr, path: &str, body: &Value) -> Result<Value, XtaskError> {
    let response = client::post_json(address, path, &[("connection", "close")], &body.to_string())
        .map_err(XtaskError::io("llama.cpp's server"))?;
    match response.status {
        200 => Ok(response.json()),
        status => Err(XtaskError::Unexpected(format!(
            "{path} of llama.cpp's server said {status}: {}",
            response.text()
        ))),
    }
}
