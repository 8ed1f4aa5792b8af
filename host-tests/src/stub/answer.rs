//! What a scripted upstream answers, byte by byte.

use super::SILENCE_MAX;
use crate::http::Framing;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// One step of sending a body.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Bytes that leave in one write.
    Bytes(Vec<u8>),
    /// A pause, for pacing a stream.
    Pause(Duration),
    /// Nothing more until the gate is open; as the first piece, no head either.
    Gate(Gate),
    /// Nothing more until the client has gone.
    UntilClientLeaves,
    /// The connection is closed in the middle.
    Close,
}

/// Holds answers back until a test lets them go: no timing decides who comes first.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Lets everything go, now and later.
    pub fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Waits until the gate is open.
    pub(super) fn wait(&self) {
        let closed = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            self.0
                .1
                .wait_timeout_while(closed, SILENCE_MAX, |open| !*open),
        );
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub pieces: Vec<Piece>,
    /// `Length` is computed from the pieces; the number given is ignored.
    pub framing: Framing,
}

impl Answer {
    /// A JSON answer with `content-length`.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            pieces: vec![Piece::Bytes(body.into())],
            framing: Framing::Length(0),
        }
    }

    /// A stream of server-sent events in chunks; one piece is one chunk.
    pub fn sse(pieces: Vec<Piece>) -> Answer {
        Answer {
            status: 200,
            headers: vec![("content-type".into(), "text/event-stream".into())],
            pieces,
            framing: Framing::Chunked,
        }
    }

    /// The connection is closed without a reply.
    pub fn reset() -> Answer {
        Answer {
            status: 0,
            headers: vec![],
            pieces: vec![],
            framing: Framing::UntilClose,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// Cuts bytes into pieces of the given sizes, again and again; any split is possible.
pub fn split(bytes: &[u8], sizes: &[usize]) -> Vec<Piece> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        if rest.is_empty() || sizes.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).clamp(1, rest.len()));
        pieces.push(Piece::Bytes(piece.to_vec()));
        rest = after;
    }
    pieces
}

/// The status line and headers of an answer, with the length that its pieces have.
pub(super) fn head_bytes(answer: &Answer) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match answer.framing {
        Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
        Framing::UntilClose => head.push_str("connection: close\r\n"),
        Framing::Length(_) => {
            let bytes = |piece: &Piece| {
                if let Piece::Bytes(b) = piece {
                    b.len()
                } else {
                    0
                }
            };
            let length: usize = answer.pieces.iter().map(bytes).sum();
            head.push_str(&format!("content-length: {length}\r\n"));
        }
    }
    head.push_str("\r\n");
    head.into_bytes()
}
