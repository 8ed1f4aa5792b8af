//! What answering for less costs where it saves nothing: every request is new and too hard for the
//! small model. The same backend answers each question twice in turn: by way of the semantic cache,
//! the pre-router and a cascade, all learned from such questions, and by its large model alone.

use super::servers::{self, Server};
use super::tool::{self, json_lines};
use super::{Bench, QWEN, SMOLLM2};
use crate::bench::report::{Metric, median};
use crate::error::XtaskError;
use farthing_core::money::Nanousd;
use farthing_core::price::{Price, Rates, ServiceTier, Tokens};
use farthing_host_tests::process::run_folder;
use farthing_host_tests::{client, paths, prometheus};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Questions that the calibrations are learned from, no fewer than a pre-router needs.
const LEARNED: usize = 300;
/// Questions that are then asked.
const ASKED: usize = 40;
const ANSWER_TOKENS: u32 = 16;
/// What the optimisers may add.
const OVERHEAD_RATIO_MAX: f64 = 1.02;
const SEED: u64 = 20_260;
const EMBEDDING: &str = "all-MiniLM-L6-v2";

/// Dollars for a million tokens, prompt and answer: those of the shipped configuration.
const SMALL_USD: [&str; 2] = ["0.02", "0.04"];
const LARGE_USD: [&str; 2] = ["0.15", "0.60"];
/// Of the large model's price for a prompt, what MiniLM multiplies for a token (10.6 million
/// weights) of what the large model does (494 million).
const EMBEDDING_USD: &str = "0.0033";

/// One question and the number that answers it.
struct Question {
    text: String,
    number: u64,
}

/// What one answer took.
struct Answer {
    text: String,
    cost_nanousd: u64,
    /// Of that, what was spent besides the answer.
    besides_nanousd: u64,
    completion_tokens: u64,
    model: String,
    seconds: f64,
}

/// Learns, then asks every question both ways.
pub fn run(bench: &Bench<'_>) -> Result<Vec<Metric>, XtaskError> {
    let folder = run_folder("overhead")?;
    let mut questions = questions(LEARNED + ASKED);
    let asked = questions.split_off(LEARNED);
    learn(bench, &folder, &questions)?;
    let server = servers::backend_with(bench, "overhead", &config(&folder))?;
    let (mut ours, mut alone) = (Vec::new(), Vec::new());
    // The first request of each kind wakes what slept.
    for (at, question) in asked.iter().enumerate() {
        bench.interrupt.check()?;
        let turns = match at % 2 {
            0 => ["auto", QWEN],
            _ => [QWEN, "auto"],
        };
        for model in turns {
            let answer = ask(&server, model, question)?;
            match model {
                "auto" => ours.push(answer),
                _ => alone.push(answer),
            }
        }
    }
    let owed = owed(&server)?;
    let compared = ours.iter().filter(|answer| answer.besides_nanousd > 0);
    if compared.count() < ours.len() {
        let problem = "not every question was compared with others: nothing was measured";
        return Err(XtaskError::Unexpected(problem.to_string()));
    }
    Ok(metrics(&ours, &alone, owed))
}

fn metrics(ours: &[Answer], alone: &[Answer], owed: u64) -> Vec<Metric> {
    const PEER: &str = "large model alone";
    let cost = |answers: &[Answer]| answers.iter().map(|it| it.cost_nanousd).sum::<u64>();
    let seconds = |answers: &[Answer]| answers.iter().map(|it| it.seconds).collect::<Vec<_>>();
    let rate = |answers: &[Answer]| {
        let tokens: u64 = answers.iter().map(|it| it.completion_tokens).sum();
        tokens as f64 / seconds(answers).iter().sum::<f64>()
    };
    let pairs = ours.iter().zip(alone);
    let ratios: Vec<f64> = pairs
        .clone()
        .map(|(ours, alone)| ours.seconds / alone.seconds)
        .collect();
    let by_large = ours.iter().filter(|answer| answer.model == QWEN).count();
    let same = pairs
        .filter(|(ours, alone)| ours.text == alone.text)
        .count();
    let note = format!(
        "{by_large} of {} answered by the large model, {same} with the same words",
        ours.len()
    );
    let (our_cost, its_cost) = ((cost(ours) + owed) as f64, cost(alone) as f64);
    let ms = |answers| 1_000.0 * median(&seconds(answers));
    vec![
        Metric::new("engine", "overhead/cost", "nanousd")
            .beside(our_cost, PEER, its_cost)
            .ratio_at_most(OVERHEAD_RATIO_MAX)
            .note(format!("{note}; ratio {:.4}", our_cost / its_cost)),
        Metric::new("engine", "overhead/answer", "ms")
            .beside(ms(ours), PEER, ms(alone))
            .with_ratio(median(&ratios))
            .ratio_at_most(OVERHEAD_RATIO_MAX)
            .note(format!("median of ratios in turn {:.4}", median(&ratios))),
        Metric::new("engine", "overhead/rate", "tokens/s").beside(rate(ours), PEER, rate(alone)),
    ]
}

