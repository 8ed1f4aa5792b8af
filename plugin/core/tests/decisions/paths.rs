//! The allow-list of paths: what is judged, what passes, and that no spelling gets around it.

use crate::edge::{CONFIG, Edge, pairs, reply_header};
use farthing_core::exchange::{Effect, Flow};
use farthing_core::metrics::Metric;
use serde_json::{Value, json};

/// What becomes of a request by its head.
#[derive(Debug, PartialEq)]
enum Fate {
    Judged,
    Passed,
    /// With this status and error code.
    Refused(u16, &'static str),
}
use Fate::{Judged, Passed, Refused};

const ABSENT: Fate = Refused(404, "not_found");
const METHOD: Fate = Refused(405, "method_not_allowed");
const UPGRADE: Fate = Refused(400, "unsupported_upgrade");

#[track_caller]
fn check(edge: &mut Edge, head: &[(&str, &str)], expected: Fate) {
    let sent = edge.send(&pairs(head), b"{}");
    let fate = match sent.reply() {
        // The body says nothing that an endpoint takes, so being judged ends in a 400.
        Some(reply) if reply.status == 400 && error(&reply.body)["code"] == "missing_field" => {
            Judged
        }
        Some(reply) => {
            let Refused(_, code) = expected else {
                panic!("{head:?}: {reply:?}");
            };
            assert_eq!(error(&reply.body)["code"], code, "{head:?}");
            assert_eq!(sent.flow, Flow::Pause, "{head:?}");
            Refused(reply.status, code)
        }
        None => {
            assert_eq!(sent.flow, Flow::Continue, "{head:?}");
            Passed
        }
    };
    assert_eq!(fate, expected, "{head:?}");
}

fn error(body: &[u8]) -> Value {
    serde_json::from_slice::<Value>(body).unwrap()["error"].clone()
}

/// An edge that lets pass what the configuration says, or the default.
fn edge(passthrough: Option<Value>) -> Edge {
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    if let Some(list) = passthrough {
        config["passthrough"] = list;
    }
    Edge::new(&config.to_string())
}

#[test]
fn by_default_the_endpoints_are_judged_and_the_models_are_listed() {
    let mut edge = edge(None);
    for (method, path, fate) in [
        ("POST", "/v1/chat/completions", Judged),
        ("POST", "/v1/completions?api-version=1", Judged),
        ("POST", "/v1/chat/completions?x=/../..&y=%2e", Judged),
        ("GET", "/v1/models", Passed),
        ("GET", "/v1/models?after=a", Passed),
        ("HEAD", "/v1/models", Passed),
        ("GET", "/v1/models/HuggingFaceTB/SmolLM2:latest", Passed),
        ("POST", "/v1/models", ABSENT),
        ("DELETE", "/v1/models/small", ABSENT),
        ("OPTIONS", "*", ABSENT),
        ("GET", "/v1/chat/completions", METHOD),
        ("DELETE", "/v1/completions", METHOD),
        ("post", "/v1/chat/completions", METHOD),
        ("GET", "/", ABSENT),
        ("GET", "/health", ABSENT),
        ("GET", "/metrics", ABSENT),
        ("POST", "/v1/batches", ABSENT),
        ("POST", "/v1/audio/speech", ABSENT),
        ("POST", "/v1/images/generations", ABSENT),
        ("GET", "", ABSENT),
    ] {
        check(&mut edge, &[(":method", method), (":path", path)], fate);
    }
}

/// Each is a path that some server takes for an endpoint, or for one that is listed.
#[test]
fn path_tricks_do_not_get_around_the_list() {
    let mut edge = edge(Some(json!(["GET /v1/models/*", "POST /v1/files/*"])));
    for (method, path) in [
        ("POST", "//v1/chat/completions"),
        ("POST", "/v1//chat/completions"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/v1/chat/completions//"),
        ("POST", "/v1/./chat/completions"),
        ("POST", "/v1/x/../chat/completions"),
        ("POST", "/../v1/chat/completions"),
        ("POST", "/v1/chat/completions/."),
        ("POST", "/v1/chat/completions/x/.."),
        ("POST", "/v1/chat%2fcompletions"),
        ("POST", "/v1/chat%2Fcompletions"),
        ("POST", "/v1/chat%5ccompletions"),
        ("POST", "/v1/chat%252fcompletions"),
        ("POST", "/v1/%63hat/completions"),
        ("POST", "/%76%31/chat/completions"),
        ("POST", "/v1/%2e/chat/completions"),
        ("POST", "/v1/x/%2e%2e/chat/completions"),
        ("POST", "/v1/x/%2E./chat/completions"),
        ("POST", "/v1/x/..%2fchat/completions"),
        ("POST", "/v1/chat/completions%00"),
        ("POST", "/v1/chat/completions%20"),
        ("POST", "/v1/chat/completions%3f"),
        ("POST", "/v1/chat/completions%0a"),
        ("POST", "/v1/chat/completions;a=b"),
        ("POST", "/v1;a/chat/completions"),
        ("POST", "/v1/chat;/completions"),
        ("POST", "/v1\\chat\\completions"),
        ("POST", "/v1/chat\\completions"),
        ("POST", "\\v1\\chat\\completions"),
        ("POST", "/V1/chat/completions"),
        ("POST", "/v1/Chat/Completions"),
        ("POST", "/V1/CHAT/COMPLETIONS"),
        ("POST", "/v1/chat/completions.json"),
        ("POST", "/v1/chat/completions#x"),
        ("POST", "/v1/chat/completions "),
        ("POST", " /v1/chat/completions"),
        ("POST", "/v1/chat/completions\t"),
        ("POST", "http://upstream/v1/chat/completions"),
        ("POST", "v1/chat/completions"),
        ("POST", "/v1/ch\u{0430}t/completions"),
        ("POST", "/v1/chat/completions\u{ff0f}"),
        ("POST", "/v1/files/../chat/completions"),
        ("POST", "/v1/files/%2e%2e/chat/completions"),
        ("POST", "/v1/files/..%2fchat/completions"),
        ("POST", "/v1/files/..;/chat/completions"),
        ("POST", "/v1/files/..\\chat\\completions"),
        ("POST", "/v1/files//chat"),
        ("POST", "/v1/files/./chat"),
        ("POST", "/v1/files/"),
        ("POST", "/v1/files"),
        ("POST", "/v1/filesx"),
        ("POST", "/V1/files/x"),
        ("GET", "/v1/models/../files/x"),
        ("GET", "/v1/models/%2e%2e/files/x"),
        ("GET", "/v1/models/a%2fb"),
        ("GET", "/x?/v1/models/a"),
    ] {
        check(&mut edge, &[(":method", method), (":path", path)], ABSENT);
    }
    assert_eq!(edge.counted(Metric::Passthrough), 0);
    let listed = [(":method", "POST"), (":path", "/v1/files/file-1/content")];
    check(&mut edge, &listed, Passed);
}

#[test]
fn a_request_is_the_method_that_its_line_says() {
    let mut edge = edge(None);
    for path in ["/v1/chat/completions", "/v1/models/small"] {
        let method = if path.ends_with("small") {
            "GET"
        } else {
            "POST"
        };
        for name in [
            "x-http-method-override",
            "x-http-method",
            "x-method-override",
        ] {
            let head = [(":method", method), (":path", path), (name, "DELETE")];
            check(&mut edge, &head, METHOD);
        }
        for query in [
            "_method=DELETE",
            "a=b&_METHOD=put",
            "a;_method",
            "%5Fmeth%6fd=x",
        ] {
            let path = format!("{path}?{query}");
            check(&mut edge, &[(":method", method), (":path", &path)], METHOD);
        }
        for query in ["method=DELETE", "a=_method", "x_method=1", ""] {
            let path = format!("{path}?{query}");
            let fate = if method == "GET" { Passed } else { Judged };
            check(&mut edge, &[(":method", method), (":path", &path)], fate);
        }
        for (name, value) in [("upgrade", "websocket"), ("upgrade", "h2c")] {
            let head = [(":method", method), (":path", path), (name, value)];
            check(&mut edge, &head, UPGRADE);
        }
        let extended = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":path", path),
        ];
        check(&mut edge, &extended, UPGRADE);
    }
    check(
        &mut edge,
        &[(":method", "CONNECT"), (":authority", "a:443")],
        UPGRADE,
    );
}

