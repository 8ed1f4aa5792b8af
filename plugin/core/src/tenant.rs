//! Whose request is it? The tenant comes from a header that a trusted filter before ours set, or
//! from a keyed hash of the credential. It is never read from anything that the client can choose
//! freely; without an identity nothing is shared: no cache, no prefix. Only a single credential can
//! be one that the configuration names.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::config::{Config, NamedCredential, Secret, TenantSource};
use crate::digits;
use crate::exchange::Headers;
use crate::keyed_hash::{KeyedHash, Purpose};
use crate::limits::{KNOWN_CREDENTIALS, TENANT_BYTES_MAX};

/// An opaque id: the keyed hash of an identity. Says nothing about it without the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TenantId(pub [u8; 32]);

impl TenantId {
    /// All requests without an identity have one budget together, under this id.
    pub const ANONYMOUS: TenantId = TenantId([0; 32]);

    pub fn to_hex(self) -> String {
        to_hex(&self.0)
    }
}

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenant {
    Anonymous,
    Known {
        id: TenantId,
        /// The name that budgets know it by.
        name: Option<String>,
    },
}

impl Tenant {
    pub fn id(&self) -> TenantId {
        match self {
            Tenant::Anonymous => TenantId::ANONYMOUS,
            Tenant::Known { id, .. } => *id,
        }
    }

    pub fn name(&self) -> Option<&str> {
        match self {
            Tenant::Anonymous => None,
            Tenant::Known { name, .. } => name.as_deref(),
        }
    }
}

/// SHA-256 of a credential without its scheme, as the configuration gives it.
#[derive(Clone, Copy)]
pub struct CredentialDigest([u8; 32]);

impl CredentialDigest {
    pub fn of(credential: &[u8]) -> CredentialDigest {
        CredentialDigest(Sha256::digest(credential).into())
    }

    pub fn from_hex(hex: &str) -> Option<CredentialDigest> {
        let digits = hex.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            let text = std::str::from_utf8(pair).ok()?;
            if !pair.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            *byte = u8::from_str_radix(text, 16).ok()?;
        }
        Some(CredentialDigest(digest))
    }
}

/// Takes the same time wherever two digests first differ.
impl PartialEq for CredentialDigest {
    fn eq(&self, other: &CredentialDigest) -> bool {
        self.0
            .iter()
            .zip(other.0)
            .fold(0, |differs, (a, b)| differs | (a ^ b))
            == 0
    }
}

impl Eq for CredentialDigest {}

impl fmt::Debug for CredentialDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialDigest(..)")
    }
}

/// Which credentials the configuration names, by the ids that they have without a name: finding out
/// takes a hash of another kind, and most requests come from somebody who was here before.
///
/// A direct-mapped table of fixed size.
#[derive(Debug, Default)]
pub struct KnownCredentials(Vec<Option<(TenantId, Option<usize>)>>);

impl KnownCredentials {
    /// The place in the configuration of this credential's name; `find` looks for it.
    fn place(&mut self, id: TenantId, find: impl FnOnce() -> Option<usize>) -> Option<usize> {
        self.0.resize(KNOWN_CREDENTIALS, None);
        let [low, high, ..] = id.0;
        let slot = usize::from(u16::from_le_bytes([low, high])) % KNOWN_CREDENTIALS;
        let known = self.0.get_mut(slot)?;
        match known {
            Some((known, place)) if *known == id => *place,
            _ => {
                let place = find();
                *known = Some((id, place));
                place
            }
        }
    }
}

/// Finds the tenant of a request.
pub fn identify(config: &Config, headers: &Headers<'_>) -> Tenant {
    identify_known(config, &mut KnownCredentials::default(), headers)
}

/// The same for whoever remembers the credentials of requests before.
pub(crate) fn identify_known(
    config: &Config,
    known: &mut KnownCredentials,
    headers: &Headers<'_>,
) -> Tenant {
    match &config.tenant.source {
        TenantSource::Header(header) => {
            // A repeated header is an identity nobody vouches for as a whole.
            let mut values = headers.all(header);
            let value = values
                .next()
                .and_then(|value| std::str::from_utf8(value).ok());
            match value {
                Some(name) if values.next().is_none() && is_tenant_name(name) => Tenant::Known {
                    id: keyed_id(&config.secret, "header", &[name.as_bytes()]),
                    name: Some(name.to_owned()),
                },
                _ => Tenant::Anonymous,
            }
        }
        TenantSource::Credential => match credentials(headers).as_slice() {
            [] => Tenant::Anonymous,
            [credential] => by_credential(config, known, credential),
            several => Tenant::Known {
                id: keyed_id(&config.secret, "credentials", several),
                name: None,
            },
        },
    }
}

fn named<'a>(
    config: &'a Config,
    known: &mut KnownCredentials,
    id: TenantId,
    credential: &[u8],
) -> Option<&'a NamedCredential> {
    let names = &config.tenant.names;
    if names.is_empty() {
        return None;
    }
    let place = known.place(id, || {
        let digest = CredentialDigest::of(credential);
        names.iter().position(|named| named.digest == digest)
    });
    names.get(place?)
}

/// Can this be a tenant's name in a header? Not empty, bounded, no control characters.
pub fn is_tenant_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= TENANT_BYTES_MAX && !name.chars().any(char::is_control)
}

fn by_credential(config: &Config, known: &mut KnownCredentials, credential: &[u8]) -> Tenant {
    let id = keyed_id(&config.secret, "credential", &[credential]);
    match named(config, known, id, credential) {
        // The credentials of one name are one tenant.
        Some(named) => Tenant::Known {
            id: keyed_id(&config.secret, "name", &[named.name.as_bytes()]),
            name: Some(named.name.clone()),
        },
        None => Tenant::Known { id, name: None },
    }
}

/// The different credentials of a request, sorted: the bearer token of each `authorization` (or its
/// whole value under another scheme) and each `x-api-key`. We cannot know which of several the
/// upstream believes, so several are an identity of their own, together: whoever adds a stranger's
/// credential to a request becomes neither that stranger nor a tenant with a name. A credential
/// too long to be one is nobody's, and what comes with it is not told apart from it.
fn credentials<'a>(headers: &Headers<'a>) -> Vec<&'a [u8]> {
    let mut credentials: Vec<&[u8]> = headers
        .all("authorization")
        .map(without_bearer)
        .chain(headers.all("x-api-key"))
        .map(<[u8]>::trim_ascii)
        .filter(|credential| !credential.is_empty())
        .collect();
    if credentials
        .iter()
        .any(|credential| credential.len() > TENANT_BYTES_MAX)
    {
        return Vec::new();
    }
    credentials.sort_unstable();
    credentials.dedup();
    credentials
}

fn without_bearer(authorization: &[u8]) -> &[u8] {
    match authorization.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token,
        _ => authorization,
    }
}

/// The id under which the tenants of a sharing group have their cached answers together: never that
/// of a tenant, whatever either is called.
pub fn sharing_group_id(secret: &Secret, group: &str) -> TenantId {
    keyed_id(secret, "sharing group", &[group.as_bytes()])
}

/// An id keyed by the deployment's secret; `kind` keeps identities of different origin apart.
fn keyed_id(secret: &Secret, kind: &str, identity: &[&[u8]]) -> TenantId {
    let mut bytes = Vec::with_capacity(TENANT_BYTES_MAX);
    for part in [kind.as_bytes()].iter().chain(identity) {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    TenantId(KeyedHash::once(secret.hash_keys(), Purpose::Tenant, &bytes))
}

/// Lower-case hexadecimal digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    digits::hex(bytes)
}
