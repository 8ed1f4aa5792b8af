//! One connection: TCP, TLS by rustls or a socket in the file system, then the log-in.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisError};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::{Failure, command};
use crate::config::{RedisAddress, RedisConfig};
use crate::error::BackendError;
use crate::provider::client;
use crate::provider::key::Key;
use crate::server::log;

/// Connections to one Redis are made with this.
pub(super) struct Dialer {
    config: RedisConfig,
    password: Option<Key>,
    tls: TlsConnector,
    /// What was said last of what bounds it, so that it is said once.
    told: Mutex<String>,
}

/// What moves a connection's bytes; it ends with the connection.
pub(super) type Moving = Pin<Box<dyn Future<Output = ()> + Send>>;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

// === impl Dialer ===

impl Dialer {
    /// Reads the password and the certificates. Nothing is opened yet.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(super) fn new(config: &RedisConfig) -> Result<Dialer, BackendError> {
        let password = config.password.as_ref();
        let password = password.map(|source| Key::load(source, "redis.password"));
        let tls = client::tls(config.ca_file.as_deref(), "redis")?;
        Ok(Dialer {
            config: config.clone(),
            password: password.transpose()?,
            tls: TlsConnector::from(Arc::new(tls)),
            told: Mutex::default(),
        })
    }

    /// Connects, logs in, and hears that it serves. What it says of a failure names no secret.
    pub(super) async fn connect(&self) -> Result<(MultiplexedConnection, Moving), String> {
        let stream = self.stream().await.map_err(|error| error.to_string())?;
        let settings = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None);
        let info = self.info();
        let opened = MultiplexedConnection::new_with_config(&info, stream, settings).await;
        let (mut connection, moving) = opened.map_err(|error| reason(&error))?;
        // It has to be driven from here on, or the ping is not sent.
        let mut moving: Moving = Box::pin(moving);
        let greeted = async {
            let pong = command("PING", &[]);
            let pong: Result<(), RedisError> = pong.query_async(&mut connection).await;
            pong.map_err(|error| reason(&error))?;
            self.warn_of_its_bounds(&mut connection).await;
            Ok::<(), String>(())
        };
        tokio::select! {
            greeted = greeted => greeted?,
            () = &mut moving => return Err("it closed the connection".to_owned()),
        }
        Ok((connection, moving))
    }

    async fn stream(&self) -> std::io::Result<Box<dyn Stream>> {
        let tcp = async |host: &str, port: u16| {
            let bare = host.trim_matches(['[', ']']).to_owned();
            let stream = TcpStream::connect((bare, port)).await?;
            // Without it, Nagle and delayed ACKs hold a command back for up to 40 ms.
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        };
        Ok(match &self.config.url.at {
            RedisAddress::Unix(path) => Box::new(UnixStream::connect(path).await?),
            RedisAddress::Tcp { host, port } => Box::new(tcp(host, *port).await?),
            RedisAddress::Tls { host, port } => {
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
                let name = name.map_err(std::io::Error::other)?;
                let stream = tcp(host, *port).await?;
                Box::new(self.tls.connect(name, stream).await?)
            }
        })
    }

    /// Who we are. A password's file is read again each time: it may have been changed.
    fn info(&self) -> RedisConnectionInfo {
        let info = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP2)
            .set_db(self.config.url.database.into())
            .set_lib_name("farthing", env!("CARGO_PKG_VERSION"));
        let info = match &self.config.user {
            Some(user) => info.set_username(user),
            None => info,
        };
        match &self.password {
            Some(password) => {
                password.reread();
                info.set_password(password.reveal())
            }
            None => info,
        }
    }

    /// Says so where nothing bounds what is kept: it would grow until the machine has no memory
    /// left, or until every write is refused. A server that does not tell is asked no further.
    async fn warn_of_its_bounds(&self, connection: &mut MultiplexedConnection) {
        let asked = command("INFO", &[b"memory"]);
        let info: Result<Vec<String>, RedisError> = asked.query_async(connection).await;
        let info = info.unwrap_or_default().concat();
        let field = |name: &str| {
            let mut lines = info.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        let (Some(bytes_max), Some(policy)) = (field("maxmemory"), field("maxmemory_policy"))
        else {
            return;
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let found = format!("{bytes_max} {policy}");
        if (bytes_max == "0" || policy == "noeviction") && *told != found {
            let advice = "give it a maxmemory and an allkeys policy";
            let fields: [(&str, &dyn std::fmt::Display); 3] = [
                ("maxmemory", &bytes_max),
                ("maxmemory_policy", &policy),
                ("advice", &advice),
            ];
            log::event("redis_is_not_bounded", &fields);
            *told = found;
        }
    }
}

/// Why the other side refuses: its word for it (`NOAUTH`), or what broke.
fn reason(error: &RedisError) -> String {
    match Failure::of(error) {
        Failure::Away => error.to_string(),
        failure => failure.to_string(),
    }
}
