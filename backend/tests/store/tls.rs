//! Redis behind TLS: whose certificates are believed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use farthing_backend::config::{RedisConfig, RedisUrl};
use farthing_backend::remote::Link;
use farthing_backend::store::ResponseStore;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use super::forms::{NOW_UNIX_S, entry, key, redis_store, row};
use super::valkey::{PATIENT_MS, Valkey, wait_until};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params
        .distinguished_name
        .push(DnType::CommonName, "an authority of this test");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a certificate")
}

/// A server's side for `localhost`.
fn server(authority: &Authority) -> ServerConfig {
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    let signed = params.signed_by(&key, authority).expect("a certificate");
    let private = PrivateKeyDer::Pkcs8(key.serialized_der().to_vec().into());
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![signed.der().clone()], private)
        .expect("a certificate with its key")
}

/// Ends TLS in front of a server, until the test process ends. The Valkey of these tests is built
/// without it.
fn terminate(config: ServerConfig, socket: PathBuf) -> SocketAddr {
    let (bound, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime starts").block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let _ = bound.send(listener.local_addr().expect("it is bound"));
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, socket) = (acceptor.clone(), socket.clone());
                tokio::spawn(async move {
                    let mut inside = acceptor.accept(stream).await.ok()?;
                    let mut server = UnixStream::connect(socket).await.ok()?;
                    let copied = tokio::io::copy_bidirectional(&mut inside, &mut server);
                    copied.await.ok()
                });
            }
        });
    });
    address.recv().expect("it starts")
}

#[test]
fn only_the_named_certificates_are_believed() {
    let valkey = Valkey::start(&[]);
    let (ours, theirs) = (authority(), authority());
    let ca_file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("redis-ca.pem");
    std::fs::write(&ca_file, ours.pem()).expect("the target folder is writable");
    let config = |address: SocketAddr, ca_file: &PathBuf| RedisConfig {
        url: RedisUrl::try_from(format!("rediss://localhost:{}", address.port())).expect("ours"),
        ca_file: Some(ca_file.clone()),
        ..valkey.config(PATIENT_MS)
    };
    let address = terminate(server(&ours), valkey.socket().clone());
    let link = Arc::new(Link::start(&config(address, &ca_file)).expect("it starts"));
    wait_until("there is a connection", || link.is_up());
    let store = redis_store(&link);
    store.put(key(1), entry(1, 100_000));
    wait_until("it is written", || row(&store, "written") == 1);
    assert_eq!(store.get(&key(1), NOW_UNIX_S), Some(entry(1, 100_000)));

    let address = terminate(server(&theirs), valkey.socket().clone());
    let link = Arc::new(Link::start(&config(address, &ca_file)).expect("it starts"));
    let store = redis_store(&link);
    store.put(key(2), entry(2, 500));
    wait_until("it is dropped", || row(&store, "dropped") == 1);
    assert!(!link.is_up());
    let missing = PathBuf::from("/nonexistent.pem");
    let error = Link::start(&config(address, &missing)).err();
    let error = error.expect("no certificates").to_string();
    assert!(error.contains("redis.ca_file"), "{error}");
}
