//! The real .wasm, driven by its ABI. Each case of `tests/cases` is a script with its expected
//! transcript beside it; `FARTHING_BLESS=1` rewrites the expectations.

mod bounds;
mod case;
mod costs;
pub mod counting;
pub mod golden;
mod open_streams;
pub mod proxy;
mod random_orders;
mod random_parts;
mod transcript;

use crate::wasm_host::{End, HeaderMap};
use case::{Ending, Step};
use farthing_host_tests::paths;
use proxy::Proxy;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use transcript::Transcript;

/// A script may not grow beyond what is understood at a glance.
const CASE_LINES_MAX: usize = 15;

#[test]
fn cases() {
    let fixtures = fixtures();
    let bless = std::env::var_os("FARTHING_BLESS").is_some();
    let mut files: Vec<PathBuf> = fs::read_dir(folder())
        .expect("the folder of cases")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "case")
        })
        .collect();
    files.sort();
    let mut wrong = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("a readable case");
        assert!(
            text.lines().count() <= CASE_LINES_MAX,
            "{} is too long",
            file.display()
        );
        let found = run(&text, &fixtures);
        let expected_file = file.with_extension("expected");
        if bless {
            fs::write(&expected_file, &found).expect("a writable folder");
        }
        let expected = fs::read_to_string(&expected_file).unwrap_or_default();
        if expected != found {
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            wrong.push(format!(
                "=== {name}\n{}",
                first_difference(&expected, &found)
            ));
        }
    }
    assert!(!files.is_empty());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The one way a case meets the filter.
fn run(text: &str, fixtures: &Value) -> String {
    let case = case::parse(text, fixtures);
    let mut transcript = Transcript::default();
    let (mut proxy, accepted) = Proxy::start(case.configuration.to_string().as_bytes());
    if !accepted {
        transcript.line("configuration refused");
        transcript.step(&mut proxy);
        return transcript.finish();
    }
    for (line, step) in &case.steps {
        transcript.line(line);
        apply(&mut proxy, step);
        transcript.step(&mut proxy);
        if let Some(id) = step.words.first()
            && ended(&proxy, step)
        {
            transcript.forget(id);
            proxy.close(id);
            transcript.step(&mut proxy);
        }
    }
    transcript.finish()
}

/// A stream is over when its answer is, or when we have replied.
fn ended(proxy: &Proxy, step: &Step) -> bool {
    let replied = |id: &String| proxy.streams.get(id).is_some_and(|stream| stream.replied);
    matches!(step.verb.as_str(), "answer" | "leave") || step.words.first().is_some_and(replied)
}

fn apply(proxy: &mut Proxy, step: &Step) {
    let word = |index: usize| step.words.get(index).map_or("", String::as_str);
    match step.verb.as_str() {
        "vm" => {
            proxy.use_vm(word(0).parse().expect("vm N"));
        }
        "clock" => proxy.pass_time(word(0).parse().expect("clock MILLISECONDS")),
        "tick" => proxy.tick(),
        "corrupt" => proxy.shared_data().corrupt(),
        "ask" => {
            let mut headers = request_headers(word(0), "POST", "/v1/chat/completions");
            headers.push(header("content-type", "application/json"));
            headers.push(header("content-length", &step.body.len().to_string()));
            if word(1) != "-" {
                headers.push(header("authorization", &format!("Bearer {}", word(1))));
            }
            headers.extend(step.headers.iter().map(|(name, value)| header(name, value)));
            proxy.open(word(0), headers, End::No);
            request_body(proxy, word(0), step);
        }
        "open" => {
            let mut headers = request_headers(word(0), word(1), word(2));
            headers.extend(step.headers.iter().map(|(name, value)| header(name, value)));
            let end = if step.body == b"end" {
                End::Yes
            } else {
                End::No
            };
            proxy.open(word(0), headers, end);
        }
        "body" => request_body(proxy, word(0), step),
        "answer" => {
            proxy.response_headers(word(0), response_headers(step), End::No);
            response_body(proxy, word(0), step);
        }
        "head" => proxy.response_headers(word(0), response_headers(step), End::No),
        "data" => proxy.response_body(word(0), &step.body, End::No),
        _ => {}
    }
}

fn request_body(proxy: &mut Proxy, id: &str, step: &Step) {
    for (part, end) in parts(step) {
        proxy.request_body(id, part, end);
    }
    if step.ending == Ending::WithTrailers {
        proxy.request_trailers(id);
    }
}

fn response_body(proxy: &mut Proxy, id: &str, step: &Step) {
    for (part, end) in parts(step) {
        proxy.response_body(id, part, end);
    }
    if step.ending == Ending::WithTrailers {
        proxy.response_trailers(id);
    }
}

/// The parts that a body arrives in; the last one ends it if nothing else does.
fn parts(step: &Step) -> Vec<(&[u8], End)> {
    let size = step.split.unwrap_or(step.body.len()).max(1);
    let mut parts: Vec<_> = step.body.chunks(size).map(|part| (part, End::No)).collect();
    if parts.is_empty() {
        parts.push((&[], End::No));
    }
    if let (Some(last), Ending::WithLastByte) = (parts.last_mut(), step.ending) {
        last.1 = End::Yes;
    }
    parts
}

fn request_headers(id: &str, method: &str, path: &str) -> HeaderMap {
    vec![
        header(":method", method),
        header(":path", path),
        header(":scheme", "http"),
        header(":authority", "gateway.test"),
        header("x-request-id", &format!("request-{id}")),
    ]
}

fn response_headers(step: &Step) -> HeaderMap {
    let mut headers = vec![header(":status", &step.words[1])];
    headers.push(header("content-type", &step.words[2]));
    headers.extend(step.headers.iter().map(|(name, value)| header(name, value)));
    headers
}

fn header(name: &str, value: &str) -> (String, Vec<u8>) {
    (name.to_string(), value.as_bytes().to_vec())
}

fn folder() -> PathBuf {
    paths::workspace_root()
        .join("host-tests")
        .join("tests")
        .join("cases")
}

/// Bodies and the base configuration, by name.
pub fn fixtures() -> Value {
    let text = fs::read_to_string(folder().join("fixtures.json")).expect("the fixtures");
    serde_json::from_str(&text).expect("fixtures are JSON")
}

fn first_difference(expected: &str, found: &str) -> String {
    let pairs = expected.lines().map(Some).chain(std::iter::repeat(None));
    let differing = pairs
        .zip(found.lines())
        .enumerate()
        .find(|(_, (e, f))| *e != Some(*f));
    match differing {
        Some((line, (expected, found))) => {
            let expected = expected.unwrap_or("(nothing)");
            format!(
                "line {}\n  expected: {expected}\n  found:    {found}",
                line + 1
            )
        }
        None => format!("{} lines are missing at the end", expected.lines().count()),
    }
}
