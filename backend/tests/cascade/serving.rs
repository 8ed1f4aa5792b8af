//! A cascade in the real server: SmolLM2 first, Qwen after it. What was learned is made up: an
//! answer that ends by itself is right, one that is cut off is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use farthing_backend::cascade::fit::fit;
use farthing_backend::cascade::outcomes::Row;
use farthing_backend::cascade::signals::Token;
use serde_json::{Value, json};

use super::client::{Reply, post};
use super::rows::{Behaviour, rows};
use super::server::{CHAT, Server};

const LARGE: &str = "qwen2.5-coder-0.5b-instruct";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cascade-serving-{name}"))
}

/// What is made up of the first tier.
#[derive(Clone, Copy)]
enum RightIf {
    /// It is right where it says all it has to say.
    Complete,
    /// It is right where it has many tokens, whether it is cut off or not.
    Long,
    /// It is right where it has few.
    Short,
}

/// Rows in which the first tier says nothing by its tokens, and the second is always right.
fn made_up(first: &'static str, truth: RightIf) -> Vec<Row> {
    let tiers = [
        Behaviour {
            model: first,
            right: 0.7,
            tells: 0.0,
            completion_tokens: 12,
        },
        Behaviour {
            model: LARGE,
            right: 1.0,
            tells: 0.0,
            completion_tokens: 12,
        },
    ];
    let long = Behaviour {
        completion_tokens: 40,
        ..tiers[0]
    };
    let mut made = rows(300, &tiers, 21);
    let longer = rows(300, &[long, tiers[1]], 22);
    for (row, longer) in made.iter_mut().zip(longer) {
        let is_right = row.tiers[0].text == "yes";
        let is_long = match truth {
            RightIf::Complete => false,
            RightIf::Long => is_right,
            RightIf::Short => !is_right,
        };
        if is_long {
            row.tiers[0] = longer.tiers[0].clone();
        }
        let small = &mut row.tiers[0];
        small.is_complete = matches!(truth, RightIf::Complete) && is_right;
        small.right = Some(is_right);
        small.text = "It is so".to_owned();
        for token in &mut small.tokens {
            if let Token::Measured(end, ..) = token {
                *end = 8;
            }
        }
        row.tiers[1].right = Some(true);
        row.tiers[1].text = "It is not so".to_owned();
    }
    made
}

/// What a right answer is worth to the cascades of most tests.
const WORTH: &str = ", worth_usd: 0.001";

/// A server of a cascade of these rows and fields, whose first model is configured by this line.
fn serve(name: &str, made: &[Row], first: &str, cascade: &str, more: &str) -> Server {
    let calibration = file(&format!("{name}.cascade"));
    fs::write(&calibration, fit(made).expect("enough rows").encode()).expect("the file");
    let yaml = format!(
        "
models:
- {first}
- id: {LARGE}
  path: {MODELS}/{LARGE}.gguf
  price: {{input_usd_per_mtok: 0.1, output_usd_per_mtok: 0.4}}
- {{id: all-MiniLM-L6-v2, path: {MODELS}/all-MiniLM-L6-v2}}
cascades:
  auto: {{calibration: {}{cascade}}}
threads: 2
{more}",
        calibration.display()
    );
    Server::of(&yaml)
}

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.farthing/models");
const PRICE: &str = "price: {input_usd_per_mtok: 0.01, output_usd_per_mtok: 0.04}";

fn own() -> String {
    format!("{{id: {CHAT}, path: {MODELS}/{CHAT}.gguf, {PRICE}}}")
}

fn start(name: &str, more: &str) -> Server {
    serve(name, &made_up(CHAT, RightIf::Complete), &own(), WORTH, more)
}

fn question(more: Value) -> Value {
    let mut body = json!({
        "model": "auto",
        "messages": [{"role": "user", "content": "Count: one, two, three"}],
        "max_tokens": 64,
        "temperature": 0,
        "stop": [".", "three"],
    });
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("fields").clone());
    body
}

fn ask(server: &Server, body: &Value) -> Reply {
    let tenant = [("x-farthing-tenant", "alice")];
    let reply = server.ask(&post("/v1/chat/completions", &tenant, body.to_string()));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply
}

fn counted(server: &Server, name: &str, model: &str) -> u64 {
    server.metric(&format!(
        "farthing_cascade_{name}{{cascade=\"auto\",model=\"{model}\"}}"
    ))
}

