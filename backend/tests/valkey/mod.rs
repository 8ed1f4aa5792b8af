//! A real Valkey, with RediSearch where that is wanted, on a socket in the file system: there is no
//! port to clash over.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{BufRead, BufReader};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use farthing_backend::config::{RedisConfig, RedisUrl};
use farthing_backend::remote::Link;
use redis::{Connection, Value};

const FETCHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.farthing");

/// Ends the server when we end, however that comes about: our end of the pipe is closed then.
const LEASH: &str = r#""$@" >/dev/null 2>&1 & echo $!; read -r _; kill -KILL $! 2>/dev/null; wait"#;

/// Longer than any answer takes on a busy machine: what is tried is not how fast it is.
pub const PATIENT_MS: u32 = 10_000;

/// One server, or where one may be started.
pub struct Valkey {
    socket: PathBuf,
    arguments: Vec<String>,
    running: Option<(Child, u32)>,
}

impl Valkey {
    /// One that searches vectors.
    pub fn with_search() -> Valkey {
        Valkey::with_search_and(&[])
    }

    /// One that searches vectors, with further arguments.
    pub fn with_search_and(arguments: &[&str]) -> Valkey {
        let module = format!("{FETCHED}/redisearch-2.10.5/redisearch.so");
        Valkey::start(&[&["--loadmodule", &module], arguments].concat())
    }

    /// One with these arguments.
    pub fn start(arguments: &[&str]) -> Valkey {
        let mut valkey = Valkey::absent(arguments);
        valkey.run();
        valkey
    }

    /// One that has not been started.
    pub fn absent(arguments: &[&str]) -> Valkey {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        Valkey {
            // A path of a socket has some hundred bytes at most, and target folders are deep.
            socket: std::env::temp_dir().join(format!("farthing-valkey-{name}.sock")),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            running: None,
        }
    }

    /// Starts it, empty.
    #[track_caller]
    pub fn run(&mut self) {
        let mut child = Command::new("/bin/sh")
            .args(["-c", LEASH, "leash"])
            .arg(format!("{FETCHED}/valkey-9.1.2/valkey-server"))
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .arg("--unixsocket")
            .arg(&self.socket)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("it is piped");
        let read = BufReader::new(output).read_line(&mut line);
        read.expect("the shell says whom it started");
        let pid = line.trim().parse().expect("a process id");
        self.running = Some((child, pid));
        for _ in 0..1_000 {
            if self.connect().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("valkey-server does not serve; `cargo xtask test` fetches it");
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        let Some((mut child, pid)) = self.running.take() else {
            return;
        };
        signal("KILL", pid);
        drop(child.stdin.take());
        let _ = child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }

    /// Lets it hang: connections stand, and nothing is answered.
    pub fn hang(&self) {
        self.running
            .iter()
            .for_each(|(_, pid)| signal("STOP", *pid));
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.running
            .iter()
            .for_each(|(_, pid)| signal("CONT", *pid));
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    pub fn socket(&self) -> &PathBuf {
        &self.socket
    }

    /// Its configuration, for a backend that waits so long.
    pub fn config(&self, timeout_ms: u32) -> RedisConfig {
        RedisConfig {
            url: RedisUrl::try_from(self.url()).expect("an address"),
            user: None,
            password: None,
            ca_file: None,
            prefix: "farthing".to_owned(),
            timeout_ms: NonZeroU32::new(timeout_ms).expect("not zero"),
        }
    }

    /// A backend's way to it.
    #[track_caller]
    pub fn link(&self, timeout_ms: u32) -> Arc<Link> {
        let link = Link::start(&self.config(timeout_ms)).expect("it starts");
        wait_until("there is a connection", || link.is_up());
        Arc::new(link)
    }

    fn connect(&self) -> Option<Connection> {
        let client = redis::Client::open(self.url()).expect("an address");
        let mut connection = client.get_connection().ok()?;
        let pong: Result<Value, _> = redis::cmd("PING").query(&mut connection);
        // One that wants a password serves too.
        let serves = |error: redis::RedisError| error.code() == Some("NOAUTH");
        pong.map_or_else(serves, |_| true).then_some(connection)
    }

    /// Asks it directly.
    #[track_caller]
    pub fn ask(&self, words: &[&[u8]]) -> Value {
        let mut connection = self.connect().expect("it serves");
        let (name, arguments) = words.split_first().expect("a command");
        let name = std::str::from_utf8(name).expect("a name");
        let mut command = redis::cmd(name);
        for word in arguments {
            command.arg(*word);
        }
        let answer = command.query(&mut connection);
        answer.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// All keys that fit a pattern.
    pub fn keys(&self, pattern: &str) -> Vec<Vec<u8>> {
        redis::from_redis_value(self.ask(&[b"KEYS", pattern.as_bytes()])).expect("keys")
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        self.kill();
    }
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("/bin/sh")
        .args([
            "-c",
            "kill -\"$1\" \"$2\"",
            "signal",
            name,
            &pid.to_string(),
        ])
        .status();
    assert!(sent.is_ok_and(|status| status.success()), "SIG{name}");
}

/// Waits for what another thread or process does.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..30_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("not within half a minute: {what}");
}
