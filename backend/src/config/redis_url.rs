//! The address of a Redis, without anything that is secret.

use std::fmt;
use std::path::PathBuf;

use farthing_core::limits::{REDIS_DATABASE_MAX, REDIS_URL_BYTES_MAX};
use hyper::http::uri::Authority;
use serde::{Deserialize, Serialize};

/// Redis' usual port.
const PORT: u16 = 6_379;

/// `redis://HOST:PORT/DATABASE`, `rediss://` for TLS, or `unix:///PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RedisUrl {
    pub at: RedisAddress,
    /// Its number; 0 where none is named.
    pub database: u16,
}

/// How it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisAddress {
    /// In the clear.
    Tcp { host: String, port: u16 },
    /// By TLS, with a certificate for this host.
    Tls { host: String, port: u16 },
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.database;
        match &self.at {
            RedisAddress::Tcp { host, port } => write!(f, "redis://{host}:{port}/{database}"),
            RedisAddress::Tls { host, port } => write!(f, "rediss://{host}:{port}/{database}"),
            RedisAddress::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl TryFrom<String> for RedisUrl {
    type Error = String;

    /// What it says of a wrong one repeats nothing of it: a credential may be in there.
    fn try_from(text: String) -> Result<RedisUrl, String> {
        if text.len() > REDIS_URL_BYTES_MAX {
            return Err(format!("has at most {REDIS_URL_BYTES_MAX} bytes"));
        }
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err("must be unix:///PATH".to_owned());
            }
            return Ok(RedisUrl {
                at: RedisAddress::Unix(PathBuf::from(path)),
                database: 0,
            });
        }
        let malformed = || "must be redis://HOST:PORT, rediss://HOST:PORT or unix:///PATH";
        let (scheme, rest) = text.split_once("://").ok_or_else(malformed)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err("must name no user and no password: they have fields of their own".into());
        }
        let authority: Authority = authority.parse().map_err(|_| malformed())?;
        let (host, port) = (authority.host().to_owned(), authority.port_u16());
        if host.is_empty() || (port.is_none() && authority.as_str() != host) {
            return Err(malformed().to_owned());
        }
        let database = if path.is_empty() {
            Some(0)
        } else {
            path.parse().ok()
        };
        let database = database.filter(|database| *database <= REDIS_DATABASE_MAX);
        let database = database.ok_or_else(|| {
            format!("its path is the number of a database, up to {REDIS_DATABASE_MAX}")
        })?;
        let port = port.unwrap_or(PORT);
        let at = match scheme {
            "redis" => RedisAddress::Tcp { host, port },
            "rediss" => RedisAddress::Tls { host, port },
            _ => return Err(malformed().to_owned()),
        };
        Ok(RedisUrl { at, database })
    }
}

impl From<RedisUrl> for String {
    fn from(url: RedisUrl) -> String {
        url.to_string()
    }
}