#[test]
fn an_answer_is_kept_or_asked_for_again_and_the_client_sees_one_model() {
    let server = start("steps", "");
    let kept = ask(&server, &question(json!({})));
    assert_eq!(kept.header("x-farthing-model"), Some(CHAT));
    assert_eq!(kept.header("x-farthing-tried"), None);
    assert_eq!(kept.json()["model"], CHAT);
    assert_eq!(kept.json()["choices"][0]["finish_reason"], "stop");
    // Cut off after two tokens, it is none: the larger model is asked, and only it is seen.
    let short = json!({"max_tokens": 2, "stop": null});
    let asked = ask(&server, &question(short.clone()));
    assert_eq!(asked.header("x-farthing-model"), Some(LARGE));
    assert_eq!(asked.header("x-farthing-tried"), Some(CHAT));
    assert_eq!(asked.json()["model"], LARGE);
    let alone = ask(
        &server,
        &question(json!({"model": LARGE, "max_tokens": 2, "stop": null})),
    );
    let text = |reply: &Reply| reply.json()["choices"][0]["message"]["content"].clone();
    assert_eq!(text(&asked), text(&alone));
    // What was asked in vain is in the bill: the prompt and two tokens at SmolLM2's price.
    let prompt = kept.json()["usage"]["prompt_tokens"]
        .as_u64()
        .expect("a count");
    let wasted: f64 = asked
        .header("x-farthing-wasted-usd")
        .expect("the waste")
        .parse()
        .expect("dollars");
    let expected = (prompt * 10 + 2 * 40) as f64 / 1e9;
    assert!((wasted - expected).abs() < 1.1e-9, "{wasted} {expected}");
    assert_eq!(counted(&server, "answers_total", CHAT), 1);
    assert_eq!(counted(&server, "answers_total", LARGE), 1);
    assert_eq!(counted(&server, "escalated_total", CHAT), 1);
    // A stream is one model's from its first event to its last.
    let streamed = |more: Value| {
        let mut body = question(more);
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        ask(&server, &body)
    };
    for (reply, model) in [(streamed(json!({})), CHAT), (streamed(short), LARGE)] {
        let text = reply.text();
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        let events: Vec<Value> = text
            .split("\n\n")
            .filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok())
            .collect();
        assert!(events.iter().all(|event| event["model"] == model), "{text}");
        assert!(events.last().expect("events")["usage"]["prompt_tokens"].is_u64());
    }
    server.end();
}

