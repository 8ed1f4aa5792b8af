//! Finds where HTTP/1.1 messages end in bytes as they come. It copies heads only: bodies are seen
//! where they lie, so that measuring costs little beside what is measured.

use super::LoadError;

/// Longest head; Envoy's own limit is 60 KiB.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Longest line of a chunk's size, and of a trailer.
const CHUNK_LINE_BYTES_MAX: usize = 4 << 10;

/// How far the message at hand has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// This many bytes of the body are to come.
    Length(usize),
    /// The line with a chunk's size.
    ChunkSize,
    ChunkData(usize),
    /// The line break after a chunk's data.
    ChunkEnd,
    Trailers,
}

/// Frames one message after the other of a connection.
pub struct Framer {
    state: State,
    head: Vec<u8>,
    line: Vec<u8>,
    ended: bool,
}

impl Framer {
    pub fn new() -> Framer {
        Framer {
            state: State::Head,
            head: Vec::with_capacity(1_024),
            line: Vec::with_capacity(16),
            ended: true,
        }
    }

    /// The head of the message at hand, or of the last one.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The status of a response; 0 of anything else.
    pub fn status(&self) -> u16 {
        self.head
            .get(9..12)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(0)
    }

    /// Whether the message says that its connection ends with it, as Envoy says with every 400.
    pub fn says_close(&self) -> bool {
        self.head
            .split(|byte| *byte == b'\n')
            .any(|line| line.trim_ascii().eq_ignore_ascii_case(b"connection: close"))
    }

    /// Takes bytes and shows the body among them to `data`. Answers how many bytes it took when the
    /// message ended with them, `None` when it took all and the message goes on.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        mut data: impl FnMut(&[u8]),
    ) -> Result<Option<usize>, LoadError> {
        if self.ended && !bytes.is_empty() {
            self.ended = false;
            self.head.clear();
        }
        let mut at = 0;
        while at < bytes.len() {
            at += self.step(&bytes[at..], &mut data)?;
            if self.ended {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    fn step(&mut self, bytes: &[u8], data: &mut impl FnMut(&[u8])) -> Result<usize, LoadError> {
        match self.state {
            State::Head => self.take_head(bytes),
            State::Length(left) => {
                let taken = left.min(bytes.len());
                data(&bytes[..taken]);
                self.state = State::Length(left - taken);
                if left == taken {
                    self.end();
                }
                Ok(taken)
            }
            State::ChunkData(left) => {
                let taken = left.min(bytes.len());
                data(&bytes[..taken]);
                self.state = match left - taken {
                    0 => State::ChunkEnd,
                    left => State::ChunkData(left),
                };
                Ok(taken)
            }
            State::ChunkSize | State::ChunkEnd | State::Trailers => self.take_line(bytes),
        }
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<usize, LoadError> {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let from = before.saturating_sub(3);
        let end = self.head[from..]
            .windows(4)
            .position(|four| four == b"\r\n\r\n");
        let Some(end) = end else {
            if self.head.len() > HEAD_BYTES_MAX {
                return Err(LoadError::Malformed("a head without an end"));
            }
            return Ok(bytes.len());
        };
        self.head.truncate(from + end + 4);
        self.state = match length(&self.head)? {
            Length::Known(0) => {
                let taken = self.head.len() - before;
                self.end();
                return Ok(taken);
            }
            Length::Known(bytes) => State::Length(bytes),
            Length::Chunked => State::ChunkSize,
        };
        Ok(self.head.len() - before)
    }

    fn take_line(&mut self, bytes: &[u8]) -> Result<usize, LoadError> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        self.line.extend_from_slice(&bytes[..taken]);
        if self.line.len() > CHUNK_LINE_BYTES_MAX {
            return Err(LoadError::Malformed("a chunk's line without an end"));
        }
        if end.is_none() {
            return Ok(taken);
        }
        match self.state {
            State::ChunkSize => {
                self.state = match chunk_size(&self.line)? {
                    0 => State::Trailers,
                    size => State::ChunkData(size),
                };
            }
            State::Trailers if self.line == b"\r\n" => self.end(),
            State::Trailers => {}
            _ => self.state = State::ChunkSize,
        }
        self.line.clear();
        Ok(taken)
    }

    fn end(&mut self) {
        self.state = State::Head;
        self.ended = true;
    }
}

/// How the end of a body is known.
enum Length {
    Known(usize),
    Chunked,
}

fn length(head: &[u8]) -> Result<Length, LoadError> {
    let mut known = 0;
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Ok(Length::Chunked);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let text = std::str::from_utf8(value).unwrap_or_default().trim();
            let parsed = text.parse();
            known =
                parsed.map_err(|_| LoadError::Malformed("a content-length without a number"))?;
        }
    }
    Ok(Length::Known(known))
}

fn chunk_size(line: &[u8]) -> Result<usize, LoadError> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let text = std::str::from_utf8(digits).unwrap_or_default().trim();
    usize::from_str_radix(text, 16).map_err(|_| LoadError::Malformed("a chunk without a size"))
}

#[cfg(test)]
mod tests {
    use super::Framer;

    const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    const CHUNKED: &str = "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n\
        3;x=1\r\nhel\r\n2\r\nlo\r\n0\r\nx-after: 1\r\n\r\n";
    const EMPTY: &str = "HTTP/1.1 204 No Content\r\n\r\n";

    /// Two messages on one connection, cut at every place, are the same two messages.
    #[test]
    fn messages_end_where_they_end_however_their_bytes_are_cut() {
        for (text, status, body) in [
            (LENGTH, 200, "hello"),
            (CHUNKED, 201, "hello"),
            (EMPTY, 204, ""),
        ] {
            let twice = [text, text].concat();
            for cut in 1..twice.len() {
                check(twice.as_bytes(), cut, status, body);
            }
        }
    }

    fn check(bytes: &[u8], cut: usize, status: u16, body: &str) {
        let mut framer = Framer::new();
        let mut bodies = vec![Vec::new()];
        for part in [&bytes[..cut], &bytes[cut..]] {
            let mut rest = part;
            while !rest.is_empty() {
                let data = |data: &[u8]| bodies.last_mut().expect("one").extend_from_slice(data);
                let Some(taken) = framer.feed(rest, data).expect("well-formed") else {
                    break;
                };
                assert_eq!(framer.status(), status);
                bodies.push(Vec::new());
                rest = &rest[taken..];
            }
        }
        assert_eq!(
            bodies,
            [body.as_bytes(), body.as_bytes(), b""],
            "cut at {cut}"
        );
    }
}
