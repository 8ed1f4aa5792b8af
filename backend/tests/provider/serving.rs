//! Our own backend as the provider of another: what a client gets through it is what it would get
//! there.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Connection, Reply, get, post};
use super::server::{CHAT, Server};

/// Bounds a wait for something that happens within milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[track_caller]
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A server in front of another, which has its models as `near` and, by a virtual name, `best`.
fn in_front_of(upstream: &Server, more: &str) -> Server {
    Server::of(&format!(
        "providers:\n- {{name: second, api: openai, base_url: \"http://{}/v1\"}}\n\
         models:\n- {{id: near, provider: second, upstream_model: {CHAT}}}\n\
         virtual_models: {{best: [near]}}\n{more}",
        upstream.address
    ))
}

fn question(model: &str, more: Value) -> Value {
    let mut body = json!({
        "model": model,
        "messages": [{"role": "user", "content": "Count: one, two, three"}],
        "max_tokens": 24,
        "temperature": 0,
        "stop": ["."],
    });
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("fields").clone());
    body
}

#[track_caller]
fn ask(server: &Server, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
    let reply = server.ask(&post(path, headers, body.to_string()));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply
}

/// All events of a stream that is whole.
#[track_caller]
fn events(reply: &Reply) -> Vec<Value> {
    let text = reply.text();
    let whole = text.strip_suffix("data: [DONE]\n\n").expect("it is whole");
    let data = whole.split_terminator("\n\n").map(|event| {
        let data = event.strip_prefix("data: ").expect("one data line");
        serde_json::from_str(data).expect("JSON")
    });
    data.collect()
}

/// What is the same whoever was asked: all but ids, times, the model's name here and there, and
/// what a prefix cache had by then.
fn same(mut answer: Value) -> Value {
    for field in ["id", "created", "model"] {
        answer[field] = Value::Null;
    }
    if answer["usage"].is_object() {
        answer["usage"]["prompt_tokens_details"] = Value::Null;
    }
    answer
}

#[test]
fn an_answer_through_a_provider_is_the_providers() {
    let upstream = Server::start("");
    let front = in_front_of(&upstream, "");
    let chat = "/v1/chat/completions";
    let logprobs = json!({"logprobs": true, "top_logprobs": 2});
    for more in [
        json!({}),
        json!({"n": 2}),
        logprobs,
        json!({"max_tokens": 1}),
    ] {
        let direct = ask(&upstream, chat, &[], &question(CHAT, more.clone())).json();
        let through = ask(&front, chat, &[], &question("near", more.clone()));
        assert_eq!(through.header("x-farthing-source"), Some("provider"));
        assert_eq!(through.header("x-farthing-model"), Some("near"));
        assert_eq!(through.json()["model"], "near");
        assert_eq!(same(through.json()), same(direct), "{more}");
    }
    for usage in [
        json!({}),
        json!({"stream_options": {"include_usage": true}}),
    ] {
        let mut more = usage.clone();
        more["stream"] = json!(true);
        let direct = ask(&upstream, chat, &[], &question(CHAT, more.clone()));
        let through = ask(&front, chat, &[], &question("best", more));
        assert_eq!(
            through.header("content-type"),
            direct.header("content-type")
        );
        assert_eq!(through.header("x-farthing-model"), Some("near"));
        let of = |reply: &Reply| events(reply).into_iter().map(same).collect::<Vec<_>>();
        // The server may put several tokens into one event; their sum is the same.
        let text = |events: &[Value]| -> String {
            let content = |event: &Value| {
                let content = event["choices"][0]["delta"]["content"].as_str();
                content.unwrap_or_default().to_owned()
            };
            events.iter().map(content).collect()
        };
        let (direct, through) = (of(&direct), of(&through));
        assert_eq!(text(&through), text(&direct));
        assert_eq!(through.first(), direct.first());
        assert_eq!(through.last(), direct.last(), "{usage}");
    }
    let prompt = |model: &str| {
        json!({"model": model, "prompt": "One, two,", "max_tokens": 4,
        "temperature": 0, "echo": true})
    };
    let direct = ask(&upstream, "/v1/completions", &[], &prompt(CHAT)).json();
    let through = ask(&front, "/v1/completions", &[], &prompt("near")).json();
    assert_eq!(same(through), same(direct));
    front.end();
    upstream.end();
}

