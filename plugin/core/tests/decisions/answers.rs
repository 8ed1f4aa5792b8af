//! How answers are settled: whole, streamed, cut off, without usage, refused by the upstream.

use crate::edge::{CHAT, COMPLETIONS, CONFIG, Edge, Sent};
use farthing_core::exchange::EndOfStream;
use farthing_core::limits::RESPONSE_HOLD_BYTES_MAX;
use farthing_core::metrics::Metric;
use serde_json::{Value, json};

const JSON: [(&str, &str); 2] = [(":status", "200"), ("content-type", "application/json")];
const SSE: [(&str, &str); 2] = [(":status", "200"), ("content-type", "text/event-stream")];

fn with_budget(usd: &str) -> String {
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    config["budget"] = json!({"window_s": 3600, "usd": usd});
    config.to_string()
}

fn ask(model: &str, stream: bool) -> String {
    json!({"model": model, "temperature": 0, "max_tokens": 50, "stream": stream,
           "messages": [{"role": "user", "content": "Say something about copper wires."}]})
    .to_string()
}

fn answer(usage: Option<(u64, u64)>) -> Vec<u8> {
    let mut body = json!({"id": "c-1", "object": "chat.completion", "created": 1, "model": "large-v2",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Copper conducts."},
                     "finish_reason": "stop"}]});
    if let Some((prompt, completion)) = usage {
        body["usage"] = json!({"prompt_tokens": prompt, "completion_tokens": completion,
                               "total_tokens": prompt + completion});
    }
    body.to_string().into_bytes()
}

fn chunk(delta: Value, finish_reason: Value) -> String {
    let chunk = json!({"id": "c-1", "object": "chat.completion.chunk", "created": 1,
        "model": "large-v2",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]});
    format!("data: {chunk}\n\n")
}

fn usage_chunk(prompt: u64, completion: u64) -> String {
    let chunk = json!({"id": "c-1", "object": "chat.completion.chunk", "created": 1,
        "model": "large-v2", "choices": [],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion,
                  "total_tokens": prompt + completion}});
    format!("data: {chunk}\n\n")
}

fn text_chunks() -> String {
    let first = chunk(
        json!({"role": "assistant", "content": "Copper"}),
        Value::Null,
    );
    first + &chunk(json!({"content": " conducts."}), Value::Null) + &chunk(json!({}), json!("stop"))
}

/// What is left in the budget of `key-a`, found by asking the store: nothing may stay reserved.
#[track_caller]
fn check_spent(edge: &Edge, sent: &Sent, nanousd: u64) {
    assert_eq!(edge.sums(sent), (0, nanousd));
}

#[test]
fn a_whole_answer_has_its_exact_cost_in_its_headers() {
    let mut edge = Edge::new(&with_budget("1"));
    let mut sent = edge.post(CHAT, &ask("auto", false));
    assert_eq!(sent.header("x-farthing-tier"), Some("small"));
    let body = answer(Some((1000, 500)));
    let (first, second) = body.split_at(40);
    let seen = edge.answer(&mut sent, &JSON, &[first, second]);
    assert_eq!(seen.body, body);
    assert_eq!(seen.header("x-farthing-source"), Some("model"));
    assert_eq!(seen.header("x-farthing-model"), Some("small"));
    assert_eq!(seen.header("x-farthing-prompt-tokens"), Some("1000"));
    // 1000 * 0.02 + 500 * 0.04 dollars a million; as asked 1000 * 0.15 + 500 * 0.60.
    assert_eq!(seen.header("x-farthing-cost-usd"), Some("0.000040000"));
    assert_eq!(seen.header("x-farthing-saved-usd"), Some("0.000410000"));
    assert_eq!(
        seen.header("x-farthing-saved-by"),
        Some("cache=0;route=0.00041;cap=0;compaction=0;single_flight=0")
    );
    let line = edge.last_line();
    assert_eq!(
        line["saved_by"],
        json!({"cache_nanousd": 0, "route_nanousd": 410_000, "cap_nanousd": 0,
            "compaction_nanousd": 0, "single_flight_nanousd": 0})
    );
    assert_eq!(
        (&line["model_asked"], &line["estimated"]),
        (&json!("auto"), &json!(false))
    );
    check_spent(&edge, &sent, 40_000);
}

