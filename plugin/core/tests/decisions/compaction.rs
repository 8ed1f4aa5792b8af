//! Compaction: what goes, what stays to the last byte, and where nothing may be touched.

use crate::edge::{CHAT, CONFIG, Edge};
use farthing_core::compaction::fold_whitespace;
use farthing_core::metrics::Metric;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

/// An edge whose only route folds white space, or keeps it.
fn edge(route: Value) -> Edge {
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    let mut all = json!({"name": "all"});
    all.as_object_mut()
        .unwrap()
        .extend(route.as_object().unwrap().clone());
    config["routes"] = json!([all]);
    Edge::new(&config.to_string())
}

fn folding() -> Edge {
    edge(json!({"compaction": {"fold_whitespace": true}}))
}

/// What the upstream gets of a request.
fn forwarded(edge: &mut Edge, path: &str, body: &Value) -> Value {
    let text = body.to_string();
    let mut sent = edge.post(path, &text);
    assert!(sent.reply().is_none(), "{:?}", sent.reply());
    let forwarded = sent.replaced_body().unwrap_or(text.as_bytes());
    let forwarded = serde_json::from_slice(forwarded).unwrap();
    edge.done(&mut sent);
    forwarded
}

/// A request whose parts are given, with all that the filter would put in.
fn request(path: &str, with: Value) -> Value {
    let mut body = match path {
        CHAT => json!({"model": "small", "max_tokens": 5}),
        RESPONSES => json!({"model": "small", "max_output_tokens": 20, "store": false}),
        _ => json!({"model": "small", "max_tokens": 5}),
    };
    body.as_object_mut()
        .unwrap()
        .extend(with.as_object().unwrap().clone());
    body
}

#[track_caller]
fn check(edge: &mut Edge, path: &str, sent: Value, expected: Value) {
    let (sent, expected) = (request(path, sent), request(path, expected));
    assert_eq!(forwarded(edge, path, &sent), expected, "{path}: {sent}");
}

#[track_caller]
fn check_untouched(edge: &mut Edge, path: &str, with: Value) {
    let text = request(path, with).to_string();
    let mut sent = edge.post(path, &text);
    assert!(sent.reply().is_none(), "{:?}", sent.reply());
    assert_eq!(sent.replaced_body(), None, "{path}: {text}");
    edge.done(&mut sent);
}

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

fn system(content: &str) -> Value {
    json!({"role": "system", "content": content})
}

#[test]
fn how_soon_a_request_is_to_be_served_reaches_the_model() {
    let mut edge = edge(json!({}));
    for tier in ["auto", "default", "flex", "priority", "batch"] {
        let with = json!({"service_tier": tier, "messages": [user("Hi")]});
        check_untouched(&mut edge, CHAT, with.clone());
        // What makes the filter write the body anew does not change that.
        let mut written = with.clone();
        written["user"] = Value::Null;
        check(&mut edge, CHAT, written, with);
    }
}

#[test]
fn null_fields_and_repeated_system_text_go() {
    let mut edge = edge(json!({}));
    check(
        &mut edge,
        CHAT,
        json!({"stop": null, "tools": null, "messages": [user("a")], "metadata": {"x": null}}),
        json!({"messages": [user("a")], "metadata": {"x": null}}),
    );
    let repeated = json!([
        system("a"),
        user("q"),
        system("b"),
        system("a"),
        user("r"),
        system("a")
    ]);
    check(
        &mut edge,
        CHAT,
        json!({"messages": repeated}),
        json!({"messages": [system("a"), user("q"), system("b"), user("r")]}),
    );
    check(
        &mut edge,
        RESPONSES,
        json!({"input": [system("a"), system("a"), user("q")]}),
        json!({"input": [system("a"), user("q")]}),
    );
    let block = |text: &str| json!({"type": "text", "text": text});
    check(
        &mut edge,
        MESSAGES,
        json!({"system": [block("a"), block("b"), block("a")], "messages": [user("q")]}),
        json!({"system": [block("a"), block("b")], "messages": [user("q")]}),
    );
}

