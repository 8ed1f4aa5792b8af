//! Whatever an upstream sends and whenever a client leaves: one ledger line, nothing left reserved,
//! and work that was done is never free.

use crate::edge::{CHAT, CONFIG, Edge};
use farthing_core::exchange::EndOfStream;
use farthing_core::store::SharedStore;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

const ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"four words are here"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}"#;
const STREAM: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"two words\"},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11}}\n\ndata: [DONE]\n\n";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaves {
    BeforeHeaders,
    MidBody,
    Never,
}

/// Bytes of an answer: as they should be, cut short, or anything.
fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(ANSWER.as_bytes().to_vec()),
        Just(STREAM.as_bytes().to_vec()),
        (0..STREAM.len()).prop_map(|cut| STREAM.as_bytes()[..cut].to_vec()),
        (0..ANSWER.len()).prop_map(|cut| ANSWER.as_bytes()[..cut].to_vec()),
        prop::collection::vec(any::<u8>(), 0..300),
    ]
}

/// What all tenants together have reserved and spent: there is one.
fn sums(store: &dyn SharedStore, keys: &[String]) -> (u64, u64) {
    let key = keys
        .iter()
        .find(|key| key.starts_with("farthing/1/budget/"))
        .unwrap();
    let (record, _) = store.get(key).unwrap();
    let number = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
    // Magic, tenant, unit, window, reserved, spent.
    (number(4 + 32 + 1 + 8), number(4 + 32 + 1 + 16))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn settles_exactly_once(
        stream: bool,
        status in select(vec!["200", "201", "302", "429", "500", "504", "x"]),
        content_type in select(vec!["application/json", "text/event-stream", "text/plain", ""]),
        encoding in select(vec!["identity", "gzip"]),
        body in body(),
        chunk_bytes in 1..64_usize,
        leaves in select(vec![Leaves::BeforeHeaders, Leaves::MidBody, Leaves::Never]),
    ) {
        let mut config: Value = serde_json::from_str(CONFIG).unwrap();
        config["budget"] = json!({"window_s": 3600, "usd": 1});
        let mut edge = Edge::new(&config.to_string());
        let ask = json!({"model": "auto", "temperature": 0, "max_tokens": 50, "stream": stream,
            "messages": [{"role": "user", "content": "Why does copper conduct?"}]}).to_string();
        let mut sent = edge.post(CHAT, &ask);
        prop_assert!(sums(&edge.store, &edge.store.keys()).0 > 0);
        if leaves != Leaves::BeforeHeaders {
            let head = [(":status", status), ("content-type", content_type),
                ("content-encoding", encoding)];
            let mut seen = edge.begin_answer(&mut sent, &head);
            let mut chunks = body.chunks(chunk_bytes).peekable();
            let mut held = Vec::new();
            while let Some(chunk) = chunks.next() {
                let last = chunks.peek().is_none();
                if last && leaves == Leaves::MidBody {
                    break;
                }
                held.extend_from_slice(chunk);
                let end = if last { EndOfStream::Yes } else { EndOfStream::No };
                edge.body(&mut sent, &mut held, end, &mut seen);
            }
        }
        edge.done(&mut sent);

        let (reserved, spent) = sums(&edge.store, &edge.store.keys());
        prop_assert_eq!(reserved, 0);
        let lines = edge.ledger();
        prop_assert_eq!(lines.len(), 1);
        let amount = |field: &str| lines[0][field].as_u64().unwrap();
        prop_assert_eq!(amount("cost_nanousd"), spent);
        let saved_by = lines[0]["saved_by"].as_object().unwrap();
        let parts: u64 = saved_by.values().map(|part| part.as_u64().unwrap()).sum();
        prop_assert_eq!(parts, amount("saved_nanousd"));
        prop_assert_eq!(amount("as_asked_nanousd"), spent + parts);
        let failed = leaves != Leaves::BeforeHeaders && !["200", "201", "504"].contains(&status);
        prop_assert_eq!(spent == 0, failed, "{}", lines[0]);
    }

    #[test]
    fn any_request_is_answered(body: Vec<u8>, path in select(vec![CHAT, "/v1/completions", "/x"])) {
        let mut edge = Edge::new(CONFIG);
        let text = String::from_utf8_lossy(&body).into_owned();
        let sent = edge.post(path, &text);
        prop_assert!(sent.reply().is_some());
    }
}