#[test]
fn a_hit_costs_nothing_and_reserves_nothing() {
    let mut edge = Edge::new(&with_budget("1"));
    let mut sent = edge.post(CHAT, &ask("large", false));
    edge.answer(&mut sent, &JSON, &[&answer(Some((10, 3)))]);
    edge.later(7);
    let again = edge.post(CHAT, &ask("large", false));
    let reply = again.reply().expect("a local reply");
    assert_eq!(
        (reply.status, reply.body.clone()),
        (200, answer(Some((10, 3))))
    );
    let header = |name| crate::edge::reply_header(reply, name);
    assert_eq!(header("x-farthing-source"), Some("edge-cache"));
    assert_eq!(header("age"), Some("7"));
    assert_eq!(header("x-farthing-cost-usd"), Some("0.000000000"));
    assert_eq!(header("x-farthing-saved-usd"), Some("0.000003300"));
    assert_eq!(edge.last_line()["saved_by"]["cache_nanousd"], 3_300);
    check_spent(&edge, &sent, 3_300);
}

#[test]
fn a_streamed_answer_feeds_the_cache_and_the_client_sees_what_it_asked_for() {
    let mut edge = Edge::new(&with_budget("1"));
    let mut sent = edge.post(CHAT, &ask("large", true));
    let forwarded: Value = serde_json::from_slice(sent.replaced_body().unwrap()).unwrap();
    assert_eq!(forwarded["stream_options"], json!({"include_usage": true}));
    let whole = text_chunks() + &usage_chunk(12, 4) + "data: [DONE]\n\n";
    let chunks: Vec<&[u8]> = whole.as_bytes().chunks(7).collect();
    let seen = edge.answer(&mut sent, &SSE, &chunks);
    let expected = text_chunks() + "data: [DONE]\n\n";
    assert_eq!(String::from_utf8(seen.body).unwrap(), expected);
    assert_eq!(edge.last_line()["completion_tokens"], 4);
    check_spent(&edge, &sent, 12 * 150 + 4 * 600);
    // The same question not streamed, and streamed with usage, is answered from what was stored.
    let whole = edge.post(CHAT, &ask("large", false));
    let body: Value = serde_json::from_slice(&whole.reply().unwrap().body).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "Copper conducts.");
    assert_eq!(body["usage"]["completion_tokens"], 4);
    let streamed = ask("large", true).replace(
        r#""stream":true"#,
        r#""stream":true,"stream_options":{"include_usage":true}"#,
    );
    let streamed = edge.post(CHAT, &streamed);
    let body = String::from_utf8(streamed.reply().unwrap().body.clone()).unwrap();
    assert!(
        body.contains("Copper") && body.contains(r#""completion_tokens":4"#),
        "{body}"
    );
    assert!(body.ends_with("data: [DONE]\n\n"));
}

#[test]
fn a_stream_cut_off_pays_for_what_was_seen_and_is_not_stored() {
    let mut edge = Edge::new(&with_budget("1"));
    let mut sent = edge.post(CHAT, &ask("large", true));
    let prompt: u64 = sent
        .header("x-farthing-prompt-tokens")
        .unwrap()
        .parse()
        .unwrap();
    let mut seen = edge.begin_answer(&mut sent, &SSE);
    let mut held = text_chunks().into_bytes();
    edge.body(&mut sent, &mut held, EndOfStream::No, &mut seen);
    edge.done(&mut sent);
    let line = edge.last_line();
    assert_eq!(
        (&line["aborted"], &line["estimated"]),
        (&json!(true), &json!(true))
    );
    let completion = line["completion_tokens"].as_u64().unwrap();
    assert!((2..=5).contains(&completion), "{completion}");
    check_spent(&edge, &sent, prompt * 150 + completion * 600);
    assert!(edge.post(CHAT, &ask("large", true)).reply().is_none());
    assert_eq!(edge.counted(Metric::Aborts), 1);
}

#[test]
fn a_stream_that_ends_without_done_is_not_stored() {
    let mut edge = Edge::new(CONFIG);
    let mut sent = edge.post(CHAT, &ask("large", true));
    let cut = text_chunks() + &usage_chunk(12, 4);
    edge.answer(&mut sent, &SSE, &[cut.as_bytes()]);
    assert_eq!(edge.last_line()["aborted"], true);
    assert!(edge.post(CHAT, &ask("large", true)).reply().is_none());
}

