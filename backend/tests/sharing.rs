//! Two `farthing serve` with one Redis: what one has made, the other answers with, for the same
//! tenant; and nobody notices when Redis dies.

#[allow(dead_code, reason = "the server's own tests use more of it")]
#[path = "http/client.rs"]
mod client;
mod valkey;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use client::{Connection, Reply, get, post};
use serde_json::json;
use valkey::{Valkey, wait_until};

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.farthing/models");
const PASSWORD: &str = "canary-password-2b8d";
const ASKED: &str = "How do I reset the password of my account?";
const SAME: &str = "Please, how can I reset my account's password?";

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn farthing(config: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farthing"));
    command.arg("serve").arg("--config").arg(config).args(more);
    command
}

/// A configuration for both: nothing in it is of one backend.
fn config(valkey: &Valkey) -> PathBuf {
    let password = scratch("sharing-password");
    std::fs::write(&password, PASSWORD).expect("the target folder is writable");
    let yaml = format!(
        "listen: 127.0.0.1:0\n\
         models:\n\
         - {{id: smollm2, path: {MODELS}/smollm2-135m-instruct.gguf}}\n\
         - {{id: minilm, path: {MODELS}/all-MiniLM-L6-v2}}\n\
         redis: {{url: \"{}\", password: {{file: {}}}, timeout_ms: 1000}}\n\
         response_store: {{in: redis}}\n\
         semantic_cache: {{in: redis, max_wrong: 0.01}}\n",
        valkey.url(),
        password.display()
    );
    let file = scratch("sharing.yaml");
    std::fs::write(&file, yaml).expect("the target folder is writable");
    file
}

/// A backend; killed when the test ends.
struct Running {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Running {
    fn start(config: &Path, name: &str) -> Running {
        let log = scratch(&format!("sharing-{name}.log"));
        let mut child = farthing(config, &[])
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("the target folder is writable"))
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it prints a line");
        let address = line.trim().strip_prefix("ready http://");
        let address = address.and_then(|address| address.parse().ok());
        Running {
            child,
            address: address.unwrap_or_else(|| panic!("{line:?}")),
            log,
        }
    }

    #[track_caller]
    fn exchange(&self, request: &[u8]) -> Reply {
        let mut connection = Connection::open(self.address);
        connection.send(request);
        let reply = connection.reply().expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply
    }

    /// Asks for an answer that ends by itself; what it is, and where it came from.
    #[track_caller]
    fn ask(&self, tenant: &str, text: &str) -> (String, String) {
        let body = json!({
            "model": "smollm2",
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 64,
            "temperature": 0,
            "stop": [".", ":"],
        });
        let headers = [("x-farthing-tenant", tenant)];
        let reply = self.exchange(&post("/v1/chat/completions", &headers, body.to_string()));
        let source = reply.header("x-farthing-source").expect("a source");
        let content = &reply.json()["choices"][0]["message"]["content"];
        (source.to_owned(), content.to_string())
    }

    #[track_caller]
    fn metric(&self, name: &str) -> u64 {
        let page = self.exchange(&get("/metrics")).text();
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("{name} in {page}"))
    }

    #[track_caller]
    fn wait_for(&self, name: &str, count: u64) {
        wait_until(name, || self.metric(name) >= count);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn one_answers_what_the_other_has_made_and_lives_on_without_redis() {
    let mut valkey = Valkey::with_search_and(&["--requirepass", PASSWORD]);
    let config = config(&valkey);
    let (one, other) = (
        Running::start(&config, "one"),
        Running::start(&config, "other"),
    );
    one.wait_for("farthing_redis_up", 1);
    other.wait_for("farthing_redis_up", 1);
    let (source, first) = one.ask("alice", ASKED);
    assert_eq!(source, "model");
    one.wait_for("farthing_response_store_written_total", 1);
    one.wait_for("farthing_semantic_written_total", 1);
    assert_eq!(
        other.ask("alice", ASKED),
        ("response-store".to_owned(), first.clone())
    );
    assert_eq!(
        other.ask("alice", SAME),
        ("semantic-cache".to_owned(), first)
    );
    assert_eq!(other.ask("bob", ASKED).0, "model");
    assert_eq!(other.ask("carol", SAME).0, "model");

    valkey.kill();
    for backend in [&one, &other] {
        wait_until("the loss is noticed", || {
            backend.metric("farthing_redis_up") == 0
        });
        assert_eq!(backend.ask("alice", ASKED).0, "model");
    }
    // It comes back empty.
    valkey.run();
    other.wait_for("farthing_redis_up", 1);
    let written = other.metric("farthing_response_store_written_total");
    let asked = "Who wrote Jane Eyre?";
    assert_eq!(other.ask("alice", asked).0, "model");
    other.wait_for("farthing_response_store_written_total", written + 1);
    one.wait_for("farthing_redis_up", 1);
    assert_eq!(one.ask("alice", asked).0, "response-store");

    // It hangs.
    valkey.hang();
    assert_eq!(one.ask("alice", asked).0, "model");
    assert_eq!(one.ask("dave", asked).0, "model");
    valkey.go_on();
    one.wait_for("farthing_redis_up", 1);
    for backend in [one, other] {
        let said = std::fs::read_to_string(&backend.log).expect("its log");
        for secret in [PASSWORD, "reset", "Jane Eyre"] {
            assert!(!said.contains(secret), "{secret} in {said}");
        }
        assert_eq!(
            said.matches("event=redis_is_not_bounded").count(),
            1,
            "{said}"
        );
    }
}

#[test]
fn the_configuration_in_force_names_no_password() {
    let valkey = Valkey::absent(&[]);
    let config = config(&valkey);
    let Output { stdout, status, .. } = farthing(&config, &["--print-config"])
        .output()
        .expect("the binary starts");
    let printed = String::from_utf8_lossy(&stdout);
    assert!(status.success());
    assert!(printed.contains("in: redis") && printed.contains("sharing-password"));
    assert!(!printed.contains(PASSWORD), "{printed}");
}
