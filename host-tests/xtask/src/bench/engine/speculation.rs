//! A small model that guesses ahead for a large one of the same vocabulary, and looking up how the
//! sequence went on before: tokens a second beside the large model alone. Guessing may not change
//! an answer, which is checked here, too.

use super::servers::{self, Server};
use super::{Bench, QWEN};
use crate::bench::report::{Metric, median};
use crate::error::XtaskError;
use crate::fetch;
use farthing_host_tests::{client, paths};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Instant;

const ROUNDS: usize = 3;
const ANSWER_TOKENS: u64 = 64;
const LARGE: &str = "qwen2.5-coder-1.5b-instruct";

/// From what repeats the prompt to what does not.
const PROMPTS: [(&str, &str); 3] = [
    (
        "edit",
        "Repeat this code with the variable x renamed to total:\n\
         fn add(a: &[u32]) -> u32 {\n    let mut x = 0;\n    for v in a {\n        x += v;\n    \
         }\n    x\n}",
    ),
    (
        "code",
        "Write a Rust function that returns the n-th Fibonacci number, with tests.",
    ),
    (
        "prose",
        "Explain in plain words why the sky is blue and sunsets are red.",
    ),
];

/// Ways to guess ahead.
const WAYS: [Way; 3] = [Way::Alone, Way::Draft, Way::Lookup];

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Alone,
    Draft,
    Lookup,
}

/// One answer, and how many of its tokens came in a second, prefill included.
struct Answer {
    text: String,
    tokens_per_s: f64,
}

// === impl Way ===

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Alone => "alone",
            Way::Draft => "draft_model",
            Way::Lookup => "lookup",
        }
    }

    /// The backend's configuration.
    fn config(self) -> String {
        let draft = match self {
            Way::Draft => format!(", draft_model: {QWEN}"),
            Way::Alone | Way::Lookup => String::new(),
        };
        let large = paths::large_model();
        let small = paths::models().join(format!("{QWEN}.gguf"));
        format!(
            "models:\n- {{id: {LARGE}, path: {}{draft}}}\n- {{id: {QWEN}, path: {}}}\n\
             speculative: {{lookup: {}}}\n",
            large.display(),
            small.display(),
            self == Way::Lookup,
        )
    }
}

/// Measures every way in turns.
pub fn run(bench: &Bench<'_>) -> Result<Vec<Metric>, XtaskError> {
    fetch::large_model(bench.interrupt)?;
    let start = |way: Way| servers::backend_with(bench, way.name(), &way.config());
    let servers: Vec<Server> = WAYS.into_iter().map(start).collect::<Result<_, _>>()?;
    let mut metrics = Vec::new();
    for (kind, prompt) in PROMPTS {
        let mut rates = [const { Vec::new() }; WAYS.len()];
        for _ in 0..ROUNDS {
            let mut said: Option<String> = None;
            for (server, rates) in servers.iter().zip(&mut rates) {
                let address = server.address;
                let answer = bench.interrupt.race(move || answer(address, prompt))??;
                rates.push(answer.tokens_per_s);
                let first = said.get_or_insert_with(|| answer.text.clone());
                if *first != answer.text {
                    let message = format!("guessing ahead changed the answer to {kind:?}");
                    return Err(XtaskError::Unexpected(message));
                }
            }
        }
        let [alone, draft, lookup] = &rates;
        for (way, with) in [(Way::Draft, draft), (Way::Lookup, lookup)] {
            let ratios: Vec<f64> = with
                .iter()
                .zip(alone)
                .map(|(with, alone)| with / alone)
                .collect();
            let name = format!("{LARGE}/{}/{kind}", way.name());
            let metric = Metric::new("engine", name, "tokens/s");
            metrics.push(
                metric
                    .beside(median(with), "no guesses", median(alone))
                    .with_ratio(median(&ratios)),
            );
        }
    }
    Ok(metrics)
}

fn answer(address: SocketAddr, prompt: &str) -> Result<Answer, XtaskError> {
    let body = json!({
        "model": LARGE, "messages": [{"role": "user", "content": prompt}],
        "max_tokens": ANSWER_TOKENS, "temperature": 0,
    });
    let started = Instant::now();
    let response = client::post_json(address, "/v1/chat/completions", &[], &body.to_string())
        .map_err(XtaskError::io("an answer of the benchmark"))?;
    let seconds = started.elapsed().as_secs_f64();
    let answer = response.json();
    let text = answer["choices"][0]["message"]["content"].as_str();
    let tokens = answer["usage"]["completion_tokens"].as_f64();
    let (Some(text), Some(tokens)) = (text, tokens) else {
        let message = format!("{address} said {}: {}", response.status, response.text());
        return Err(XtaskError::Unexpected(message));
    };
    Ok(Answer {
        text: text.to_string(),
        tokens_per_s: tokens / seconds,
    })
}