/// Sums of two numbers, no two questions the same: the small model cannot work them out, the large
/// one in part.
fn questions(count: usize) -> Vec<Question> {
    let mut state = SEED;
    let mut draw = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let things = [
        "boxes", "shelves", "chairs", "lamps", "books", "trays", "bags",
    ];
    let mut made: Vec<Question> = Vec::with_capacity(count);
    while made.len() < count {
        let (a, b, thing) = (120 + draw(780), 120 + draw(780), things[draw(7) as usize]);
        let text = format!(
            "A store had {a} {thing} and got {b} more. How many {thing} is that in all? Reply with the \
             number and nothing else."
        );
        if made.iter().all(|question| question.text != text) {
            let number = a + b;
            made.push(Question { text, number });
        }
    }
    made
}

/// The cascade's calibration and the pre-router, from the same answers of both models.
fn learn(bench: &Bench<'_>, folder: &Path, questions: &[Question]) -> Result<(), XtaskError> {
    let path = |name: &str| folder.join(name).display().to_string();
    let row = |question: &Question| json!({"prompt": question.text, "answer": question.number.to_string(), "check": "number"});
    write_lines(&folder.join("learned.jsonl"), questions.iter().map(row))?;
    let tier = |id: &str| format!("{id}={}", paths::model(id).display());
    let arguments = [
        ["calibrate", "cascade"].map(str::to_string).to_vec(),
        vec![path("learned.jsonl"), "--json".to_string()],
        vec!["--out".to_string(), path("auto.cascade")],
        vec!["--outcomes".to_string(), path("outcomes.jsonl")],
        vec!["--max-tokens".to_string(), ANSWER_TOKENS.to_string()],
        vec!["--tier".to_string(), tier(SMOLLM2)],
        vec!["--tier".to_string(), tier(QWEN)],
        vec!["--price".to_string(), SMALL_USD.join(",")],
        vec!["--price".to_string(), LARGE_USD.join(",")],
    ];
    let said = json_lines(bench.interrupt, arguments.concat())?;
    let accuracy = said
        .first()
        .map(|line| line["measured"]["accuracy"].clone());
    let accuracy = accuracy.unwrap_or_default();
    eprintln!("bench: overhead: {SMOLLM2} and {QWEN} are right in {accuracy}");
    let outcomes = folder.join("outcomes.jsonl");
    let text = fs::read_to_string(&outcomes).map_err(XtaskError::file("read", &outcomes))?;
    let both = tool::values(text.lines()).into_iter().map(|row| {
        let said = |tier: usize| row["tiers"][tier]["text"].clone();
        json!({"prompt": row["prompt"], "weak": said(0), "strong": said(1),
            "answer": row["answer"], "check": row["check"]})
    });
    write_lines(&folder.join("both.jsonl"), both)?;
    let arguments = [
        vec![
            "calibrate".to_string(),
            "router".to_string(),
            path("both.jsonl"),
        ],
        vec![
            "--json".to_string(),
            "--out".to_string(),
            path("pre-router"),
        ],
        vec![
            "--embedding-model".to_string(),
            paths::models().join(EMBEDDING).display().to_string(),
        ],
    ];
    json_lines(bench.interrupt, arguments.concat()).map(|_| ())
}

fn write_lines(path: &Path, lines: impl Iterator<Item = Value>) -> Result<(), XtaskError> {
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    fs::write(path, text).map_err(XtaskError::file("write", path))
}

fn config(folder: &Path) -> String {
    let model = |id: &str, file: &str, [input, output]: [&str; 2]| {
        format!(
            "- {{id: {id}, path: {file}, price: {{input_usd_per_mtok: {input}, \
             output_usd_per_mtok: {output}}}}}\n"
        )
    };
    let folder = folder.display();
    format!(
        "models:\n{}{}- {{id: {EMBEDDING}, path: {EMBEDDING}, price: {{input_usd_per_mtok: \
         {EMBEDDING_USD}}}}}\ncascades:\n  auto: {{calibration: {folder}/auto.cascade, pre_router: \
         {folder}/pre-router, worth_usd: 0.0004}}\nsemantic_cache: {{max_wrong: 0.01, path: \
         {folder}/semantic}}\nspeculative: {{lookup: false}}\n",
        model(SMOLLM2, &format!("{SMOLLM2}.gguf"), SMALL_USD),
        model(QWEN, &format!("{QWEN}.gguf"), LARGE_USD),
    )
}

