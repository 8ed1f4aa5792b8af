//! A request that waits for the answer to an identical one ([`crate::cache::flight`]).

use super::cached::Serving;
use super::forward::Origin;
use super::reply::{self, Hit};
use super::request::{Decision, Judged};
use super::send;
use super::{Caller, Effect, Env, Vm};
use crate::cache::flight::{Ticket, Verdict};
use crate::metrics::Metric;

/// What must be remembered meanwhile.
#[derive(Debug)]
pub(super) struct Waiting {
    pub judged: Judged,
    pub ticket: Ticket,
}

/// Lets a request wait if an identical one is upstream whose answer it could be given. It could not
/// if its client refuses stored answers, and if its own may not be stored it could not take over.
pub(super) fn follow(
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    judged: &Judged,
    body_bytes: usize,
) -> Option<Ticket> {
    let cache = judged.cache.as_ref()?;
    let may =
        cache.serving == Serving::Acts && caller.control.accepts_age(0) && !caller.control.no_store;
    if !may {
        return None;
    }
    vm.flights.follow(&cache.key, body_bytes, env.now_unix_ns)
}

/// Does with a request that has waited what its verdict says.
pub(super) fn resume(
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    judged: Judged,
    verdict: Verdict,
    effects: &mut Vec<Effect>,
) -> Decision {
    let leads = match verdict {
        Verdict::Answer(entry) => {
            let now_unix_s = env.now_unix_s();
            let fresh = caller.control.accepts_age(entry.age_s(now_unix_s));
            if fresh && let Some(hit) = Hit::new(&entry, now_unix_s, &judged.asked) {
                effects.push(Effect::count(Metric::SingleFlightHits));
                let hit = hit.by_single_flight();
                reply::hit(
                    caller,
                    &vm.config,
                    &judged.route,
                    &judged.asked,
                    hit,
                    effects,
                );
                return Decision::Replied;
            }
            None
        }
        Verdict::Lead(leader) => Some(leader),
        Verdict::Alone => None,
    };
    let origin = Origin { caller, body: None };
    send::send_or_refuse(origin, vm, env, judged, leads, effects)
}