#[test]
fn a_missing_or_zero_usage_is_estimated_and_flagged() {
    for usage in [None, Some((0, 0))] {
        let mut edge = Edge::new(&with_budget("1"));
        let mut sent = edge.post(CHAT, &ask("large", false));
        edge.answer(&mut sent, &JSON, &[&answer(usage)]);
        let line = edge.last_line();
        assert_eq!(line["estimated"], true);
        assert!(line["completion_tokens"].as_u64().unwrap() > 0, "{line}");
        assert!(line["cost_nanousd"].as_u64().unwrap() > 0, "{line}");
        assert_eq!(edge.counted(Metric::UsageEstimated), 1);
    }
}

#[test]
fn an_upstream_error_refunds_all_of_it() {
    for status in ["429", "500", "503", "nonsense"] {
        let mut edge = Edge::new(&with_budget("1"));
        let mut sent = edge.post(CHAT, &ask("large", false));
        let headers = [(":status", status), ("content-type", "application/json")];
        let seen = edge.answer(&mut sent, &headers, &[b"{\"error\":", b"{}}"]);
        assert_eq!(seen.body, b"{\"error\":{}}");
        check_spent(&edge, &sent, 0);
        assert_eq!(edge.counted(Metric::UpstreamErrors), 1);
        assert_eq!(edge.last_line()["cost_nanousd"], 0);
    }
}

#[test]
fn a_timeout_pays_for_the_prompt_and_an_upstreams_own_504_does_not() {
    let mut edge = Edge::new(&with_budget("1"));
    let mut sent = edge.post(CHAT, &ask("small", false));
    let prompt = sent.header("x-farthing-prompt-tokens").unwrap();
    let prompt: u64 = prompt.parse().unwrap();
    let timeout = [(":status", "504"), ("content-type", "text/plain")];
    edge.answer(&mut sent, &timeout, &[b"upstream request timeout"]);
    check_spent(&edge, &sent, prompt * 20);
    let line = edge.last_line();
    assert_eq!(
        (&line["status"], &line["aborted"], &line["estimated"]),
        (&json!(504), &json!(true), &json!(true))
    );
    let errors = [Metric::UpstreamErrors, Metric::Aborts].map(|metric| edge.counted(metric));
    assert_eq!(errors, [1, 1]);
    let mut sent = edge.post(CHAT, &ask("small", false));
    let refused = [timeout[0], timeout[1], ("x-farthing-source", "provider")];
    edge.answer(&mut sent, &refused, &[b"gateway timeout"]);
    check_spent(&edge, &sent, prompt * 20);
    assert_eq!(edge.last_line()["aborted"], false);
}

#[test]
fn a_client_that_leaves_before_the_answer_pays_for_the_prompt() {
    let mut edge = Edge::new(&with_budget("1"));
    let mut sent = edge.post(CHAT, &ask("small", false));
    let prompt: u64 = sent
        .header("x-farthing-prompt-tokens")
        .unwrap()
        .parse()
        .unwrap();
    edge.done(&mut sent);
    check_spent(&edge, &sent, prompt * 20);
    assert_eq!(edge.last_line()["aborted"], true);
}

#[test]
fn what_was_generated_elsewhere_or_not_at_all_is_not_charged_as_generated() {
    let mut edge = Edge::new(&with_budget("1"));
    let mut sent = edge.post(CHAT, &ask("large", false));
    let headers = [JSON[0], JSON[1], ("x-farthing-source", "response-store")];
    let seen = edge.answer(&mut sent, &headers, &[&answer(Some((10, 3)))]);
    assert_eq!(seen.header("x-farthing-source"), Some("response-store"));
    assert_eq!(edge.last_line()["saved_by"]["cache_nanousd"], 3_300);
    check_spent(&edge, &sent, 0);
    let headers = [JSON[0], JSON[1], ("x-farthing-source", "free-lunch")];
    let mut sent = edge.post(
        COMPLETIONS,
        r#"{"model":"large","prompt":"x","max_tokens":5}"#,
    );
    let seen = edge.answer(&mut sent, &headers, &[&answer(Some((10, 3)))]);
    assert_eq!(seen.header("x-farthing-source"), Some("model"));
    check_spent(&edge, &sent, 3_300);
}

#[test]
fn an_answer_too_large_to_hold_passes_and_its_tail_is_read() {
    let mut edge = Edge::new(CONFIG);
    let mut sent = edge.post(CHAT, &ask("large", false));
    let filler = "x".repeat(RESPONSE_HOLD_BYTES_MAX);
    let body = String::from_utf8(answer(Some((10, 3))))
        .unwrap()
        .replace("Copper", &filler);
    let chunks: Vec<&[u8]> = body.as_bytes().chunks(100_000).collect();
    let seen = edge.answer(&mut sent, &JSON, &chunks);
    assert_eq!(seen.body, body.as_bytes());
    assert_eq!(seen.header("x-farthing-cost-usd"), None);
    let line = edge.last_line();
    assert_eq!(
        (&line["completion_tokens"], &line["estimated"]),
        (&json!(3), &json!(false))
    );
}

