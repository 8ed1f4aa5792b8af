//! The client side: one connection with at most one request under way.

use super::framer::Framer;
use super::{LoadError, READ_BYTES};
use mio::net::TcpStream;
use std::io::{self, Read, Write};
use std::time::Instant;

/// One client.
pub struct Client {
    pub stream: TcpStream,
    framer: Framer,
    unsent: Vec<u8>,
    /// When the request under way was to be sent, and its place in the order of all.
    under_way: Option<(Instant, u64)>,
    /// Bytes of the answer's body, kept only while someone wants to see them.
    body: Vec<u8>,
    events: EventCounter,
    closed: bool,
}

/// What came of reading.
pub enum Progress {
    /// The answer is not whole yet.
    Waiting,
    /// The answer is whole.
    Answered {
        intended: Instant,
        index: u64,
        status: u16,
    },
    /// The proxy closed the connection.
    Closed,
}

impl Client {
    pub fn new(stream: TcpStream) -> Client {
        Client {
            stream,
            framer: Framer::new(),
            unsent: Vec::new(),
            under_way: None,
            body: Vec::new(),
            events: EventCounter::default(),
            closed: false,
        }
    }

    /// Whether the proxy has closed it, which it may between two requests.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }

    /// The last answer, head and body; the body of a long one is cut.
    pub fn answer(&self) -> (String, String) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(self.framer.head()), text(&self.body))
    }

    /// Starts a request.
    pub fn send(&mut self, bytes: &[u8], intended: Instant, index: u64) -> Result<(), LoadError> {
        self.under_way = Some((intended, index));
        self.body.clear();
        self.events = EventCounter::default();
        let written = match self.stream.write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(LoadError::Io(error)),
        };
        // Only a large body does not fit at once.
        self.unsent.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    /// Goes on sending and reads what has come. `on_event` is called with the number of each
    /// server-sent event as it becomes whole.
    pub fn on_ready(
        &mut self,
        buffer: &mut [u8],
        mut on_event: impl FnMut(usize),
    ) -> Result<Progress, LoadError> {
        self.flush()?;
        let mut progress = Progress::Waiting;
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => return Ok(self.closed(progress)),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(progress),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Ok(self.closed(progress)),
            };
            let (body, events) = (&mut self.body, &mut self.events);
            let ended = self.framer.feed(&buffer[..read], |data| {
                let room = READ_BYTES.saturating_sub(body.len());
                body.extend_from_slice(&data[..data.len().min(room)]);
                events.look(data, &mut on_event);
            })?;
            if ended.is_some()
                && let Some((intended, index)) = self.under_way.take()
            {
                let status = self.framer.status();
                self.closed = self.framer.says_close();
                progress = Progress::Answered {
                    intended,
                    index,
                    status,
                };
            }
            // A short read has emptied the socket: epoll(7) promises another event for more.
            if read < buffer.len() {
                return Ok(progress);
            }
        }
    }

    /// An answer that came before the end of its connection counts.
    fn closed(&mut self, progress: Progress) -> Progress {
        self.closed = true;
        match progress {
            Progress::Waiting => Progress::Closed,
            answered => answered,
        }
    }

    fn flush(&mut self) -> Result<(), LoadError> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whoever answers before the end of a request closes: the answer is still to read.
                Err(_) => self.unsent.clear(),
            }
        }
        Ok(())
    }
}

/// Counts the empty lines that end server-sent events.
#[derive(Default)]
struct EventCounter {
    count: usize,
    after_line_break: bool,
}

impl EventCounter {
    fn look(&mut self, data: &[u8], on_event: &mut impl FnMut(usize)) {
        for byte in data {
            if *byte == b'\n' && self.after_line_break {
                on_event(self.count);
                self.count += 1;
                self.after_line_break = false;
            } else {
                self.after_line_break = *byte == b'\n';
            }
        }
    }
}
