//! Connections to one provider: names, TCP, TLS by rustls, HTTP/1.1 or 2, pooled. Opening one is
//! bounded in all its parts together.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use farthing_core::limits;
use http_body_util::Full;
use hyper::Uri;
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;
use tower_service::Service;

use crate::config::ProviderConfig;
use crate::error::BackendError;

/// The pool of one provider.
pub type Client = Pool<Bounded<HttpsConnector<HttpConnector<Resolver>>>, Full<Bytes>>;

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes the pool. Nothing is opened yet.
///
/// # Errors
/// `ca_file` cannot be read or holds no certificate.
pub fn client(config: &ProviderConfig, at: &str) -> Result<Client, BackendError> {
    let tls = tls(config.ca_file.as_deref(), at)?;
    let mut tcp = HttpConnector::new_with_resolver(Resolver::new());
    tcp.enforce_http(false);
    // Without it, Nagle and delayed ACKs hold a request's last bytes back for up to 40 ms.
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_millis(limits::PROVIDER_KEEP_ALIVE_MS)));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp);
    let connector = Bounded {
        inner: https,
        limit: Duration::from_millis(config.connect_timeout_ms.get()),
    };
    let keep_alive = Duration::from_millis(limits::PROVIDER_KEEP_ALIVE_MS);
    let mut builder = Pool::builder(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_millis(limits::PROVIDER_POOL_IDLE_MS))
        .pool_max_idle_per_host(limits::PROVIDER_POOL_IDLE_MAX)
        .http1_max_headers(limits::PROVIDER_HEADERS_MAX)
        .http2_max_header_list_size(limits::PROVIDER_HEAD_BYTES_MAX)
        .http2_keep_alive_interval(keep_alive)
        .http2_keep_alive_timeout(keep_alive);
    Ok(builder.build(connector))
}

/// TLS 1.2 and 1.3. With a file of its own, only what that signs is trusted. `at` is the path of
/// what has the field `ca_file`.
///
/// # Errors
/// The file cannot be read or holds no certificate.
pub fn tls(ca_file: Option<&Path>, at: &str) -> Result<ClientConfig, BackendError> {
    let roots = match ca_file {
        Some(file) => own_roots(file).map_err(|message| BackendError::Config {
            path: format!("{at}.ca_file"),
            message,
        })?,
        None => RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        },
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| BackendError::Config {
            path: at.to_owned(),
            message: error.to_string(),
        })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn own_roots(file: &Path) -> Result<RootCertStore, String> {
    let wrong = |reason: String| format!("{}: {reason}", file.display());
    let certificates =
        CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    Ok(roots)
}

/// Finds addresses a few at a time: a look-up blocks a thread, and prompts share these threads.
#[derive(Clone)]
pub struct Resolver {
    inner: GaiResolver,
    places: Arc<Semaphore>,
}

impl Resolver {
    fn new() -> Resolver {
        Resolver {
            inner: GaiResolver::new(),
            places: Arc::new(Semaphore::new(limits::PROVIDER_RESOLVERS)),
        }
    }
}

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = BoxError;
    type Future = Boxed<GaiAddrs>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Boxed<GaiAddrs> {
        let (mut inner, places) = (self.inner.clone(), Arc::clone(&self.places));
        Box::pin(async move {
            let _place = places.acquire_owned().await?;
            Ok(inner.call(name).await?)
        })
    }
}

/// A connector that gives up after a while, whichever part is slow.
#[derive(Clone)]
pub struct Bounded<C> {
    inner: C,
    limit: Duration,
}

impl<C> Service<Uri> for Bounded<C>
where
    C: Service<Uri, Error = BoxError>,
    C::Future: Send + 'static,
    C::Response: 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Boxed<C::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Boxed<C::Response> {
        let connecting = tokio::time::timeout(self.limit, self.inner.call(uri));
        Box::pin(async move { connecting.await? })
    }
}
