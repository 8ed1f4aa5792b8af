//! What the route of a request says of where it goes: the arm of its split, and which of the
//! policies that change its model or its length act or only record.

use super::prefix::{conversation_id, tenant_id};
use super::sticky::Conversation;
use super::{Caller, Env};
use crate::config::{Arm, Config, Policy, RouteConfig, SPLIT_PARTS, SplitBy};
use crate::limits::MAX_TOKENS_MAX;
use crate::route::Wish;
use crate::wire::Request;

/// Terms of one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    /// In which the request is, whether the split acts or not.
    pub arm: Option<Arm>,
    /// What is known of its conversation, where that may keep it with a model.
    pub conversation: Option<Conversation>,
    shadow: Vec<Policy>,
}

impl Terms {
    pub(super) fn of(caller: &Caller, config: &Config, env: &Env<'_>, request: &Request) -> Terms {
        let route = config.find_route(request.endpoint, &request.model, caller.tenant.name());
        Terms {
            arm: route.and_then(|route| arm(caller, config, route, request)),
            conversation: Conversation::of(caller, config, env, request),
            shadow: route.map_or_else(Vec::new, |route| route.shadow.clone()),
        }
    }

    pub(super) fn acts(&self, policy: Policy) -> bool {
        !self.shadow.contains(&policy)
    }

    pub(super) fn wish<'a>(&'a self, config: &Config, request: &'a Request) -> Wish<'a> {
        let split = self.arm.as_ref().filter(|_| self.acts(Policy::Split));
        Wish {
            request,
            model: split.map_or(&request.model, |arm| &arm.model),
            cap: match self.acts(Policy::Cap) {
                true => config.max_tokens.cap,
                false => MAX_TOKENS_MAX,
            },
        }
    }

    /// The cap that this request would have had, if it only records here.
    pub(super) fn shadow_cap(&self, config: &Config, request: &Request) -> Option<u32> {
        let cap = config.max_tokens.cap;
        let lowered = request.max_tokens.is_some_and(|wish| wish > cap);
        (lowered && !self.acts(Policy::Cap)).then_some(cap)
    }
}

/// A conversation, or a tenant, stays in its arm for as long as the split has the same name and
/// shares.
fn arm(caller: &Caller, config: &Config, route: &RouteConfig, request: &Request) -> Option<Arm> {
    let split = route.split.as_ref()?;
    let (secret, tenant) = (&config.secret, caller.tenant.id());
    let hash = match split.by {
        SplitBy::Conversation => conversation_id(secret, tenant, &route.name, request),
        SplitBy::Tenant => tenant_id(secret, tenant, &route.name),
    };
    let number = u64::from_le_bytes(*hash.first_chunk()?);
    let part = u32::try_from(number % u64::from(SPLIT_PARTS)).ok()?;
    split.arm(part).cloned()
}
