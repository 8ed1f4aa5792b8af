//! The address of a provider's API: what comes before its paths.

use std::fmt;
use std::net::IpAddr;

use farthing_core::limits::PROVIDER_URL_BYTES_MAX;
use farthing_core::wire::provider::ProviderApi;
use hyper::Uri;
use serde::{Deserialize, Serialize};

/// `https://api.openai.com/v1`, say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BaseUrl {
    pub(super) scheme: Scheme,
    /// Name or address, and the port where it is not the usual one.
    authority: String,
    /// From a slash on, without one at its end; empty for the root.
    path: String,
}

/// How it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Https,
    Http,
}

// === impl BaseUrl ===

impl BaseUrl {
    /// Where the API is at home.
    pub(super) fn home_of(api: ProviderApi) -> BaseUrl {
        let (authority, path) = match api {
            ProviderApi::OpenAi => ("api.openai.com", "/v1"),
            ProviderApi::Anthropic => ("api.anthropic.com", "/v1"),
            ProviderApi::Gemini => ("generativelanguage.googleapis.com", "/v1beta"),
        };
        BaseUrl {
            scheme: Scheme::Https,
            authority: authority.to_owned(),
            path: path.to_owned(),
        }
    }

    /// The address of something below it.
    pub fn with(&self, path: &str) -> String {
        format!("{self}{path}")
    }

    /// Does it never leave this machine?
    pub(super) fn is_loopback(&self) -> bool {
        let uri: Result<Uri, _> = self.to_string().parse();
        let host = uri.ok().and_then(|uri| uri.host().map(str::to_owned));
        let host = host.unwrap_or_default();
        let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
        };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

impl TryFrom<String> for BaseUrl {
    type Error = String;

    /// What it says of a wrong one repeats nothing of it: a credential may be in there.
    fn try_from(text: String) -> Result<BaseUrl, String> {
        if text.len() > PROVIDER_URL_BYTES_MAX {
            return Err(format!(
                "an address has at most {PROVIDER_URL_BYTES_MAX} bytes"
            ));
        }
        if text.contains('#') {
            return Err("an address of an API has no fragment".to_owned());
        }
        let uri: Uri = text
            .parse()
            .map_err(|_| "must be https://HOST/PATH or http://HOST/PATH".to_owned())?;
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            _ => return Err("must begin with https:// or http://".to_owned()),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.is_empty() || authority.contains('@') {
            return Err("must name a host, and no user".to_owned());
        }
        if uri.query().is_some() {
            return Err("an address of an API has no query".to_owned());
        }
        Ok(BaseUrl {
            scheme,
            authority: authority.to_owned(),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl From<BaseUrl> for String {
    fn from(url: BaseUrl) -> String {
        url.to_string()
    }
}
