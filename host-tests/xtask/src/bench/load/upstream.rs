//! The upstream side: answers that were made once, written as soon as a request has come.

use super::framer::Framer;
use super::{LoadError, READ_BYTES};
use mio::net::TcpStream;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// What the upstream says to every request.
#[derive(Clone)]
pub enum Answer {
    /// These bytes, head and all, at once.
    Whole(Vec<u8>),
    /// The head, then one event a write, `pace` apart.
    Events {
        head: Vec<u8>,
        events: Vec<Vec<u8>>,
        pace: Duration,
    },
}

/// What came of reading.
#[derive(Default)]
pub struct Answered {
    /// Requests that were whole.
    pub requests: u64,
    /// Whether the proxy has closed the connection.
    pub closed: bool,
}

/// A connection that a proxy under test has opened to us.
pub struct Served {
    pub stream: TcpStream,
    framer: Framer,
    unsent: Vec<u8>,
    /// The event that is next, and when, while a stream goes out.
    next_event: Option<(usize, Instant)>,
}

impl Served {
    pub fn new(stream: TcpStream) -> Served {
        Served {
            stream,
            framer: Framer::new(),
            unsent: Vec::new(),
            next_event: None,
        }
    }

    /// Whether a stream goes out on it.
    pub fn is_streaming(&self) -> bool {
        self.next_event.is_some()
    }

    /// Reads what has come and answers what is complete.
    pub fn on_ready(&mut self, answer: &Answer, buffer: &mut [u8]) -> Result<Answered, LoadError> {
        let mut answered = Answered {
            requests: 0,
            closed: !self.flush()?,
        };
        while !answered.closed {
            let read = match self.stream.read(buffer) {
                Ok(read) if read > 0 => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                _ => {
                    answered.closed = true;
                    break;
                }
            };
            let mut rest = &buffer[..read];
            while let Some(taken) = self.framer.feed(rest, |_| {})? {
                rest = &rest[taken..];
                answered.requests += 1;
                answered.closed |= !self.answer(answer)?;
            }
            // A short read has emptied the socket: epoll(7) promises another event for more.
            if read < READ_BYTES {
                break;
            }
        }
        Ok(answered)
    }

    /// Writes the event that is due, if one is, and notes when in `sent`; false when the proxy has
    /// closed.
    pub fn on_time(&mut self, answer: &Answer, sent: &mut Vec<Instant>) -> Result<bool, LoadError> {
        let (Some((index, due)), Answer::Events { events, pace, .. }) = (self.next_event, answer)
        else {
            self.next_event = None;
            return Ok(true);
        };
        let now = Instant::now();
        if now < due {
            return Ok(true);
        }
        if index == 0 {
            sent.clear();
        }
        sent.push(now);
        // The pace holds from event to event: one that was late is not made up for.
        self.next_event = (index + 1 < events.len()).then_some((index + 1, now + *pace));
        self.write(&events[index])
    }

    fn answer(&mut self, answer: &Answer) -> Result<bool, LoadError> {
        match answer {
            Answer::Whole(bytes) => self.write(bytes),
            Answer::Events { head, pace, .. } => {
                self.next_event = Some((0, Instant::now() + *pace));
                self.write(head)
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<bool, LoadError> {
        self.unsent.extend_from_slice(bytes);
        self.flush()
    }

    fn flush(&mut self) -> Result<bool, LoadError> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }
}
