//! Whose request it is, as the filter told us, and which name it goes by.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::BackendError;
use farthing_core::limits::REQUEST_ID_BYTES_MAX;
use farthing_core::tenant::TenantId;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

/// Opaque tenant id, set by the filter (which removes a client's own).
const TENANT: HeaderName = HeaderName::from_static("x-farthing-tenant");
/// The request's name in logs, echoed to the client.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-farthing-request-id");

/// Who asks.
#[derive(Debug)]
pub struct Identity {
    /// Only requests with an equal salt share cached prefixes.
    pub cache_salt: [u8; 32],
    /// The tenant, hashed; none without exactly one.
    pub tenant: Option<TenantId>,
    /// The request's name, if it came with a sane one.
    pub request_id: Option<HeaderValue>,
}

impl Identity {
    /// Reads the headers. Without exactly one tenant the salt is a fresh one: nothing is shared.
    pub fn read(headers: &HeaderMap, salts: &Salts) -> Identity {
        let mut tenants = headers.get_all(TENANT).iter();
        let tenant = match (tenants.next(), tenants.next()) {
            (Some(tenant), None) if !tenant.is_empty() => Some(tenant.as_bytes()),
            _ => None,
        };
        let cache_salt = tenant.map_or_else(|| salts.fresh(), |tenant| salts.of_tenant(tenant));
        let tenant = tenant.map(|tenant| TenantId(Sha256::digest(tenant).into()));
        let is_sane = |id: &&HeaderValue| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
                && id.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        let request_id = headers.get(REQUEST_ID).filter(is_sane).cloned();
        Identity {
            cache_salt,
            tenant,
            request_id,
        }
    }

    /// The name for a log line: `-` where the request has none.
    pub fn log_id(&self) -> &str {
        self.request_id
            .as_ref()
            .and_then(|id| id.to_str().ok())
            .unwrap_or("-")
    }
}

/// Makes cache salts and unpredictable ids, from a secret drawn once a process.
#[derive(Debug)]
pub struct Salts {
    secret: [u8; 32],
    drawn: AtomicU64,
}

impl Salts {
    /// Draws the secret from the operating system.
    ///
    /// # Errors
    /// `Io` if the operating system has no randomness to give.
    pub fn new() -> Result<Salts, BackendError> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| BackendError::Io {
            what: "randomness".to_owned(),
            source: error.into(),
        })?;
        Ok(Salts {
            secret,
            drawn: AtomicU64::new(0),
        })
    }

    /// The same for a tenant's every request, another for any other tenant.
    pub fn of_tenant(&self, tenant: &[u8]) -> [u8; 32] {
        self.derive(b"tenant", tenant)
    }

    /// Never the same twice.
    pub fn fresh(&self) -> [u8; 32] {
        self.derive(b"request", &self.drawn.fetch_add(1, Relaxed).to_le_bytes())
    }

    /// An id such as `chatcmpl-0f3a...`, unique and not guessable.
    pub fn response_id(&self, prefix: &str) -> String {
        let salt = self.derive(b"response", &self.drawn.fetch_add(1, Relaxed).to_le_bytes());
        let hex: String = salt[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{prefix}-{hex}")
    }

    /// The domain keeps a tenant whose name looks like a counter away from a fresh salt; its length
    /// is fixed by the call sites and ends in a zero byte, so no two inputs concatenate alike.
    fn derive(&self, domain: &[u8], input: &[u8]) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.secret);
        digest.update(domain);
        digest.update([0]);
        digest.update(input);
        digest.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(salts: &Salts, headers: &[(HeaderName, &str)]) -> Identity {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                name,
                HeaderValue::from_bytes(value.as_bytes()).expect("a legal value"),
            );
        }
        Identity::read(&map, salts)
    }

    #[test]
    fn only_the_same_tenant_shares_a_salt() {
        let salts = Salts::new().unwrap();
        let salt = |tenants: &[&str]| {
            let headers: Vec<_> = tenants.iter().map(|tenant| (TENANT, *tenant)).collect();
            identity(&salts, &headers).cache_salt
        };
        assert_eq!(salt(&["a"]), salt(&["a"]));
        assert_ne!(salt(&["a"]), salt(&["b"]));
        assert_ne!(salt(&[]), salt(&[]), "no tenant, no sharing");
        assert_ne!(salt(&[""]), salt(&[""]), "an empty tenant is none");
        assert_ne!(salt(&["a", "a"]), salt(&["a", "a"]), "two tenants are none");
        assert_ne!(
            salt(&["a"]),
            Salts::new().unwrap().of_tenant(b"a"),
            "the salt is not guessable"
        );
    }

    #[test]
    fn request_ids_are_echoed_only_when_sane() {
        let salts = Salts::new().unwrap();
        let echoed = |id: &str| identity(&salts, &[(REQUEST_ID, id)]).request_id.is_some();
        assert!(echoed("3f2c-1"));
        assert!(echoed(&"x".repeat(REQUEST_ID_BYTES_MAX)));
        assert!(!echoed(&"x".repeat(REQUEST_ID_BYTES_MAX + 1)));
        assert!(!echoed(""));
        assert!(!echoed("two words"));
        assert!(!echoed("\u{e9}"));
    }

    #[test]
    fn response_ids_differ() {
        let salts = Salts::new().unwrap();
        assert_ne!(salts.response_id("chatcmpl"), salts.response_id("chatcmpl"));
    }
}