#[test]
fn what_must_not_be_stored_is_not() {
    let tool_call = br#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[
        {"index":0,"finish_reason":"tool_calls","message":{"role":"assistant","content":null,
         "tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]}}],
        "usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}}"#;
    let filtered = String::from_utf8(answer(Some((9, 5))))
        .unwrap()
        .replace("stop", "content_filter");
    let good = answer(Some((9, 5)));
    type Case<'a> = (Vec<(&'a str, &'a str)>, &'a [u8]);
    let cases: [Case<'_>; 9] = [
        (vec![JSON[0], JSON[1], ("set-cookie", "a=b")], &good),
        (
            vec![JSON[0], JSON[1], ("cache-control", "private, no-store")],
            &good,
        ),
        (vec![JSON[0], JSON[1], ("cache-control", "private")], &good),
        (
            vec![JSON[0], JSON[1], ("cache-control", "max-age=0")],
            &good,
        ),
        (vec![JSON[0], JSON[1], ("vary", "accept-language")], &good),
        (vec![JSON[0], JSON[1], ("content-encoding", "br")], &good),
        (vec![(":status", "302"), JSON[1]], &good),
        (JSON.to_vec(), tool_call),
        (JSON.to_vec(), filtered.as_bytes()),
    ];
    for (headers, body) in cases {
        let mut edge = Edge::new(CONFIG);
        let mut sent = edge.post(CHAT, &ask("large", false));
        edge.answer(&mut sent, &headers, &[body]);
        assert!(
            edge.post(CHAT, &ask("large", false)).reply().is_none(),
            "{headers:?}"
        );
    }
}

#[test]
fn an_upstreams_max_age_bounds_the_life_of_its_answer() {
    let mut edge = Edge::new(CONFIG);
    let headers = [JSON[0], JSON[1], ("cache-control", "max-age=5")];
    let mut sent = edge.post(CHAT, &ask("large", false));
    edge.answer(&mut sent, &headers, &[&answer(Some((9, 5)))]);
    edge.later(4);
    assert!(edge.post(CHAT, &ask("large", false)).reply().is_some());
    edge.later(1);
    assert!(edge.post(CHAT, &ask("large", false)).reply().is_none());
}

#[test]
fn only_as_many_choices_as_were_asked_for_are_stored() {
    for (asked, stored) in [(1, true), (2, false)] {
        for stream in [false, true] {
            let mut edge = Edge::new(CONFIG);
            let mut body: Value = serde_json::from_str(&ask("large", stream)).unwrap();
            body["n"] = json!(asked);
            let body = body.to_string();
            let mut sent = edge.post(CHAT, &body);
            let streamed = text_chunks() + "data: [DONE]\n\n";
            match stream {
                false => edge.answer(&mut sent, &JSON, &[&answer(Some((9, 5)))]),
                true => edge.answer(&mut sent, &SSE, &[streamed.as_bytes()]),
            };
            assert_eq!(edge.post(CHAT, &body).reply().is_some(), stored);
        }
    }
}

#[test]
fn no_prompt_and_no_credential_is_ever_recorded() {
    let mut edge = Edge::new(&with_budget("1"));
    let canaries = ["copper wires", "key-a", "Copper", "a secret of the tests"];
    for (body, stream) in [(ask("auto", false), false), (ask("large", true), true)] {
        let mut sent = edge.post(CHAT, &body);
        let chunks = text_chunks();
        match stream {
            false => edge.answer(&mut sent, &JSON, &[&answer(Some((9, 5)))]),
            true => edge.answer(&mut sent, &SSE, &[chunks.as_bytes()]),
        };
    }
    edge.post(CHAT, r#"{"model":"copper wires key-a"}"#);
    let record = format!("{:?} {:?} {:?}", edge.record, edge.vm, edge.store.keys());
    for canary in canaries {
        // The worker's own cache holds answers; nothing that is written out does.
        let written = format!("{:?} {:?}", edge.record, edge.store.keys());
        assert!(!written.contains(canary), "{canary}: {written}");
    }
    assert!(!record.contains("a secret of the tests"));
}