#[test]
fn what_is_not_repeated_system_text_stays() {
    let mut edge = edge(json!({}));
    for messages in [
        json!([user("a"), user("a"), system("s")]),
        json!([system("a"), {"role": "developer", "content": "a"}, user("q")]),
        json!([system("a"), {"role": "system", "content": "a", "name": "n"}, user("q")]),
        json!([system("a"), system("a "), system("A"), user("q")]),
        json!([user("q"), {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "a"}]),
        json!([
            system("a  b\n\n\n\nc  "),
            user(" spaces   stay \n\n\n\n here  ")
        ]),
    ] {
        check_untouched(&mut edge, CHAT, json!({"messages": messages}));
    }
}

#[test]
fn nothing_is_touched_before_a_cached_prefix() {
    let mark = json!({"type": "ephemeral"});
    let marked = |text: &str| {
        json!({"role": "user", "content": [
            {"type": "text", "text": text, "cache_control": mark}]})
    };
    let block = |text: &str, mark: &Value| match mark {
        Value::Null => json!({"type": "text", "text": text}),
        mark => json!({"type": "text", "text": text, "cache_control": mark}),
    };
    let none = Value::Null;
    for path in [CHAT, MESSAGES] {
        let edge = &mut folding();
        check_untouched(
            edge,
            path,
            json!({"messages": [user("a  b"), marked("c  d")]}),
        );
        let all = json!({"cache_control": mark, "messages": [user("a  b")]});
        check_untouched(edge, path, all);
        check(
            edge,
            path,
            json!({"messages": [user("a  b"), marked("c  d"), user("e  f")]}),
            json!({"messages": [user("a  b"), marked("c  d"), user("e f")]}),
        );
    }
    let edge = &mut folding();
    let messages = json!([system("s"), system("s"), marked("q"), system("s")]);
    check(
        edge,
        CHAT,
        json!({"messages": messages}),
        json!({"messages": [system("s"), system("s"), marked("q")]}),
    );
    let two = json!([
        block("s", &none),
        block("s", &mark),
        block("t", &none),
        block("t", &none)
    ]);
    check(
        edge,
        MESSAGES,
        json!({"system": two, "messages": [user("q")]}),
        json!({"system": [two[0], two[1], two[2]], "messages": [user("q")]}),
    );
    // A mark in the conversation covers the system text before it.
    check_untouched(
        edge,
        MESSAGES,
        json!({"system": two, "messages": [marked("q")]}),
    );
}

/// A conversation begins with the same bytes at every turn, so that a cache of prefixes that needs
/// no marks keeps what it has.
#[test]
fn a_conversation_is_folded_alike_at_every_turn() {
    let turns = [
        user("Why  is it so?  Tell me."),
        json!({"role": "assistant", "content": "It  is."}),
        user("And  now?\n\n\n\nGo on."),
        json!({"role": "assistant", "content": "Still."}),
        user("A  third  one."),
    ];
    for path in [CHAT, RESPONSES, MESSAGES] {
        let field = if path == RESPONSES {
            "input"
        } else {
            "messages"
        };
        let mut before = Vec::new();
        for length in [1, 3, 5] {
            let body = request(path, json!({field: turns[..length]}));
            let sent = forwarded(&mut folding(), path, &body);
            let sent = sent[field].as_array().unwrap().clone();
            assert_eq!(sent[..before.len()], before, "{path}");
            assert_eq!(sent.len(), length);
            before = sent;
        }
        assert_eq!(before[0]["content"], "Why is it so? Tell me.");
        assert_eq!(
            before[1]["content"], "It  is.",
            "the model's own words stay"
        );
    }
}

