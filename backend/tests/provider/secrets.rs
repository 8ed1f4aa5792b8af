//! Keys: sent where they belong, read again when they change, and in nothing that anybody sees.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use super::client::{Connection, get};
use super::failures::{asking, check};
use super::server::Server;
use super::stub::{Act, Stub, chat, error};

const KEY: &str = "sk-canary-7f3a90c1";
const PROMPT: &str = "canary-prompt-51d2";
const ANSWER: &str = "canary-answer-08be";

fn file(name: &str, text: &str) -> PathBuf {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, text).expect("the target folder is writable");
    file
}

#[test]
fn each_api_takes_its_key_in_its_own_header() {
    let key = file("key-of-each", &format!("{KEY}\n"));
    for (api, header, value, path) in [
        (
            "openai",
            "authorization",
            format!("Bearer {KEY}"),
            "/v1/chat/completions",
        ),
        ("anthropic", "x-api-key", KEY.to_owned(), "/v1/messages"),
        (
            "gemini",
            "x-goog-api-key",
            KEY.to_owned(),
            "/v1/models/up:generateContent",
        ),
    ] {
        let stub = Stub::start(|_| Act::Answer(500, "", String::new()));
        let front = Server::of(&format!(
            "providers: [{{name: p, api: {api}, base_url: \"http://{}/v1/\", key: {{file: {}}}, \
             retries: {{attempts: 0}}}}]\nmodels: [{{id: m, provider: p, upstream_model: up}}]\n",
            stub.address,
            key.display()
        ));
        check(&front.ask(&asking("m", json!({}))), 502, "provider_failed");
        let asked = stub.asked().remove(0);
        assert_eq!(asked.header(header), Some(&*value), "{}", asked.head);
        assert!(
            asked.head.starts_with(&format!("POST {path} HTTP/1.1\r\n")),
            "{}",
            asked.head
        );
        assert_eq!(asked.head.matches(KEY).count(), 1, "{}", asked.head);
        let version = asked.header("anthropic-version");
        assert_eq!(version.is_some(), api == "anthropic", "{}", asked.head);
        // Nothing of our client's head goes on to the provider.
        for ours in ["x-farthing", "cookie", "x-forwarded"] {
            assert!(
                !asked.head.to_ascii_lowercase().contains(ours),
                "{}",
                asked.head
            );
        }
        front.end();
    }
}

#[test]
fn a_key_that_is_replaced_is_read_again() {
    let key = file("key-replaced", "old-key");
    let path = key.clone();
    let stub = Stub::start(move |before| match before {
        0 => {
            // As a rotation does it: the old one is refused, the new one is there.
            std::fs::write(&path, "new-key").expect("it is writable");
            Act::Answer(401, "", error("invalid_api_key", "no"))
        }
        _ => Act::Answer(200, "", chat("welcome")),
    });
    let more = format!(", key: {{file: {}}}", key.display());
    let front = super::failures::front(&[(&stub, "only", &more)]);
    check(&front.ask(&asking("only", json!({}))), 200, "welcome");
    let sent: Vec<_> = stub
        .asked()
        .iter()
        .map(|asked| asked.header("authorization").map(str::to_owned))
        .collect();
    assert_eq!(
        sent,
        [
            Some("Bearer old-key".to_owned()),
            Some("Bearer new-key".to_owned())
        ]
    );
    // A file that is gone, or holds nothing, leaves the key as it is.
    std::fs::write(&key, "").expect("it is writable");
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    check(&front.ask(&asking("only", json!({}))), 200, "welcome");
    assert_eq!(
        stub.asked()[2].header("authorization"),
        Some("Bearer new-key")
    );
    front.end();
}

