//! A blocking HTTP/1.1 client that sends exactly what it is told and reports exactly what it got.

use crate::http::{self, Framing, Headers};
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A part that says nothing for this long has hung; a real model's longest pause is far below.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// A whole response.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Response {
    /// The first header called `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        http::header(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `Null` when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// One connection, used for one request after another.
pub struct Connection {
    stream: BufReader<TcpStream>,
    framing: Framing,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, SILENCE_MAX)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        Ok(Connection {
            stream: BufReader::new(stream),
            framing: Framing::Length(0),
        })
    }

    /// Sends a request with `content-length`, and reads nothing yet.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            head.push_str("host: farthing.test\r\n");
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.send_raw(&bytes)
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads the head of a response; its body is still to be read.
    pub fn receive_head(&mut self) -> io::Result<Response> {
        let head = http::read_head(&mut self.stream)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "closed without reply"))?;
        let status = head
            .start_line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok());
        let status = status
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, head.start_line.clone()))?;
        self.framing = match status {
            100..=199 | 204 | 304 => Framing::Length(0),
            _ => http::framing(&head.headers, Framing::UntilClose),
        };
        Ok(Response {
            status,
            headers: head.headers,
            body: Vec::new(),
        })
    }

    /// Reads the next piece of the body as it arrives; an empty one is the end.
    pub fn receive_piece(&mut self) -> io::Result<Vec<u8>> {
        match self.framing {
            Framing::Length(0) => Ok(Vec::new()),
            _ => http::read_piece(&mut self.stream, &mut self.framing),
        }
    }

    /// Reads a whole response.
    pub fn receive(&mut self) -> io::Result<Response> {
        let mut response = self.receive_head()?;
        response.body = http::read_body(&mut self.stream, self.framing)?;
        Ok(response)
    }

    /// Sends a request and reads its response.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        self.send(method, path, headers, body)?;
        self.receive()
    }

    /// Reads whatever comes until the peer closes.
    pub fn receive_raw(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// One request on a connection of its own.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Response> {
    Connection::open(address)?.request(method, path, headers, body)
}

/// A GET on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Response> {
    request(address, "GET", path, &[("connection", "close")], b"")
}

/// A POST of JSON on a connection of its own.
pub fn post_json(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Response> {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    request(address, "POST", path, &all, body.as_bytes())
}