#[test]
fn only_what_users_wrote_is_folded() {
    let edge = &mut folding();
    check(
        edge,
        RESPONSES,
        json!({"input": "a  b"}),
        json!({"input": "a b"}),
    );
    check(
        edge,
        CHAT,
        json!({"messages": [system("s  s"), {"role": "user", "name": "n  n", "content": [
            {"type": "text", "text": "a  b"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,A  A"}}]}]}),
        json!({"messages": [system("s  s"), {"role": "user", "name": "n  n", "content": [
            {"type": "text", "text": "a b"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,A  A"}}]}]}),
    );
    for (path, body) in [
        (
            "/v1/completions",
            json!({"model": "small", "max_tokens": 5, "prompt": "a  b"}),
        ),
        ("/v1/embeddings", json!({"model": "small", "input": "a  b"})),
    ] {
        assert_eq!(forwarded(edge, path, &body), body);
    }
}

#[test]
fn a_shadow_records_and_a_switch_ends_it() {
    let body = json!({"messages": [system("a b c"), system("a b c"), user("q")], "stop": null});
    check_untouched(
        &mut edge(json!({"shadow": ["compaction"]})),
        CHAT,
        body.clone(),
    );
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    config["compaction"] = json!({"enabled": false});
    check_untouched(&mut Edge::new(&config.to_string()), CHAT, body.clone());
    let mut edge = edge(json!({}));
    forwarded(&mut edge, CHAT, &request(CHAT, body));
    assert_eq!(edge.counted(Metric::CompactedTokens), 4);
}

/// Two spellings of one compacted request are one request.
#[test]
fn a_compacted_request_is_answered_from_the_cache() {
    let mut edge = edge(json!({}));
    let ask = |messages: Value| {
        json!({"model": "large", "temperature": 0, "messages": messages}).to_string()
    };
    let answer = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop",
                     "message": {"role": "assistant", "content": "x"}}]});
    let mut sent = edge.post(CHAT, &ask(json!([system("a"), system("a"), user("q")])));
    let head = [(":status", "200"), ("content-type", "application/json")];
    edge.answer(&mut sent, &head, &[answer.to_string().as_bytes()]);
    assert!(
        edge.post(CHAT, &ask(json!([system("a"), user("q")])))
            .reply()
            .is_some()
    );
}

#[track_caller]
fn check_fold(text: &str, expected: &str) {
    let folded = fold_whitespace(text);
    assert_eq!(folded.as_deref().unwrap_or(text), expected, "{text:?}");
    assert_eq!(folded.is_some(), text != expected, "{text:?}");
    assert_eq!(
        fold_whitespace(expected),
        None,
        "{text:?} is folded for good"
    );
}

#[test]
fn prose_is_folded() {
    check_fold("one  two.   Three", "one two. Three");
    check_fold("end  \nof a line\t\n.", "end\nof a line\n.");
    check_fold("a\n\n\n\n\nb\n\n\n", "a\n\nb\n\n");
    check_fold("a  \r\n\r\n\r\nb", "a\r\n\r\nb");
    check_fold("  - an item  of\n   a list", "  - an item of\n   a list");
    check_fold("it's  fine, the users'  too", "it's fine, the users' too");
    check_fold(
        "https://a.b/c?d=e%20%20f  is it",
        "https://a.b/c?d=e%20%20f is it",
    );
    check_fold(
        "\u{e9}t\u{e9}  \u{4e2d}\u{6587}",
        "\u{e9}t\u{e9} \u{4e2d}\u{6587}",
    );
    check_fold("a  b\n```\nc  d\n```\ne  f", "a b\n```\nc  d\n```\ne f");
}

#[test]
fn where_white_space_may_mean_something_it_stays() {
    for text in [
        "",
        " ",
        "plain words",
        "ends with  ",
        "```\na  b  \n\n\n\nc\n```",
        "```python\nx  = 1",
        "~~~~\na  b\n~~~\nc  d\n~~~~",
        "   ```\na  b\n   ```",
        "    indented  code",
        "a\n\n    x  = 1\n\n\n    y  = 2",
        "\tindented  code",
        "say \"a  b\" to them",
        "say 'a  b' to them",
        "run `a  b` now",
        "\u{201c}a  b\u{201d}",
        "| a  | b  |",
        "name\tage  of",
        "Name      Age\nNew York  300",
        "<pre>a  b</pre>",
        "<CODE>\na  b\n</CODE>",
        "\\begin{verbatim}\na  b\n\\end{verbatim}",
    ] {
        assert_eq!(fold_whitespace(text), None, "{text:?}");
    }
}

/// Lines of all kinds, in any order.
fn any_text() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        select(vec![
            "",
            " ",
            "    ",
            "\t",
            "```",
            "~~~",
            "```rust",
            "  ````",
            "plain",
            "two  gaps   here",
            "    code  here",
            "\ttab  code",
            "say \"a  b\"",
            "it's  so",
            "'a  b'",
            "| a  | b |",
            "a\tb  c",
            "trailing   ",
            "\u{4e2d}  \u{6587}  ",
            "`a  b`",
            "<pre>",
            "  - item  x",
        ])
        .prop_map(str::to_owned),
        "[ a-c`~'\"|\t]{0,12}",
    ];
    let end = select(vec!["\n", "\n", "\r\n", "\n\n\n", "\n\n"]);
    prop::collection::vec((line, end), 0..12)
        .prop_map(|lines| lines.into_iter().map(|(line, end)| line + end).collect())
}

/// The lines of fenced code, by the rules of CommonMark, fences included.
fn fenced(text: &str) -> Vec<String> {
    let mut open: Option<(char, usize)> = None;
    let mut code = Vec::new();
    for line in text.lines() {
        let marks = line.trim_start_matches(' ');
        let mark = marks.chars().next().unwrap_or(' ');
        let length = marks.chars().take_while(|it| *it == mark).count();
        let fence = line.len() - marks.len() <= 3 && "`~".contains(mark) && length >= 3;
        match open {
            None if fence => open = Some((mark, length)),
            None => continue,
            Some((by, least)) => {
                let alone = marks
                    .trim_end_matches([' ', '\t'])
                    .chars()
                    .all(|it| it == mark);
                if fence && by == mark && length >= least && alone {
                    open = None;
                }
            }
        }
        code.push(line.to_owned());
    }
    code
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 20_000,
        ..ProptestConfig::default() })]

    #[test]
    fn folding_keeps_every_word_and_all_code(text in any_text()) {
        let folded = fold_whitespace(&text).unwrap_or_else(|| text.clone());
        let words = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(words(&folded), words(&text));
        prop_assert_eq!(fenced(&folded), fenced(&text));
        prop_assert!(folded.len() <= text.len());
        prop_assert_eq!(fold_whitespace(&folded), None, "{:?} -> {:?}", text, folded);
        let lines = |text: &str| {
            let full = text.lines().filter(|line| !line.trim().is_empty());
            full.map(|line| line.split_ascii_whitespace().collect::<String>()).collect::<Vec<_>>()
        };
        prop_assert_eq!(lines(&folded), lines(&text));
    }

    #[test]
    fn without_the_routes_wish_no_string_is_changed(
        texts in prop::collection::vec((select(vec!["user", "system", "assistant"]), any_text()), 1..6),
        nulls in prop::collection::vec(select(vec!["stop", "user", "x", "seed"]), 0..3),
        repeats in prop::collection::vec(0..6_usize, 0..3),
    ) {
        let messages: Vec<Value> = texts
            .iter()
            .map(|(role, text)| json!({"role": role, "content": text}))
            .collect();
        let mut sent = messages.clone();
        sent.extend(repeats.iter().filter_map(|at| messages.get(*at).cloned()));
        let mut body = request(CHAT, json!({"messages": sent}));
        for name in nulls {
            body[name] = Value::Null;
        }
        // The changes by name, made a second way.
        let mut expected = body.clone();
        expected.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let mut seen: Vec<&Value> = Vec::new();
        sent.iter().for_each(|message| {
            if message["role"] != "system" || !seen.contains(&message) {
                seen.push(message);
            }
        });
        expected["messages"] = json!(seen);
        let once = forwarded(&mut edge(json!({})), CHAT, &body);
        prop_assert_eq!(&once, &expected);
        prop_assert_eq!(forwarded(&mut edge(json!({})), CHAT, &once), once);
    }
}

/// What the upstream gets of these bytes, byte for byte.
fn bytes_forwarded(edge: &mut Edge, path: &str, text: &str) -> String {
    let mut sent = edge.post(path, text);
    assert!(sent.reply().is_none(), "{:?}", sent.reply());
    let forwarded = sent.replaced_body().unwrap_or(text.as_bytes());
    let forwarded = String::from_utf8(forwarded.to_vec()).unwrap();
    edge.done(&mut sent);
    forwarded
}

/// A pinned model within its limits: nothing else would make the filter write the body anew.
fn loose(number: &str) -> (String, String) {
    let text = r#"a  b\n\" c:\t{ }, [ ] \u00e9 \\"#;
    let pretty = format!(
        "\n{{\n  \"model\" : \"small\",\r\n\t\"max_tokens\": 5, \"messages\": [ {{\"role\": \"user\", \
         \"content\": \"{text}\"}} ],\n  \"x\": {{ \"n\": {number} , \"e\": [ ], \"o\": {{ }} }}\n}}\n"
    );
    let tight = format!(
        "{{\"model\":\"small\",\"max_tokens\":5,\"messages\":[{{\"role\":\"user\",\
         \"content\":\"{text}\"}}],\"x\":{{\"n\":{number},\"e\":[],\"o\":{{}}}}}}"
    );
    (pretty, tight.replace("\\u00e9", "\u{e9}"))
}

#[test]
fn white_space_between_values_goes() {
    let numbers = [
        "0",
        "-1",
        "7",
        "0.5",
        "1.0",
        "2.5e-7",
        "-0.0",
        "9007199254740993",
        "18446744073709551615",
        "-9223372036854775808",
        "0.1",
        "123456789.123",
    ];
    let mut edge = edge(json!({}));
    for number in numbers {
        let (pretty, tight) = loose(number);
        assert_eq!(bytes_forwarded(&mut edge, CHAT, &pretty), tight, "{number}");
        assert_eq!(bytes_forwarded(&mut edge, CHAT, &tight), tight, "{number}");
    }
    // Those that are written anew in another spelling are the same numbers.
    for number in ["1.50", "1e2", "100e-2", "0.10", "1E-7"] {
        let (pretty, tight) = loose(number);
        let sent = bytes_forwarded(&mut edge, CHAT, &pretty);
        let [sent, tight] = [sent, tight].map(|it| serde_json::from_str::<Value>(&it).unwrap());
        assert_eq!(
            sent["x"]["n"].as_f64(),
            tight["x"]["n"].as_f64(),
            "{number}"
        );
        assert_eq!(sent["messages"], tight["messages"], "{number}");
    }
}

/// One blank at any place between two values is enough, and none inside a text is.
#[test]
fn a_single_blank_is_noticed_wherever_it_is() {
    let (_, tight) = loose("0.5");
    let tight = tight.replace('\u{e9}', "e");
    let mut edge = edge(json!({}));
    let mut places = 0;
    for at in 0..=tight.len() {
        let mut text = tight.clone();
        text.insert(at, ' ');
        // Inside a text it is part of it, and inside a word or a number there is no such JSON.
        let Ok(read) = serde_json::from_str::<Value>(&text) else {
            continue;
        };
        if read == serde_json::from_str::<Value>(&tight).unwrap() {
            assert_eq!(bytes_forwarded(&mut edge, CHAT, &text), tight, "{text}");
            places += 1;
        } else if read["model"] == "small" && read["max_tokens"] == 5 {
            let role = &read["messages"][0]["role"];
            if role == "user" && read["messages"][0]["content"].is_string() {
                assert_eq!(bytes_forwarded(&mut edge, CHAT, &text), text);
            }
        }
    }
    assert!(places > 40, "{places}");
}

#[test]
fn white_space_stays_where_compaction_may_not_act() {
    let (pretty, _) = loose("1");
    let mut shadow = edge(json!({"shadow": ["compaction"]}));
    assert_eq!(bytes_forwarded(&mut shadow, CHAT, &pretty), pretty);
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    config["compaction"] = json!({"enabled": false});
    let mut disabled = Edge::new(&config.to_string());
    assert_eq!(bytes_forwarded(&mut disabled, CHAT, &pretty), pretty);
    let mut acts = edge(json!({}));
    let marks = [
        r#"{"model": "small", "max_tokens": 5, "messages": [{"role": "user", "content": [
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]}]}"#,
        r#"{"model": "small", "max_tokens": 5, "cache_control": {"type": "ephemeral"},
            "messages": [{"role": "user", "content": "a"}]}"#,
    ];
    for marked in marks {
        assert_eq!(bytes_forwarded(&mut acts, MESSAGES, marked), marked);
    }
}
