//! Providers behind TLS: whose certificates are believed, and HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::failures::{asking, check};
use super::server::Server;
use super::stub::chat;

/// An authority of this test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // Not the name that its certificates have by default: they would count as self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// A server's side, for this name.
    fn server(&self, name: &str, protocols: &[&str]) -> ServerConfig {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.0).expect("a certificate");
        let private = PrivateKeyDer::Pkcs8(key.serialized_der().to_vec().into());
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![signed.der().clone()], private)
            .expect("a certificate with its key");
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        config
    }

    fn write(&self, file: &str) -> PathBuf {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(file);
        std::fs::write(&file, self.0.pem()).expect("the target folder is writable");
        file
    }
}

/// A provider that answers every chat, and remembers by which protocol it was asked.
struct Provider {
    address: SocketAddr,
    versions: Arc<Mutex<Vec<Version>>>,
}

impl Provider {
    fn start(config: ServerConfig) -> Provider {
        let (bound, address) = std::sync::mpsc::channel();
        let versions = Arc::default();
        let seen = Arc::clone(&versions);
        // It serves until the test process ends.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime starts").block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let _ = bound.send(listener.local_addr().expect("it is bound"));
                let acceptor = TlsAcceptor::from(Arc::new(config));
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(acceptor.clone(), stream, Arc::clone(&seen)));
                }
            });
        });
        let address = address.recv().expect("it starts");
        Provider { address, versions }
    }

    fn versions(&self) -> Vec<Version> {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.clone()
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, seen: Arc<Mutex<Vec<Version>>>) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let version = request.version();
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(version);
            let _ = request.into_body().collect().await;
            let mut response = Response::new(Full::new(Bytes::from(chat("in private"))));
            let json = hyper::header::HeaderValue::from_static("application/json");
            response.headers_mut().insert("content-type", json);
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(stream);
    if is_http2 {
        let server = http2::Builder::new(TokioExecutor::new());
        let _ = server.serve_connection(io, service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(io, service).await;
    }
}

/// A server whose provider is there, at this name, with more of a configuration.
fn front(address: SocketAddr, more: &str) -> Server {
    Server::of(&format!(
        "providers: [{{name: p, api: openai, base_url: \"https://localhost:{}/v1\", \
         retries: {{attempts: 0}}{more}}}]\nmodels: [{{id: m, provider: p}}]\n",
        address.port()
    ))
}

#[test]
fn only_what_is_configured_is_believed() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let trusted = format!(", ca_file: {}", ours.write("tls-ours.pem").display());
    for (provider, more, trusts) in [
        (
            Provider::start(ours.server("localhost", &[])),
            &*trusted,
            true,
        ),
        // The public ones have not signed it.
        (Provider::start(ours.server("localhost", &[])), "", false),
        (
            Provider::start(theirs.server("localhost", &[])),
            &*trusted,
            false,
        ),
        (
            Provider::start(ours.server("elsewhere.test", &[])),
            &*trusted,
            false,
        ),
    ] {
        let front = front(provider.address, more);
        let reply = front.ask(&asking("m", json!({})));
        match trusts {
            true => check(&reply, 200, "in private"),
            false => check(&reply, 502, "cannot be reached"),
        }
        assert_eq!(provider.versions().len(), usize::from(trusts), "{more}");
        front.end();
    }
}

#[test]
fn http_2_is_spoken_where_the_provider_does() {
    let authority = Authority::new("ours");
    let trusted = format!(", ca_file: {}", authority.write("tls-h2.pem").display());
    for (protocols, version) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["http/1.1"][..], Version::HTTP_11),
    ] {
        let provider = Provider::start(authority.server("localhost", protocols));
        let front = front(provider.address, &trusted);
        for _ in 0..3 {
            check(&front.ask(&asking("m", json!({}))), 200, "in private");
        }
        assert_eq!(provider.versions(), [version; 3]);
        front.end();
    }
}

#[test]
fn a_file_without_certificates_ends_the_start_with_its_field() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("tls-none.pem");
    std::fs::write(&file, "nothing").expect("the target folder is writable");
    let yaml = format!(
        "providers: [{{name: p, api: openai, ca_file: {}}}]\nmodels: [{{id: m, provider: p}}]\n",
        file.display()
    );
    let config = farthing_backend::config::Config::parse(&yaml, &Default::default());
    let state = farthing_backend::server::State::load(config.expect("it is well-formed"));
    let Err(error) = state else {
        panic!("there is no certificate");
    };
    assert!(
        error.to_string().contains("providers[0].ca_file: "),
        "{error}"
    );
}