#[test]
fn a_path_in_a_header_does_not_travel() {
    let mut edge = edge(None);
    let head = [
        (":method", "GET"),
        (":path", "/v1/models"),
        ("x-original-url", "/v1/chat/completions"),
        ("x-rewrite-url", "/v1/chat/completions"),
    ];
    let sent = edge.send(&pairs(&head), b"");
    for name in ["x-original-url", "x-rewrite-url"] {
        let name = name.to_owned();
        assert!(sent.effects.contains(&Effect::RemoveRequestHeader { name }));
    }
}

#[test]
fn an_empty_list_lets_nothing_pass() {
    let mut edge = edge(Some(json!([])));
    check(
        &mut edge,
        &[(":method", "GET"), (":path", "/v1/models")],
        ABSENT,
    );
    let chat = [(":method", "POST"), (":path", "/v1/chat/completions")];
    check(&mut edge, &chat, Judged);
}

/// A scan for paths is counted; it neither fills the ledger nor puts its paths into it.
#[test]
fn what_is_no_request_of_ours_has_no_line_in_the_ledger() {
    let mut edge = edge(None);
    let sent = edge.send(&pairs(&[(":method", "GET"), (":path", "/secret")]), b"");
    let reply = sent.reply().unwrap();
    assert_eq!(
        reply_header(reply, "content-type"),
        Some("application/json")
    );
    assert!(!String::from_utf8_lossy(&reply.body).contains("secret"));
    assert_eq!(edge.counted(Metric::Rejected), 1);
    assert_eq!(edge.ledger(), Vec::<Value>::new());
}
