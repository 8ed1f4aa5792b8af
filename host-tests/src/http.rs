//! As much of HTTP/1.1 as both ends of a test need: heads and bodies, with bounds, and no opinion
//! on what a body means.

use std::io::{self, BufRead, Read};

/// Longest line of a head or of a chunk size.
const LINE_BYTES_MAX: u64 = 256 << 10;
/// Most headers of one message.
const HEADERS_MAX: usize = 2_048;
/// Largest chunk or body that a test may receive.
const BODY_BYTES_MAX: usize = 256 << 20;

/// Header names in the spelling of the wire, with their values, in order.
pub type Headers = Vec<(String, String)>;

/// The first header called `name`, whatever its case.
pub fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// A request line or status line, and the headers after it.
#[derive(Clone, Debug)]
pub struct Head {
    pub start_line: String,
    pub headers: Headers,
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes remain.
    Length(usize),
    /// Chunks follow.
    Chunked,
    /// The connection's end is the body's end.
    UntilClose,
}

/// Reads a head; `None` when the peer closed before its first byte.
pub fn read_head(from: &mut impl BufRead) -> io::Result<Option<Head>> {
    let Some(start_line) = read_line(from)? else {
        return Ok(None);
    };
    let mut headers = Headers::new();
    loop {
        let line = read_line(from)?.ok_or_else(|| invalid("the head ends early"))?;
        if line.is_empty() {
            return Ok(Some(Head {
                start_line,
                headers,
            }));
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| invalid("a header has no colon"))?;
        headers.push((name.to_string(), value.trim().to_string()));
        if headers.len() > HEADERS_MAX {
            return Err(invalid("too many headers"));
        }
    }
}

/// The framing that the headers of a message announce; `otherwise` when they announce none.
pub fn framing(headers: &Headers, otherwise: Framing) -> Framing {
    let chunked = header(headers, "transfer-encoding").is_some_and(|v| v.contains("chunked"));
    let length = header(headers, "content-length").and_then(|value| value.parse().ok());
    match (chunked, length) {
        (true, _) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => otherwise,
    }
}

/// Reads the next piece of a body and narrows the framing; an empty piece is the end.
pub fn read_piece(from: &mut impl BufRead, framing: &mut Framing) -> io::Result<Vec<u8>> {
    match framing {
        Framing::Chunked => {
            let piece = read_chunk(from)?;
            if piece.is_empty() {
                *framing = Framing::Length(0);
            }
            Ok(piece)
        }
        Framing::Length(left) => {
            let available = from.fill_buf()?;
            let taken = available[..available.len().min(*left)].to_vec();
            if taken.is_empty() && *left > 0 {
                return Err(invalid("the body ends early"));
            }
            from.consume(taken.len());
            *left -= taken.len();
            Ok(taken)
        }
        Framing::UntilClose => {
            let taken = from.fill_buf()?.to_vec();
            from.consume(taken.len());
            Ok(taken)
        }
    }
}

/// Reads the rest of a body.
pub fn read_body(from: &mut impl BufRead, mut framing: Framing) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        if framing == Framing::Length(0) {
            return Ok(body);
        }
        let piece = read_piece(from, &mut framing)?;
        if piece.is_empty() {
            return Ok(body);
        }
        body.extend_from_slice(&piece);
        if body.len() > BODY_BYTES_MAX {
            return Err(invalid("the body is too large for a test"));
        }
    }
}

fn read_chunk(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let line = read_line(from)?.ok_or_else(|| invalid("the chunks end early"))?;
    let digits = line.split(';').next().unwrap_or_default().trim();
    let size = usize::from_str_radix(digits, 16).map_err(|_| invalid("a chunk has no size"))?;
    if size > BODY_BYTES_MAX {
        return Err(invalid("a chunk is too large for a test"));
    }
    if size == 0 {
        // Trailers, if any, end with an empty line.
        while read_line(from)?.is_some_and(|line| !line.is_empty()) {}
        return Ok(Vec::new());
    }
    let mut chunk = vec![0; size];
    from.read_exact(&mut chunk)?;
    read_line(from)?;
    Ok(chunk)
}

fn read_line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    from.by_ref()
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(invalid("a line ends early or is too long"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
