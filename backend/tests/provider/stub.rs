//! A provider that does what a script says, and remembers what it was asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Bounds a wait for something that happens within milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What it does with one request.
pub enum Act {
    /// A whole answer with a status, more headers, and a body.
    Answer(u16, &'static str, String),
    /// These bytes, then the connection is closed.
    Bytes(Vec<u8>),
    /// These bytes, then once the gate opens those, then the connection is closed.
    Gated(Vec<u8>, Gate, Vec<u8>),
    /// These bytes, then silence until the client leaves.
    Silence(Vec<u8>),
}

/// What an answer waits for in its middle.
pub type Gate = Arc<Mutex<Receiver<()>>>;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub head: String,
    pub body: Value,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// The provider.
pub struct Stub {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    left: Arc<AtomicUsize>,
}

impl Stub {
    /// Starts one; the script is told how many requests came before.
    pub fn start(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let stub = Stub {
            address,
            asked: Arc::default(),
            left: Arc::default(),
        };
        let (asked, left, script) = (stub.asked.clone(), stub.left.clone(), Arc::new(script));
        // It accepts until the test process ends.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, left, script) = (asked.clone(), left.clone(), script.clone());
                std::thread::spawn(move || serve(stream, &asked, &left, &*script));
            }
        });
        stub
    }

    /// Answers everything with this text.
    pub fn saying(text: &'static str) -> Stub {
        Stub::start(move |_| Act::Answer(200, "", chat(text)))
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }

    /// Waits until so many clients have left it in the middle of an answer.
    #[track_caller]
    pub fn wait_for_leaving(&self, count: usize) {
        let since = Instant::now();
        while self.left.load(Ordering::Acquire) < count {
            assert!(since.elapsed() < PATIENCE, "nobody left");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A provider's entry of a configuration.
    pub fn provider(&self, name: &str, more: &str) -> String {
        format!(
            "- {{name: {name}, api: openai, base_url: \"http://{}/v1\"{more}}}\n",
            self.address
        )
    }
}

fn serve(
    mut stream: TcpStream,
    asked: &Mutex<Vec<Asked>>,
    left: &AtomicUsize,
    script: &dyn Fn(usize) -> Act,
) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_nodelay(true).ok()?;
    loop {
        let request = read_request(&mut stream)?;
        let before = {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.push(request);
            asked.len() - 1
        };
        match script(before) {
            Act::Answer(status, headers, body) => {
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}\
                     content-length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all(head.as_bytes()).ok()?;
                stream.write_all(body.as_bytes()).ok()?;
            }
            Act::Bytes(bytes) => {
                stream.write_all(&bytes).ok()?;
                return None;
            }
            Act::Gated(first, gate, rest) => {
                stream.write_all(&first).ok()?;
                let gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
                gate.recv_timeout(PATIENCE).ok()?;
                stream.write_all(&rest).ok()?;
                return None;
            }
            Act::Silence(bytes) => {
                stream.write_all(&bytes).ok()?;
                // The client says no more: what ends this is its leaving.
                if let Ok(0) | Err(_) = stream.read(&mut [0; 1]) {
                    left.fetch_add(1, Ordering::Release);
                }
                return None;
            }
        }
    }
}

fn read_request(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = head_end {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let mut asked = Asked {
                head,
                body: Value::Null,
            };
            let length: usize = asked.header("content-length")?.parse().ok()?;
            let body = &bytes[end + 4..];
            if body.len() >= length {
                asked.body = serde_json::from_slice(body).ok()?;
                return Some(asked);
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
        }
    }
}

/// A whole chat that says this.
pub fn chat(text: &str) -> String {
    json!({"id": "chatcmpl-s", "object": "chat.completion", "created": 1, "model": "upstream",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text},
            "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}})
    .to_string()
}

/// OpenAI's error.
pub fn error(code: &str, message: &str) -> String {
    json!({"error": {"message": message, "type": "x", "param": null, "code": code}}).to_string()
}

/// The head of a stream that ends with its connection, and chunks with these texts.
pub fn stream(texts: &[&str]) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec();
    for text in texts {
        let chunk = json!({"id": "chatcmpl-s", "object": "chat.completion.chunk", "created": 1,
            "model": "upstream", "choices": [{"index": 0, "delta": {"content": text},
                "finish_reason": null}]});
        bytes.extend_from_slice(format!("data: {chunk}\n\n").as_bytes());
    }
    bytes
}
