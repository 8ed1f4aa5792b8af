//! Sends fewer tokens of the same meaning. What is taken out:
//!
//! * system text that stands in the conversation a second time, message for message or block for
//!   block the same: the first is kept;
//! * fields at the top that are null, which is what an absent field means (bytes, no tokens);
//! * the white space between JSON values (bytes, no tokens): such a body is written anew, unless a
//!   `cache_control` marks any of it;
//! * where the route asks for it, white space in what the user wrote ([`fold`]).
//!
//! Nothing is changed before a provider's cached prefix: up to the last message that carries a
//! `cache_control`, and nowhere at all if the request as a whole does. What is done to a message
//! depends on that message and on those before it, never on those after it, so a conversation
//! begins with the same bytes at every turn and a cache that recognises prefixes by itself still
//! recognises it: a rule for the newest message alone would change it on the next turn.

mod fold;

pub use fold::fold_whitespace;

use crate::tokens::{Calibration, Count};
use crate::wire::compact::{Edit, Parts, edited, has_cache_mark};
use crate::wire::json::Spacing;
use crate::wire::{Request, Role};

/// May white space in the user's text be folded?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whitespace {
    #[default]
    Keep,
    Fold,
}

/// What compaction would take out of a request.
#[derive(Debug, Default)]
pub struct Plan {
    edits: Vec<Edit>,
    /// Estimated tokens of what goes.
    saved_tokens: u64,
}

impl Plan {
    /// Looks for what can go.
    pub fn of(request: &Request, whitespace: Whitespace) -> Plan {
        let mut plan = Plan::default();
        let parts = Parts::after_cached_prefix(request);
        for repeated in parts.repeated_system_text() {
            plan.saved_tokens = plan.saved_tokens.saturating_add(tokens(repeated.text()));
            plan.edits.push(Edit::remove(repeated.place()));
        }
        if whitespace == Whitespace::Fold {
            for said in parts.texts_of(Role::User) {
                let Some(folded) = fold_whitespace(said.text()) else {
                    continue;
                };
                let fewer = tokens(said.text()).saturating_sub(tokens(&folded));
                plan.saved_tokens = plan.saved_tokens.saturating_add(fewer);
                plan.edits.push(Edit::replace(said.place(), folded));
            }
        }
        plan
    }

    /// Is there nothing to take out of what the model reads?
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Prompt tokens that the model need not read: an estimate.
    pub fn saved_tokens(&self) -> u64 {
        self.saved_tokens
    }

    /// The request without all that. It is judged in the place of the other: counted, routed, and
    /// looked up in the cache.
    pub fn apply(&self, request: Request) -> Request {
        if self.is_empty() && !request.has_null_fields() {
            let is_compacted =
                request.layout.spacing == Spacing::Loose && !has_cache_mark(&request);
            return Request {
                is_compacted,
                ..request
            };
        }
        edited(&request, &self.edits).unwrap_or(request)
    }
}

fn tokens(text: &str) -> u64 {
    let mut count = Count::default();
    count.text(text.as_bytes());
    Calibration::default().tokens(&count)
}
