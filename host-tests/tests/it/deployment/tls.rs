//! Both ends of TLS: a client that tells which certificate it was shown, and a provider that tells
//! what it was asked.

use super::certificates::{Authority, Certificate};
use farthing_host_tests::client::Response;
use farthing_host_tests::http::{self, Framing};
use farthing_host_tests::stub::Recorded;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A peer of a test that is silent for so long has hung.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What a client got, and from whom.
pub struct Answered {
    pub response: Response,
    pub certificate: CertificateDer<'static>,
}

/// One request over HTTP/1.1 to a server that must be `name`, on a connection of its own.
pub fn request(
    authority: &Authority,
    address: SocketAddr,
    name: &str,
    head: &str,
    body: &[u8],
) -> io::Result<Answered> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_string()).map_err(io::Error::other)?;
    let client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let socket = TcpStream::connect_timeout(&address, SILENCE_MAX)?;
    socket.set_read_timeout(Some(SILENCE_MAX))?;
    let mut stream = BufReader::new(StreamOwned::new(client, socket));
    let request = format!(
        "{head}\r\nhost: farthing.test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all(request.as_bytes())?;
    stream.get_mut().write_all(body)?;
    let head = http::read_head(&mut stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let framing = http::framing(&head.headers, Framing::UntilClose);
    let body = http::read_body(&mut stream, framing)?;
    let status = head.start_line.split(' ').nth(1).unwrap_or_default();
    let shown = stream.get_ref().conn.peer_certificates();
    let certificate = shown
        .and_then(|chain| chain.first())
        .expect("one was shown");
    Ok(Answered {
        certificate: certificate.clone().into_owned(),
        response: Response {
            status: status.parse().map_err(io::Error::other)?,
            headers: head.headers,
            body,
        },
    })
}

/// A provider: it believes anyone, answers everything with `answer`, and remembers.
pub struct Provider {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Asked>>>,
}

/// A request, and the name under which the provider was called.
#[derive(Clone)]
pub struct Asked {
    pub request: Recorded,
    pub server_name: Option<String>,
}

impl Provider {
    pub fn start(certificate: Certificate, answer: &str) -> Provider {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der], certificate.key)
            .expect("a certificate with its key");
        let config = Arc::new(config);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::default();
        let (remembered, answer) = (Arc::clone(&seen), Arc::new(answer.to_string()));
        // It accepts until the test process ends.
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (config, seen) = (Arc::clone(&config), Arc::clone(&remembered));
                let answer = Arc::clone(&answer);
                thread::spawn(move || serve(socket, config, &seen, &answer));
            }
        });
        Provider { address, seen }
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Serves one connection until its client leaves, or does not like the certificate.
fn serve(
    socket: TcpStream,
    config: Arc<ServerConfig>,
    seen: &Mutex<Vec<Asked>>,
    answer: &str,
) -> Option<()> {
    socket.set_read_timeout(Some(SILENCE_MAX)).ok()?;
    let server = ServerConnection::new(config).ok()?;
    let mut stream = BufReader::new(StreamOwned::new(server, socket));
    while let Some(head) = http::read_head(&mut stream).ok()? {
        let framing = http::framing(&head.headers, Framing::Length(0));
        let body = http::read_body(&mut stream, framing).ok()?;
        let mut line = head.start_line.split(' ').map(str::to_string);
        let asked = Asked {
            request: Recorded {
                method: line.next()?,
                path: line.next()?,
                headers: head.headers,
                body,
            },
            server_name: stream.get_ref().conn.server_name().map(str::to_string),
        };
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(asked);
        let response = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        );
        stream.get_mut().write_all(response.as_bytes()).ok()?;
        stream.get_mut().flush().ok()?;
    }
    Some(())
}
