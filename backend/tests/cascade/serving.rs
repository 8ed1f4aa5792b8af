//! A cascade in the real server: SmolLM2 first, Qwen after it. What was learned is made up: an
//! answer that ends by itself is right, one that is cut off is wrong.

use std::fs;
use std::path::{Path, PathBuf};

use farthing_backend::cascade::fit::fit;
use farthing_backend::cascade::outcomes::Row;
use serde_json::{Value, json};

use super::client::{Reply, post};
use super::rows::{Behaviour, rows};
use super::server::{CHAT, Server};

const LARGE: &str = "qwen2.5-coder-0.5b-instruct";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cascade-serving-{name}"))
}

/// Rows in which the first tier is right where it says all it has to say, and says nothing of it by
/// its tokens.
fn made_up() -> Vec<Row> {
    let tiers = [
        Behaviour {
            model: CHAT,
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
    let mut rows = rows(300, &tiers, 21);
    for row in &mut rows {
        let small = &mut row.tiers[0];
        small.is_complete = small.text == "yes";
        small.right = Some(small.is_complete);
        small.text = "It is so".to_owned();
        row.tiers[1].right = Some(true);
        row.tiers[1].text = "It is not so".to_owned();
    }
    rows
}

fn start(name: &str, more: &str) -> Server {
    let calibration = file(&format!("{name}.cascade"));
    fs::write(&calibration, fit(&made_up()).expect("enough rows").encode()).expect("the file");
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../.farthing/models");
    let yaml = format!(
        "
models:
- id: {CHAT}
  path: {models}/{CHAT}.gguf
  price: {{input_usd_per_mtok: 0.01, output_usd_per_mtok: 0.04}}
- id: {LARGE}
  path: {models}/{LARGE}.gguf
  price: {{input_usd_per_mtok: 0.1, output_usd_per_mtok: 0.4}}
- {{id: all-MiniLM-L6-v2, path: {models}/all-MiniLM-L6-v2}}
cascades:
  auto: {{calibration: {}, worth_usd: 0.001}}
threads: 2
{more}",
        calibration.display()
    );
    Server::of(&yaml)
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
