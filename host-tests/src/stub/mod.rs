//! An upstream that answers as it is told and remembers what it was asked. One thread a connection,
//! which is plenty for tests and, with keep-alive, for benchmarks on a few connections.

mod answer;

pub use answer::{Answer, Gate, Piece, split};

use crate::http::{self, Framing, Headers};
use answer::head_bytes;
use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Requests that are remembered; a benchmark sends more and asks for none of them.
const RECORDED_MAX: usize = 10_000;
/// A request of a test that is not complete after this long never will be.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// A request as the upstream saw it.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: String,
    pub path: String,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Recorded {
    /// The first header called `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        http::header(&self.headers, name)
    }

    /// The body as JSON; `Null` when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

type Script = dyn Fn(&Recorded) -> Answer + Send + Sync;

/// What the upstream has seen.
#[derive(Default)]
struct Seen {
    requests: Vec<Recorded>,
    requests_total: u64,
    abandoned: u64,
}

struct Shared {
    script: Box<Script>,
    seen: Mutex<Seen>,
    changed: Condvar,
    stopping: AtomicBool,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running upstream. It stops accepting on drop.
pub struct StubUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl StubUpstream {
    /// Listens on a free port and answers every request by `script`.
    pub fn start(
        script: impl Fn(&Recorded) -> Answer + Send + Sync + 'static,
    ) -> io::Result<StubUpstream> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            script: Box::new(script),
            seen: Mutex::default(),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.stopping.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&accepting);
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Ok(StubUpstream { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.seen().requests.clone()
    }

    /// How many requests there were, remembered or not.
    pub fn requests_total(&self) -> u64 {
        self.shared.seen().requests_total
    }

    /// How many answers could not be sent to their end because the client had gone.
    pub fn abandoned(&self) -> u64 {
        self.shared.seen().abandoned
    }

    /// Waits until `count` answers were abandoned; false when `limit` passes before.
    pub fn wait_until_abandoned(&self, count: u64, limit: Duration) -> bool {
        let seen = self.shared.seen();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(seen, limit, |s| s.abandoned < count);
        let (seen, _) = waited.unwrap_or_else(PoisonError::into_inner);
        seen.abandoned >= count
    }
}

impl Drop for StubUpstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Wakes the accepting thread so that it sees the flag.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, shared: &Shared) {
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| stream.set_read_timeout(Some(SILENCE_MAX)))
        .and_then(|()| stream.set_write_timeout(Some(SILENCE_MAX)));
    let Ok(mut out) = prepared.and_then(|()| stream.try_clone()) else {
        return;
    };
    let mut from = BufReader::new(stream);
    while let Ok(Some(request)) = read_request(&mut from) {
        let answer = (shared.script)(&request);
        {
            let mut seen = shared.seen();
            seen.requests_total += 1;
            if seen.requests.len() < RECORDED_MAX {
                seen.requests.push(request);
            }
        }
        shared.changed.notify_all();
        match write_answer(&mut out, &mut from, &answer) {
            Ok(Sent::Whole) if answer.framing != Framing::UntilClose => continue,
            Ok(_) => break,
            Err(_) => {
                shared.seen().abandoned += 1;
                shared.changed.notify_all();
                break;
            }
        }
    }
    let _ = out.shutdown(Shutdown::Both);
}

fn read_request(from: &mut BufReader<TcpStream>) -> io::Result<Option<Recorded>> {
    let Some(head) = http::read_head(from)? else {
        return Ok(None);
    };
    let framing = http::framing(&head.headers, Framing::Length(0));
    let body = http::read_body(from, framing)?;
    let mut parts = head.start_line.split(' ');
    let method = parts.next().unwrap_or_default().to_string();
    let path = parts.next().unwrap_or_default().to_string();
    Ok(Some(Recorded {
        method,
        path,
        headers: head.headers,
        body,
    }))
}

/// Whether an answer went out to its end or was cut because the script said so.
enum Sent {
    Whole,
    Cut,
}

fn write_answer(
    out: &mut TcpStream,
    from: &mut BufReader<TcpStream>,
    answer: &Answer,
) -> io::Result<Sent> {
    if answer.status == 0 {
        return Ok(Sent::Cut);
    }
    if let Some(Piece::Gate(gate)) = answer.pieces.first() {
        gate.wait();
    }
    out.write_all(&head_bytes(answer))?;
    for piece in &answer.pieces {
        match piece {
            Piece::Pause(time) => thread::sleep(*time),
            Piece::Gate(gate) => gate.wait(),
            Piece::Close => return Ok(Sent::Cut),
            Piece::UntilClientLeaves => {
                while !http::read_piece(from, &mut Framing::UntilClose)?.is_empty() {}
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Piece::Bytes(bytes) if answer.framing == Framing::Chunked => {
                let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
                chunk.extend_from_slice(bytes);
                chunk.extend_from_slice(b"\r\n");
                out.write_all(&chunk)?;
            }
            Piece::Bytes(bytes) => out.write_all(bytes)?,
        }
    }
    if answer.framing == Framing::Chunked {
        out.write_all(b"0\r\n\r\n")?;
    }
    Ok(Sent::Whole)
}