#[test]
fn models_of_providers_are_listed_and_counted() {
    let upstream = Server::start("");
    let front = in_front_of(&upstream, "");
    let listed = front.ask(&get("/v1/models")).json();
    let ids: Vec<_> = listed["data"].as_array().expect("a list").iter().collect();
    assert_eq!(
        ids.iter().map(|model| &model["id"]).collect::<Vec<_>>(),
        ["near", "best"]
    );
    assert_eq!(front.ask(&get("/v1/models/near")).json()["object"], "model");
    assert_eq!(front.ask(&get("/readyz")).status, 200);
    let embeddings = json!({"model": "near", "input": "x"}).to_string();
    let reply = front.ask(&post("/v1/embeddings", &[], embeddings));
    assert_eq!(
        (reply.status, reply.json()["error"]["param"].clone()),
        (400, json!("model"))
    );
    for stream in [false, true] {
        let body = question("near", json!({"stream": stream}));
        ask(&front, "/v1/chat/completions", &[], &body);
    }
    let labels = "provider=\"second\",model=\"near\"";
    let completed = format!("farthing_provider_requests_total{{{labels},outcome=\"completed\"}}");
    wait_until("the counting", || front.metric(&completed) == 2);
    let first = format!("farthing_provider_time_to_first_byte_seconds_count{{{labels}}}");
    assert_eq!(front.metric(&first), 2);
    assert_eq!(
        front.metric(&format!("farthing_provider_breaker_state{{{labels}}}")),
        0
    );
    let tokens = "gen_ai_client_token_usage_total{gen_ai_operation_name=\"chat\",\
                  gen_ai_response_model=\"near\",gen_ai_token_type=\"output\"}";
    assert!(front.metric(tokens) > 0);
    front.end();
    upstream.end();
}

#[test]
fn answers_of_providers_are_kept_like_our_own() {
    let upstream = Server::start("");
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("provider-store.redb");
    let _ = std::fs::remove_file(&path);
    let store = format!("response_store: {{path: {}}}\n", path.display());
    let front = in_front_of(&upstream, &store);
    let chat = "/v1/chat/completions";
    let alice = [("x-farthing-tenant", "alice")];
    let source = |reply: &Reply| reply.header("x-farthing-source").map(str::to_owned);
    let (plain, streamed) = (json!({}), json!({"stream": true}));
    let mut written = 0;
    for (first, again) in [(&plain, &streamed), (&streamed, &plain)] {
        let colour = json!([{"role": "user", "content": format!("Name a colour, {written}.")}]);
        let asked = |more: &Value| {
            let mut body = question("near", more.clone());
            body["messages"] = colour.clone();
            body["max_tokens"] = json!(64);
            body
        };
        let fresh = ask(&front, chat, &alice, &asked(first));
        assert_eq!(source(&fresh).as_deref(), Some("provider"));
        written += 1;
        wait_until("the writing", || {
            front.metric("farthing_response_store_written_total") >= written
        });
        for more in [first, again] {
            let repeat = ask(&front, chat, &alice, &asked(more));
            assert_eq!(source(&repeat).as_deref(), Some("response-store"));
        }
        let other = ask(&front, chat, &[("x-farthing-tenant", "bob")], &asked(first));
        assert_eq!(
            source(&other).as_deref(),
            Some("provider"),
            "bob gets his own"
        );
        written += 1;
    }
    front.end();
    upstream.end();
}

/// A request that runs far longer than any test.
fn endless(more: Value) -> Vec<u8> {
    let mut body = json!({"model": "near", "prompt": "Count: 1 2 3 4 5 6 7 8 9 10 11 12 13 14",
        "max_tokens": 2000, "temperature": 0});
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("fields").clone());
    post("/v1/completions", &[], body.to_string())
}

#[test]
fn a_client_that_leaves_ends_the_request_at_the_provider() {
    for stream in [true, false] {
        let upstream = Server::start("");
        let front = in_front_of(&upstream, "");
        let mut connection = Connection::open(front.address);
        connection.send(&endless(json!({"stream": stream})));
        wait_until("the start", || {
            upstream.engine_metric("farthing_engine_running") == 1
        });
        drop(connection);
        wait_until("the abort", || {
            upstream.engine_metric("farthing_engine_aborted_total") == 1
        });
        let left = "farthing_provider_requests_total{provider=\"second\",model=\"near\",\
                    outcome=\"client_left\"}";
        wait_until("the counting", || front.metric(left) == 1);
        front.end();
        upstream.end();
    }
}

#[test]
fn a_provider_that_dies_in_the_middle_ends_the_stream_with_an_error() {
    let mut upstream = Server::start("http: {drain_timeout_ms: 100}\n");
    let front = in_front_of(&upstream, "");
    let mut connection = Connection::open(front.address);
    connection.send(&endless(json!({"stream": true})));
    connection.wait_for(b"data: ");
    upstream.begin_shutdown();
    let reply = connection.reply().expect("the stream ends in good form");
    let text = reply.text();
    let last = text.trim_end().rsplit("\n\n").next().unwrap_or_default();
    assert!(last.starts_with("data: {\"error\":"), "{last}");
    assert!(
        last.contains("provider_failed") && last.contains("second"),
        "{last}"
    );
    assert!(!text.contains("[DONE]"), "{text}");
    upstream.end();
    // Nobody is there any more: a whole answer fails with a status, after retries.
    let body = question("near", json!({}));
    let reply = front.ask(&post("/v1/chat/completions", &[], body.to_string()));
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "provider_failed");
    front.end();
}