#[test]
fn what_cannot_be_judged_is_for_the_dearest_model() {
    let server = start("judged", "");
    for more in [json!({"n": 2}), json!({"logprobs": true})] {
        let reply = ask(&server, &question(more));
        assert_eq!(reply.header("x-farthing-model"), Some(LARGE));
        assert_eq!(reply.header("x-farthing-tried"), None);
    }
    let listed = server.ask(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(listed.text().contains("\"auto\""), "{}", listed.text());
    server.end();
}

#[test]
fn answers_are_kept_under_the_name_of_the_cascade() {
    let store = file("kept.redb");
    let _ = fs::remove_file(&store);
    let server = start(
        "kept",
        &format!("response_store: {{path: {}}}\n", store.display()),
    );
    let first = ask(&server, &question(json!({})));
    assert_eq!(first.header("x-farthing-source"), Some("model"));
    for _ in 0..1_000 {
        if server.metric("farthing_response_store_written_total") == 1 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let again = ask(&server, &question(json!({})));
    assert_eq!(again.header("x-farthing-source"), Some("response-store"));
    assert_eq!(again.json(), first.json());
    server.end();
}

/// The large model is always right on these rows, the small one where its answer is complete: to be
/// as often right for the least is to keep what is complete.
#[test]
fn without_a_worth_the_cheapest_that_is_as_often_right_is_served() {
    let rows = made_up(CHAT, RightIf::Complete);
    let server = serve("no-worth", &rows, &own(), "", "");
    let short = json!({"max_tokens": 2, "stop": null});
    for (more, model) in [(json!({}), CHAT), (short, LARGE)] {
        let reply = ask(&server, &question(more));
        assert_eq!(reply.header("x-farthing-model"), Some(model));
    }
    server.end();
}

/// An answer of many tokens, which no stop string ends.
fn long(stream: bool) -> Value {
    question(json!({"max_tokens": 48, "stop": null, "stream": stream,
        "messages": [{"role": "user", "content": "Tell me a long story about the sea."}]}))
}

#[test]
fn a_stream_begins_once_its_first_tokens_say_that_it_will_be_kept() {
    let rows = made_up(CHAT, RightIf::Long);
    let server = serve("early-kept", &rows, &own(), WORTH, "");
    let reply = ask(&server, &long(true));
    assert_eq!(reply.header("x-farthing-model"), Some(CHAT));
    assert_eq!(reply.header("x-farthing-tried"), None);
    let text = reply.text();
    let (events, end) = text.split_at(text.len() - "data: [DONE]\n\n".len());
    assert_eq!(end, "data: [DONE]\n\n");
    assert!(events.contains("\"finish_reason\":\"length\""), "{text}");
    // What is streamed from there on is what a client gets who asks the model by its name.
    let streamed: String = events
        .split("\n\n")
        .filter_map(|event| serde_json::from_str::<Value>(event.strip_prefix("data: ")?).ok())
        .filter_map(|event| Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    let mut alone = long(false);
    alone["model"] = json!(CHAT);
    let alone = ask(&server, &alone).json();
    assert_eq!(alone["choices"][0]["message"]["content"], streamed.as_str());
    server.end();
}

#[test]
fn an_answer_is_given_up_once_its_first_tokens_say_that_it_is_wrong() {
    let rows = made_up(CHAT, RightIf::Short);
    let server = serve("early-lost", &rows, &own(), WORTH, "");
    let reply = ask(&server, &long(false));
    assert_eq!(reply.header("x-farthing-model"), Some(LARGE));
    assert_eq!(reply.header("x-farthing-tried"), Some(CHAT));
    assert_eq!(counted(&server, "abandoned_total", CHAT), 1);
    assert_eq!(counted(&server, "escalated_total", CHAT), 0);
    let wasted = reply.header("x-farthing-wasted-usd").expect("the waste");
    let wasted = (wasted.parse::<f64>().expect("dollars") * 1e9).round();
    // Sixteen tokens or the few more that one step brought, and not all forty-eight.
    let mut alone = long(false);
    alone["model"] = json!(CHAT);
    let usage = ask(&server, &alone).json()["usage"].clone();
    let prompt = usage["prompt_tokens"].as_f64().expect("a count");
    let generated = (wasted - prompt * 10.0) / 40.0;
    assert!((16.0..48.0).contains(&generated), "{wasted}");
    assert_eq!(usage["completion_tokens"], 48);
    server.end();
}

#[test]
fn a_provider_is_a_tier_whose_answers_are_judged_by_their_text() {
    let upstream = Server::start("");
    let provider = format!(
        "providers: [{{name: second, api: openai, base_url: \"http://{}/v1\"}}]\n",
        upstream.address
    );
    let near = format!("{{id: near, provider: second, upstream_model: {CHAT}, {PRICE}}}");
    let rows = made_up("near", RightIf::Complete);
    let server = serve("provider", &rows, &near, WORTH, &provider);
    let kept = ask(&server, &question(json!({})));
    assert_eq!(kept.header("x-farthing-source"), Some("provider"));
    assert_eq!(kept.header("x-farthing-model"), Some("near"));
    // One that streams gets the same, once it has been judged.
    let streamed = json!({"stream": true, "stream_options": {"include_usage": true}});
    let streamed = ask(&server, &question(streamed));
    assert_eq!(streamed.header("x-farthing-model"), Some("near"));
    assert_eq!(streamed.header("x-farthing-tried"), None);
    assert!(streamed.text().ends_with("data: [DONE]\n\n"));
    assert_eq!(counted(&server, "failed_total", "near"), 0);
    let asked = ask(&server, &question(json!({"max_tokens": 2, "stop": null})));
    assert_eq!(asked.header("x-farthing-model"), Some(LARGE));
    assert_eq!(asked.header("x-farthing-tried"), Some("near"));
    // Nobody is there any more: the dearest model answers, and nothing was wasted.
    upstream.end();
    let alone = ask(&server, &question(json!({})));
    assert_eq!(alone.header("x-farthing-model"), Some(LARGE));
    assert_eq!(alone.header("x-farthing-tried"), None);
    assert_eq!(counted(&server, "failed_total", "near"), 1);
    server.end();
}

/// Sums, at which the cheap model fails, and rivers, which both know.
fn pre_router() -> PathBuf {
    let (rows, out) = (file("router.jsonl"), file("router.cbor"));
    let line = |number: usize| {
        let (prompt, weak) = match number % 2 {
            0 => (format!("What is {number} times 17?"), false),
            _ => (format!("Which river flows through town {number}?"), true),
        };
        format!(
            "{}\n",
            json!({"prompt": prompt, "weak": weak, "strong": true})
        )
    };
    fs::write(&rows, (0..400).map(line).collect::<String>()).expect("the rows");
    let made = Command::new(env!("CARGO_BIN_EXE_farthing"))
        .args(["calibrate", "router"])
        .arg(&rows)
        .arg("--embedding-model")
        .arg(format!("{MODELS}/all-MiniLM-L6-v2"))
        .arg("--out")
        .arg(&out)
        .output()
        .expect("farthing runs");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    out
}

#[test]
fn a_pre_router_spares_what_the_cheapest_cannot_answer() {
    let router = format!("{WORTH}, pre_router: {}", pre_router().display());
    let rows = made_up(CHAT, RightIf::Complete);
    // The dearer the first model, the more often it has to be right to be asked.
    let dear = own().replace("0.01", "0.05").replace("0.04", "0.2");
    let server = serve("router", &rows, &dear, &router, "");
    let asked = |content: &str| {
        let messages = json!([{"role": "user", "content": content}]);
        ask(
            &server,
            &question(json!({"messages": messages, "max_tokens": 16})),
        )
    };
    let sum = asked("What is 123 times 17?");
    assert_eq!(sum.header("x-farthing-model"), Some(LARGE));
    assert_eq!(sum.header("x-farthing-tried"), None);
    let routed = || server.metric("farthing_cascade_pre_routed_total{cascade=\"auto\"}");
    assert_eq!(routed(), 1);
    asked("Which river flows through town 123?");
    // Unlike all that is known: it takes the usual way.
    asked("Translate 'good evening' to Portuguese, please");
    assert_eq!(routed(), 1);
    let first = ["answers_total", "escalated_total", "abandoned_total"];
    let first: u64 = first.iter().map(|name| counted(&server, name, CHAT)).sum();
    assert_eq!(first, 2);
    server.end();
}
