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
    let mut parts = Vec::new();
    let mut part = |bytes: &[u8]| {
        parts.extend_from_slice(bytes);
        parts.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    };
    part(&tenant.0);
    part(model.id.as_bytes());
    request
        .shown_fields()
        .for_each(|json| part(&json.to_bytes()));
    match &request.prompt {
        Prompt::Messages(messages) => {
            for message in messages {
                part(message.role.as_str().as_bytes());
                part(message.content.as_bytes());
                if message.role == Role::User {
                    break;
                }
            }
        }
        Prompt::Text(texts) => {
            let text = texts.first().map_or("", String::as_str).as_bytes();
            part(text.get(..PREFIX_BYTES).unwrap_or(text));
        }
        Prompt::Tokens(lists) => {
            let ids = lists.first().map(Vec::as_slice).unwrap_or_default();
            ids.iter()
                .take(PREFIX_BYTES / 4)
                .for_each(|id| part(&id.to_le_bytes()));
        }
    }
    let mut hash = KeyedHash::new(secret.hash_keys(), Purpose::Prefix);
    hash.raw(&parts);
    let id = hash.finish();
    to_hex(id.get(..PREFIX_ID_BYTES).unwrap_or_default())
}
