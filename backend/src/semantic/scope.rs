//! What must be equal before two questions are compared at all: whose they are, what the model is
//! told beside them, which tools it has, which model it is, and how it is asked to answer.

use farthing_core::tenant::TenantId;
use farthing_core::wire::{Json, Message, Request, Role};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A hash over everything that must be equal. Only entries of one scope are ever compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope(pub [u8; 32]);

/// Where one bound holds: a tenant's requests to one model under one system prompt. A finer one
/// would take long to have samples enough; one over all tenants would let one loosen another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RouteKey(pub [u8; 32]);

/// What is hashed; changing it changes the text.
const PURPOSE: &[u8] = b"farthing 2026 semantic scope 1";

/// The field that holds the conversation, which is compared by its meaning.
const MESSAGES: &str = "messages";

impl Scope {
    /// Of a chat request that `tenant` sent and `model` answers, the file behind that id being
    /// `revision`, in at most `max_tokens`.
    pub fn of(
        tenant: TenantId,
        (model, revision): (&str, &str),
        max_tokens: u32,
        request: &Request,
    ) -> Scope {
        let mut hash = Hash::new(tenant, (model, revision), request.messages());
        hash.part(&max_tokens.to_le_bytes());
        let mut fields: Vec<&(String, Json)> = request
            .answer_fields()
            .filter(|(name, _)| name != MESSAGES)
            .collect();
        fields.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (name, value) in fields {
            hash.part(name.as_bytes());
            hash.part(&value.to_bytes());
        }
        Scope(hash.finish())
    }
}

impl RouteKey {
    /// The route of such a request.
    pub fn of(tenant: TenantId, model: (&str, &str), request: &Request) -> RouteKey {
        RouteKey(Hash::new(tenant, model, request.messages()).finish())
    }
}

/// Parts with their lengths, so that no two lists of parts give the same bytes.
struct Hash(Sha256);

impl Hash {
    fn new(tenant: TenantId, (model, revision): (&str, &str), messages: &[Message]) -> Hash {
        let mut hash = Hash(Sha256::new());
        hash.part(PURPOSE);
        hash.part(&tenant.0);
        hash.part(model.as_bytes());
        hash.part(revision.as_bytes());
        let told = |message: &&Message| matches!(message.role, Role::System | Role::Developer);
        let told: Vec<&Message> = messages.iter().filter(told).collect();
        hash.part(&(told.len() as u64).to_le_bytes());
        for message in told {
            hash.part(message.content.as_bytes());
        }
        hash
    }

    fn part(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}
