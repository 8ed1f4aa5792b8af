//! Conversations stay with a model while that is cheaper: its provider has their beginning in its
//! prompt cache, and another would read all of it anew.
//!
//! A ring of slots in the shared store remembers which model a conversation went to last. Two that
//! share a slot forget each other, which costs a look at the price and nothing else.

use super::prefix::conversation_id;
use super::{Caller, Env};
use crate::config::{Config, Model, ModelIndex, VirtualModel};
use crate::limits::STICKY_SLOTS;
use crate::price::Tokens;
use crate::route::Route;
use crate::store;
use crate::tenant::Tenant;
use crate::wire::{Request, Role};

const MAGIC: [u8; 4] = *b"FST1";

/// A conversation that may be remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversation {
    id: [u8; 32],
    /// Where it went last, if its provider still knows it.
    held: Option<Held>,
}

/// What a provider has in its prompt cache.
#[derive(Clone, Copy, Debug)]
struct Held {
    model: ModelIndex,
    prompt_tokens: u64,
}

impl Conversation {
    /// `None` where no model could be kept for its prompt cache. Looks into the store only for what
    /// has been answered before.
    pub(super) fn of(
        caller: &Caller,
        config: &Config,
        env: &Env<'_>,
        request: &Request,
    ) -> Option<Conversation> {
        let sticky = config.sticky?;
        let listed = config.find_virtual(&request.model)?;
        if !may_hold(config, listed) {
            return None;
        }
        let Tenant::Known { id: tenant, .. } = &caller.tenant else {
            return None;
        };
        let id = conversation_id(&config.secret, *tenant, &request.model, request);
        let is_answered = request
            .messages()
            .iter()
            .any(|message| message.role == Role::Assistant);
        let oldest_unix_s = env.now_unix_s().saturating_sub(u64::from(sticky.ttl_s));
        let held = is_answered.then(|| look_up(config, env, &id, oldest_unix_s));
        Some(Conversation {
            id,
            held: held.flatten(),
        })
    }

    /// The model that it should stay with rather than go to a cheaper one. A dearer one is taken
    /// because the request is harder, whatever that costs.
    pub(super) fn keeps(
        &self,
        config: &Config,
        request: &Request,
        wanted: &Route,
    ) -> Option<ModelIndex> {
        let held = self.held?;
        let members = &config.find_virtual(&request.model)?.members;
        let place = |index: ModelIndex| members.iter().position(|member| *member == index);
        if place(held.model)? <= place(wanted.model)? {
            return None;
        }
        let cost = |index: ModelIndex, cache_read: u64| {
            let tokens = Tokens {
                prompt: wanted.prompt_tokens,
                cache_read,
                completion: u64::from(wanted.max_tokens)
                    .saturating_mul(u64::from(request.sampling.n)),
                ..Tokens::default()
            };
            let model = config.model(index)?;
            Some(model.price.cost(request.service_tier, &tokens))
        };
        let cached = held.prompt_tokens.min(wanted.prompt_tokens);
        (cost(held.model, cached)? <= cost(wanted.model, 0)?).then_some(held.model)
    }

    /// It goes to this model, which will then have its prompt.
    pub(super) fn remember(&self, config: &Config, env: &Env<'_>, route: &Route) {
        let Some(model) = config.model(route.model) else {
            return;
        };
        let mut payload = Vec::with_capacity(self.id.len() + 24);
        payload.extend_from_slice(&self.id);
        for number in [env.now_unix_s(), route.prompt_tokens, name_hash(model)] {
            payload.extend_from_slice(&number.to_le_bytes());
        }
        let sealed = store::seal(MAGIC, &payload);
        // Whatever was there is older.
        let _ = env.store.set(&key(&self.id), &sealed, None);
    }
}

/// Has any member but the cheapest a prompt cache that is cheaper than its prompts?
fn may_hold(config: &Config, listed: &VirtualModel) -> bool {
    let dearer = listed.members.iter().skip(1);
    dearer
        .filter_map(|index| config.model(*index))
        .any(|model| {
            let rates = model.price.base();
            rates.cache_read_nanousd_per_mtok < rates.input_nanousd_per_mtok
        })
}

fn look_up(config: &Config, env: &Env<'_>, id: &[u8; 32], oldest_unix_s: u64) -> Option<Held> {
    let (sealed, _) = env.store.get(&key(id))?;
    let (stored_id, rest) = store::open(MAGIC, &sealed)?.split_first_chunk::<32>()?;
    let (numbers, _) = rest.as_chunks::<8>();
    let &[at, prompt_tokens, name] = numbers else {
        return None;
    };
    let name = u64::from_le_bytes(name);
    let is_named = |model: &Model| name_hash(model) == name;
    let model = config.models.iter().position(is_named).map(ModelIndex)?;
    let fresh = stored_id == id && u64::from_le_bytes(at) >= oldest_unix_s;
    fresh.then_some(Held {
        model,
        prompt_tokens: u64::from_le_bytes(prompt_tokens),
    })
}

/// Tells the models of one configuration apart: their places in it may change. FNV-1a.
fn name_hash(model: &Model) -> u64 {
    model.id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn key(id: &[u8; 32]) -> String {
    let number = id.first_chunk().copied().map_or(0, u32::from_le_bytes);
    store::numbered_key("sticky", number % STICKY_SLOTS)
}
