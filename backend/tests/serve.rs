//! `farthing serve` as a process: what it prints, how it exits, and that a signal lets answers end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.farthing/models");

fn farthing(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farthing"));
    command.arg("serve").args(arguments);
    command
}

fn scratch(name: &str, text: &[u8]) -> PathBuf {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, text).expect("the target folder is writable");
    file
}

/// Runs to the end, which must come with this code and this word on standard error.
#[track_caller]
fn check_exit(arguments: &[&str], code: i32, reason: &str) -> Output {
    let output = farthing(arguments).output().expect("the binary starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(reason), "{stderr:?} lacks {reason:?}");
    assert!(
        !String::from_utf8_lossy(&output.stdout).contains("ready"),
        "{output:?}"
    );
    output
}

#[test]
fn what_is_wrong_at_the_start_ends_it_with_a_reason() {
    check_exit(&["--lisen", "x"], 2, "--lisen");
    check_exit(&[], 2, "--models");
    check_exit(&["--models", "/nonexistent"], 2, "/nonexistent");
    let config = scratch("wrong.yaml", b"http: {header_timeout_ms: soon}");
    let config = config.to_str().expect("paths here are UTF-8");
    check_exit(
        &["--models", MODELS, "--config", config],
        2,
        "http.header_timeout_ms: ",
    );
    check_exit(
        &["--models", MODELS, "--config", "/nonexistent.yaml"],
        1,
        "/nonexistent.yaml",
    );
}

#[test]
fn a_bad_model_file_is_named_and_never_ready() {
    let whole = std::fs::File::open(format!("{MODELS}/smollm2-135m-instruct.gguf"));
    let mut start = Vec::new();
    let taken = whole
        .expect("`cargo xtask test` has fetched it")
        .take(1 << 20);
    { taken }.read_to_end(&mut start).expect("it is readable");
    for (name, bytes) in [
        ("cut.gguf", &start[..]),
        ("text.gguf", b"not a model"),
        ("no.gguf", b""),
    ] {
        let model = scratch(name, bytes);
        let listed = format!("models: [{{id: bad, path: {}}}]", model.display());
        let config = scratch(&format!("{name}.yaml"), listed.as_bytes());
        check_exit(&["--config", config.to_str().expect("UTF-8")], 1, name);
    }
}

#[test]
fn an_address_in_use_is_a_clear_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    check_exit(
        &["--config", small_config(), "--listen", &address],
        1,
        &address,
    );
}

#[test]
fn the_configuration_in_force_is_printed() {
    let output = farthing(&[
        "--config",
        small_config(),
        "--threads",
        "3",
        "--print-config",
    ])
    .output()
    .expect("the binary starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    assert!(
        printed.contains("threads: 3\n") && printed.contains("queue_max: "),
        "{printed}"
    );
}

/// One small model, so that a start is quick.
fn small_config() -> &'static str {
    static FILE: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let write = || {
        let path = format!("{MODELS}/smollm2-135m-instruct.gguf");
        let yaml = format!("listen: 127.0.0.1:0\nmodels: [{{id: smollm2, path: {path}}}]\n");
        scratch("small.yaml", yaml.as_bytes())
    };
    FILE.get_or_init(write)
        .to_str()
        .expect("paths here are UTF-8")
}

/// A running `farthing serve`; killed when the test fails before it ends.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start() -> Running {
        Running::start_with(small_config())
    }

    fn start_with(config: &str) -> Running {
        let mut child = farthing(&["--config", config])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it prints a line");
        let address = line.trim().strip_prefix("ready http://").map(str::to_owned);
        Running {
            child,
            address: address.unwrap_or_else(|| panic!("{line:?}")),
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .expect("kill runs");
        assert!(sent.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn check_signal(name: &str) {
    let mut running = Running::start();
    let mut stream = TcpStream::connect(&running.address).expect("it listens");
    let body = r#"{"model":"smollm2","prompt":"1 2 3","max_tokens":40,"stream":true}"#;
    let head = format!(
        "host: t\r\ncontent-length: {}\r\nconnection: close",
        body.len()
    );
    write!(
        stream,
        "POST /v1/completions HTTP/1.1\r\n{head}\r\n\r\n{body}"
    )
    .expect("it reads");
    let mut first = [0; 1];
    stream.read_exact(&mut first).expect("the answer starts");
    running.signal(name);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("the answer ends");
    assert!(rest.contains("data: [DONE]\n\n"), "{rest}");
    let status = running.child.wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn sigterm_lets_a_stream_end_and_exits_0() {
    check_signal("TERM");
}

#[test]
fn sigint_lets_a_stream_end_and_exits_0() {
    check_signal("INT");
}

/// One exchange on a connection of its own, head and body as text.
fn exchange(running: &Running, request: &str) -> String {
    let mut stream = TcpStream::connect(&running.address).expect("it listens");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// A question whose answer ends by itself, so that it is kept.
fn ask_to_keep(running: &Running, tenant: &str) -> String {
    let body =
        r#"{"model":"smollm2","prompt":"1, 2, 3","max_tokens":64,"temperature":0,"stop":[" 6"]}"#;
    let length = body.len();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\
         x-farthing-tenant: {tenant}\r\ncontent-length: {length}\r\n\r\n"
    );
    exchange(running, &(head + body))
}

#[test]
fn kept_answers_survive_being_killed() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join("killed.redb");
    let _ = std::fs::remove_file(&file);
    let model = format!("{MODELS}/smollm2-135m-instruct.gguf");
    let yaml = format!(
        "listen: 127.0.0.1:0\nmodels: [{{id: smollm2, path: {model}}}]\n\
         response_store: {{path: {}}}\n",
        file.display()
    );
    let config = scratch("killed.yaml", yaml.as_bytes());
    let config = config.to_str().expect("paths here are UTF-8");
    let mut running = Running::start_with(config);
    let first = ask_to_keep(&running, "a");
    assert!(
        first.contains("x-farthing-source: model") && first.contains(r#""stop""#),
        "{first}"
    );
    let metrics = "GET /metrics HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n";
    let written = "farthing_response_store_written_total 1\n";
    while !exchange(&running, metrics).contains(written) {
        assert!(
            running.child.try_wait().expect("a status").is_none(),
            "it ended"
        );
        std::thread::yield_now();
    }
    running.signal("KILL");
    assert!(!running.child.wait().expect("it ends").success());
    let running = Running::start_with(config);
    let again = ask_to_keep(&running, "a");
    assert!(
        again.contains("x-farthing-source: response-store"),
        "{again}"
    );
    let body = |answer: &str| {
        answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned())
    };
    assert_eq!(body(&again), body(&first));
    assert!(ask_to_keep(&running, "b").contains("x-farthing-source: model"));
}
