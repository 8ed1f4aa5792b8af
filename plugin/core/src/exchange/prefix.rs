//! The header by which Envoy's ring hash sends requests that begin alike to the replica that
//! already holds that beginning in its KV cache.

use crate::config::{Model, Secret};
use crate::keyed_hash::{KeyedHash, Purpose};
use crate::limits::PREFIX_BYTES;
use crate::tenant::{TenantId, to_hex};
use crate::wire::{Prompt, Request, Role};

const PREFIX_ID_BYTES: usize = 16;

/// An ordered hash over the tenant, the model, the tools and what a conversation keeps from turn to
/// turn: everything up to and with its first user message (of a completion: the first
/// [`PREFIX_BYTES`]). So a conversation stays on its replica, and many conversations under one
/// system text still spread.
pub(super) fn prefix_id(
    secret: &Secret,
    tenant: TenantId,
    model: &Model,
    request: &Request,
) -> String {
    let mut parts = Parts::default();
    parts.add(&tenant.0);
    parts.add(model.id.as_bytes());
    parts.add_beginning(request);
    let id = parts.hash(secret, Purpose::Prefix);
    to_hex(id.get(..PREFIX_ID_BYTES).unwrap_or_default())
}

/// The same for what is kept of a conversation whichever model answers it; `scope` tells apart what
/// it is kept for.
pub(super) fn conversation_id(
    secret: &Secret,
    tenant: TenantId,
    scope: &str,
    request: &Request,
) -> [u8; 32] {
    let mut parts = Parts::default();
    parts.add(&tenant.0);
    parts.add(scope.as_bytes());
    parts.add_beginning(request);
    parts.hash(secret, Purpose::Conversation)
}

/// The same for a tenant.
pub(super) fn tenant_id(secret: &Secret, tenant: TenantId, scope: &str) -> [u8; 32] {
    let mut parts = Parts::default();
    parts.add(&tenant.0);
    parts.add(scope.as_bytes());
    parts.hash(secret, Purpose::Conversation)
}

/// What is hashed, each part with its length.
#[derive(Default)]
struct Parts(Vec<u8>);

impl Parts {
    fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0
            .extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    }

    /// What a conversation keeps from turn to turn.
    fn add_beginning(&mut self, request: &Request) {
        request
            .shown_fields()
            .for_each(|json| self.add(&json.to_bytes()));
        match &request.prompt {
            Prompt::Messages(messages) => {
                for message in messages {
                    self.add(message.role.as_str().as_bytes());
                    self.add(message.content.as_bytes());
                    if message.role == Role::User {
                        break;
                    }
                }
            }
            Prompt::Text(texts) => {
                let text = texts.first().map_or("", String::as_str).as_bytes();
                self.add(text.get(..PREFIX_BYTES).unwrap_or(text));
            }
            Prompt::Tokens(lists) => {
                let ids = lists.first().map(Vec::as_slice).unwrap_or_default();
                ids.iter()
                    .take(PREFIX_BYTES / 4)
                    .for_each(|id| self.add(&id.to_le_bytes()));
            }
        }
    }

    fn hash(&self, secret: &Secret, purpose: Purpose) -> [u8; 32] {
        KeyedHash::once(secret.hash_keys(), purpose, &self.0)
    }
}
