//! Which requests pass unjudged. A way into an upstream that nobody counts is a way around every
//! budget, so what may pass is listed and all else is refused.

use std::fmt;
use std::str::FromStr;

use super::ConfigError;
use super::checks::count;
use crate::limits::{CONFIG_NAME_BYTES_MAX, PASSTHROUGH_MAX};
use crate::wire::Endpoint;

/// What passes where the configuration does not say: clients ask which models there are.
pub(super) const DEFAULT: [&str; 2] = ["GET /v1/models", "GET /v1/models/*"];

/// The list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passthrough {
    allowed: Vec<Allowed>,
}

/// One entry: `GET /health`, or `GET /v1/models/*` for every path below one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Allowed {
    method: String,
    path: AllowedPath,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum AllowedPath {
    Exact(String),
    /// Ends in the slash before the `*`.
    Below(String),
}

impl Passthrough {
    /// May a request of this method and path (no query) pass? The path is compared as it is
    /// spelled, byte for byte, and one that servers may read in two ways never passes.
    pub fn admits(&self, method: &[u8], path: &[u8]) -> bool {
        is_unambiguous(path)
            && self
                .allowed
                .iter()
                .any(|allowed| allowed.admits(method, path))
    }
}

impl Allowed {
    /// Whoever may read a resource may ask for its head.
    fn admits(&self, method: &[u8], path: &[u8]) -> bool {
        let same_method =
            method == self.method.as_bytes() || (method == b"HEAD" && self.method == "GET");
        same_method
            && match &self.path {
                AllowedPath::Exact(exact) => path == exact.as_bytes(),
                AllowedPath::Below(prefix) => {
                    path.len() > prefix.len() && path.starts_with(prefix.as_bytes())
                }
            }
    }
}

impl FromStr for Allowed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Allowed, &'static str> {
        const FORM: &str = "must be a method and a path, such as `GET /health` or \
                            `GET /v1/models/*`";
        let (method, path) = text.split_once(' ').ok_or(FORM)?;
        let upper_case = method.bytes().all(|byte| byte.is_ascii_uppercase());
        if method.is_empty() || !upper_case || text.len() > CONFIG_NAME_BYTES_MAX {
            return Err(FORM);
        }
        if method == "CONNECT" {
            return Err("must not be CONNECT: a tunnel cannot be judged");
        }
        let (path, below) = match path.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (path, false),
        };
        if !is_unambiguous(path.as_bytes()) || path.contains('*') || (below && !path.ends_with('/'))
        {
            return Err(
                "must have a path that servers read in one way: no empty or dot segments, \
                        no escapes, no query, `*` only as the last segment",
            );
        }
        if !below && Endpoint::from_path(path).is_some() {
            return Err("is a judged endpoint, which cannot pass unjudged");
        }
        let path = path.to_owned();
        Ok(Allowed {
            method: method.to_owned(),
            path: if below {
                AllowedPath::Below(path)
            } else {
                AllowedPath::Exact(path)
            },
        })
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            AllowedPath::Exact(path) => write!(f, "{} {path}", self.method),
            AllowedPath::Below(prefix) => write!(f, "{} {prefix}*", self.method),
        }
    }
}

/// Is this a path that every server reads as it stands? Escapes, parameters behind a `;`, back
/// slashes, empty and dot segments are resolved by some and not by others.
fn is_unambiguous(path: &[u8]) -> bool {
    let Some(segments) = path.strip_prefix(b"/") else {
        return false;
    };
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@/".contains(byte);
    let last = segments.split(|byte| *byte == b'/').count();
    let named = |(index, segment): (usize, &[u8])| {
        // The last one may be empty: `/docs/`.
        let empty = segment.is_empty() && index.saturating_add(1) != last;
        !empty && segment != b"." && segment != b".."
    };
    path.iter().all(plain) && segments.split(|byte| *byte == b'/').enumerate().all(named)
}

/// Checks the list of a configuration.
pub(super) fn passthrough(raw: Option<Vec<String>>) -> Result<Passthrough, ConfigError> {
    let raw = raw.unwrap_or_else(|| DEFAULT.map(str::to_owned).into());
    count("passthrough", raw.len(), PASSTHROUGH_MAX)?;
    let mut allowed: Vec<Allowed> = Vec::with_capacity(raw.len());
    for (position, text) in raw.iter().enumerate() {
        let refuse =
            |problem: String| ConfigError::new(format!("passthrough[{position}]"), problem);
        let entry: Allowed = text
            .parse()
            .map_err(|problem: &str| refuse(problem.to_owned()))?;
        if allowed.contains(&entry) {
            return Err(refuse(format!("`{entry}` is listed twice")));
        }
        allowed.push(entry);
    }
    Ok(Passthrough { allowed })
}
