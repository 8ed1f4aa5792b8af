//! A blocking HTTP/1.1 client on a bare socket, able to send what no proper client would.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than anything a test waits for on a busy machine; it only bounds a hang.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// One response, its body complete.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name)?;
        Some(&found.1)
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_slice(&self.body) {
            Ok(json) => json,
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&self.body)),
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection.
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Connection {
    #[track_caller]
    pub fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream
            .set_read_timeout(Some(READ_TIMEOUT))
            .expect("a timeout above zero is accepted");
        Connection {
            stream,
            unread: Vec::new(),
        }
    }

    /// Sends bytes; a server that has closed already is no error, as its answer tells more.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Reads until `found` has something in what came so far; `None` once the server closes first.
    #[track_caller]
    fn read_until<T>(&mut self, found: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        loop {
            if let Some(found) = found(&self.unread) {
                return Some(found);
            }
            let mut bytes = [0; 16 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(length) => self.unread.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("reading: {error}"),
            }
        }
    }

    /// The next response, or `None` if the server closes before one is complete.
    #[track_caller]
    pub fn reply(&mut self) -> Option<Reply> {
        let head_end = self.read_until(|bytes| end_of(bytes, b"\r\n\r\n"))?;
        let head: Vec<u8> = self.unread.drain(..head_end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.lines();
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut reply = Reply {
            status: status.expect("a status line"),
            headers,
            body: Vec::new(),
        };
        reply.body = if reply.header("transfer-encoding") == Some("chunked") {
            self.chunked_body()?
        } else {
            let length = reply.header("content-length").map_or(0, |length| {
                length.parse().expect("a content-length is a number")
            });
            self.read_until(|bytes| (bytes.len() >= length).then_some(()))?;
            self.unread.drain(..length).collect()
        };
        Some(reply)
    }

    fn chunked_body(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line_end = self.read_until(|bytes| end_of(bytes, b"\r\n"))?;
            let line: Vec<u8> = self.unread.drain(..line_end).collect();
            let digits = String::from_utf8_lossy(&line).trim().to_owned();
            let length = usize::from_str_radix(&digits, 16).expect("a chunk starts with its size");
            self.read_until(|bytes| (bytes.len() >= length + 2).then_some(()))?;
            body.extend(self.unread.drain(..length));
            self.unread.drain(..2);
            if length == 0 {
                return Some(body);
            }
        }
    }

    /// Waits until the response so far holds `needle`.
    #[track_caller]
    pub fn wait_for(&mut self, needle: &[u8]) {
        let found = self.read_until(|bytes| end_of(bytes, needle));
        assert!(
            found.is_some(),
            "closed after {}",
            String::from_utf8_lossy(&self.unread)
        );
    }

    /// Everything until the server closes.
    #[track_caller]
    pub fn until_closed(mut self) -> Vec<u8> {
        let _: Option<()> = self.read_until(|_| None);
        self.unread
    }
}

fn end_of(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
        .map(|at| at + needle.len())
}

/// A request with a body.
pub fn post(path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    [request.as_bytes(), body].concat()
}

/// A request without one.
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").into_bytes()
}