/// Asks one question. Both ways are a tenant's, whose prompts share their first tokens, and the
/// large model's answers are neither looked up nor kept.
fn ask(server: &Server, model: &str, question: &Question) -> Result<Answer, XtaskError> {
    let body = json!({"model": model, "temperature": 0, "max_tokens": ANSWER_TOKENS,
        "messages": [{"role": "user", "content": question.text}]});
    let mut headers = vec![("content-type", "application/json")];
    match model {
        QWEN => headers.extend([
            ("x-farthing-tenant", "alone"),
            ("cache-control", "no-cache, no-store"),
        ]),
        _ => headers.push(("x-farthing-tenant", "bench")),
    }
    let started = Instant::now();
    let path = "/v1/chat/completions";
    let response = client::request(
        server.address,
        "POST",
        path,
        &headers,
        body.to_string().as_bytes(),
    );
    let response = response.map_err(XtaskError::io("a question"))?;
    let seconds = started.elapsed().as_secs_f64();
    let odd = |what: &str| XtaskError::Unexpected(format!("{what}: {}", response.text()));
    let json = response.json();
    let count = |field: &str| json["usage"][field].as_u64().ok_or_else(|| odd("no usage"));
    let model = response
        .header("x-farthing-model")
        .ok_or_else(|| odd("no model"))?;
    let rates = match model {
        QWEN => LARGE_USD,
        SMOLLM2 => SMALL_USD,
        _ => return Err(odd("an unknown model")),
    };
    let besides = response.header("x-farthing-wasted-usd").unwrap_or("0");
    let usd = |text: &str| Nanousd::parse_usd(text).map_err(|_| odd("an odd amount"));
    let tokens = Tokens {
        prompt: count("prompt_tokens")?,
        completion: count("completion_tokens")?,
        ..Tokens::default()
    };
    let price = Price::flat(Rates::plain(usd(rates[0])?.0, usd(rates[1])?.0));
    let cost = price.cost(ServiceTier::Standard, &tokens);
    let besides = usd(besides)?;
    Ok(Answer {
        text: json["choices"][0]["message"]["content"].to_string(),
        cost_nanousd: cost.saturating_add(besides).0,
        besides_nanousd: besides.0,
        completion_tokens: tokens.completion,
        model: model.to_string(),
        seconds,
    })
}

/// What was spent after the last answer.
fn owed(server: &Server) -> Result<u64, XtaskError> {
    let page = client::get(server.address, "/metrics").map_err(XtaskError::io("the metrics"))?;
    let owed = prometheus::sum(&page.text(), "farthing_overhead_owed_nanousd", "");
    let missing = || XtaskError::Unexpected("no farthing_overhead_owed_nanousd".to_string());
    owed.map(|owed| owed as u64).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_question_is_asked_twice() {
        let made = questions(LEARNED + ASKED);
        let texts: std::collections::HashSet<&str> =
            made.iter().map(|question| question.text.as_str()).collect();
        assert_eq!(texts.len(), made.len());
    }

    #[test]
    fn what_is_owed_counts_and_ratios_are_of_pairs() {
        let answer = |cost_nanousd, seconds, model: &str| Answer {
            text: "7".to_string(),
            cost_nanousd,
            besides_nanousd: 10,
            completion_tokens: 10,
            model: model.to_string(),
            seconds,
        };
        let ours = [answer(1_010, 1.0, QWEN), answer(1_010, 4.0, SMOLLM2)];
        let alone = [answer(1_000, 1.0, QWEN), answer(1_000, 2.0, QWEN)];
        let found = metrics(&ours, &alone, 30);
        assert_eq!((found[0].value, found[0].met), (2_050.0, Some(false)));
        assert_eq!((found[1].ratio, found[1].met), (1.5, Some(false)));
        let note = found[0].note.as_deref().unwrap_or_default();
        assert!(note.starts_with("1 of 2 answered by the large model, 2 with"));
        assert_eq!(metrics(&ours[..1], &alone[..1], 0)[0].met, Some(true));
    }
}