/// Runs the program with these arguments and this key in its environment, sends the requests, ends
/// it, and gives all that it said and answered.
fn said_by_the_program(config: &Path, requests: &[Vec<u8>]) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_farthing"))
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(config)
        .env("CANARY_KEY", KEY)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut said = String::new();
    stdout
        .read_line(&mut said)
        .expect("it says that it is ready");
    let address = said.trim().strip_prefix("ready http://");
    let address: SocketAddr = address.expect("ready").parse().expect("an address");
    for request in requests {
        let mut connection = Connection::open(address);
        connection.send(request);
        let reply = connection.reply().expect("an answer");
        said.push_str(&format!("{:?} {}\n", reply.headers, reply.text()));
    }
    // One more that is cut off in the middle.
    let mut cut = TcpStream::connect(address).expect("it listens");
    cut.write_all(&requests[0][..40]).expect("it reads");
    drop(cut);
    let killed = Command::new("kill").arg(child.id().to_string()).status();
    assert!(killed.expect("kill runs").success());
    stdout.read_to_string(&mut said).expect("UTF-8");
    let mut stderr = child.stderr.take().expect("it is piped");
    stderr.read_to_string(&mut said).expect("UTF-8");
    child.wait().expect("it ends");
    said
}

#[test]
fn no_key_and_no_prompt_is_in_what_anybody_sees() {
    let repeating = Stub::start(|before| {
        // A provider that repeats the key in every way it can.
        let words = format!("wrong key {KEY} for {PROMPT}");
        match before % 5 {
            0 => Act::Answer(400, "", error(KEY, &format!("bad key {KEY}"))),
            1 => Act::Answer(401, "x-key: canary\r\n", error("invalid_api_key", &words)),
            2 => Act::Answer(500, "", words),
            3 => Act::Answer(200, "", format!("{{\"error\":{{\"message\":\"{KEY}\"}}}}")),
            _ => Act::Answer(200, "", chat(ANSWER)),
        }
    });
    let config = file(
        "canary.yaml",
        &format!(
            "providers:\n{}models: [{{id: far, provider: far}}]\n",
            repeating.provider("far", ", key: {env: CANARY_KEY}, retries: {attempts: 0}")
        ),
    );
    let prompt = json!({"messages": [{"role": "user", "content": PROMPT}]});
    let mut requests: Vec<_> = (0..5).map(|_| asking("far", prompt.clone())).collect();
    requests.push(get("/metrics"));
    requests.push(get("/v1/models"));
    let said = said_by_the_program(&config, &requests);
    assert_eq!(repeating.asked().len(), 5);
    assert!(
        repeating
            .asked()
            .iter()
            .all(|asked| asked.head.contains(KEY))
    );
    assert!(!said.contains(KEY), "{said}");
    assert!(!said.contains(PROMPT), "{said}");
    assert!(said.contains("bad key [key]"), "{said}");
    // The answer is in the answer, and there only.
    assert_eq!(said.matches(ANSWER).count(), 1, "{said}");
    assert!(said.contains("event=provider_failed"), "{said}");
    assert!(said.contains("failure=credentials"), "{said}");
    let printed = Command::new(env!("CARGO_BIN_EXE_farthing"))
        .args(["serve", "--print-config", "--config"])
        .arg(&config)
        .env("CANARY_KEY", KEY)
        .output()
        .expect("the binary starts");
    let printed = format!("{printed:?}");
    assert!(
        printed.contains("CANARY_KEY") && !printed.contains(KEY),
        "{printed}"
    );
}

#[test]
fn a_key_that_is_not_there_ends_the_start_with_its_field() {
    for (key, text) in [
        (
            "{env: SURELY_NOT_SET_5d1}".to_owned(),
            "SURELY_NOT_SET_5d1 is not set",
        ),
        (
            format!("{{file: {}}}", file("key-empty", " \n").display()),
            "a key has 1 to",
        ),
        (
            format!("{{file: {}}}", file("key-two", "canary words").display()),
            "visible ASCII",
        ),
        ("{file: /nonexistent/key}".to_owned(), "/nonexistent/key"),
    ] {
        let yaml = format!(
            "providers: [{{name: p, api: openai, key: {key}}}]\nmodels: [{{id: m, provider: p}}]\n"
        );
        let config = file("key-missing.yaml", &yaml);
        let output = Command::new(env!("CARGO_BIN_EXE_farthing"))
            .args(["serve", "--config"])
            .arg(&config)
            .output()
            .expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(text), "{said}");
        assert!(said.contains("providers[0].key."), "{said}");
        assert!(!said.contains("canary words"), "{said}");
    }
}
