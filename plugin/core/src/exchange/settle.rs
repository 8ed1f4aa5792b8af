//! The end of a request that went upstream: the budget is settled, the estimate learns, the metrics
//! and the ledger are written. Every way out leads here, exactly once.

use std::rc::Rc;

use super::admission;
use super::answer::{Answer, Head};
use super::forward::InFlight;
use super::{Caller, Effect, Env, Level, Vm, reply};
use crate::budget::Settled;
use crate::cache::flight::Landing;
use crate::cache::{Bytes, Entry, Levels};
use crate::config::{Model, ModelIndex, PriceOrigin};
use crate::digits;
use crate::ledger::{Bill, Generation, Line, Shadow, Source, Sums};
use crate::metrics::Metric;
use crate::money::Nanousd;
use crate::price::{ServiceTier, Tokens};
use crate::tokens::Basis;
use crate::wire::{PromptExtent, Usage};

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Complete,
    /// It was cut off.
    Aborted,
    /// The host gave up waiting for it. The upstream worked meanwhile and charges for that, so the
    /// prompt is paid for as in an abort before the answer; else a slow request would be free.
    TimedOut,
    /// The upstream answered with an error, or could not be reached: nothing is charged.
    Failed,
}

impl Ending {
    /// Had the upstream begun an answer that never came to its end?
    fn is_cut_off(self) -> bool {
        matches!(self, Ending::Aborted | Ending::TimedOut)
    }
}

/// What is settled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub head: Head,
    pub ending: Ending,
    pub tokens: Tokens,
    pub service: ServiceTier,
    /// The upstream's own count of the prompt, to learn from.
    reported_prompt_tokens: Option<u64>,
    estimated: bool,
}

impl Outcome {
    pub(super) fn nothing(head: Head, ending: Ending) -> Outcome {
        let tokens = Tokens::default();
        Outcome {
            head,
            ending,
            tokens,
            service: ServiceTier::Standard,
            reported_prompt_tokens: None,
            estimated: false,
        }
    }

    /// The reported usage, or the estimates where it is missing or says that work was nothing: a
    /// usage of zero must not make a request free.
    pub(super) fn of_answer(
        in_flight: &InFlight,
        head: Head,
        usage: Option<Usage>,
        generated: u64,
        ending: Ending,
    ) -> Outcome {
        let generated = generated.min(in_flight.completion_tokens_max());
        let reported = usage.map(|usage| usage.tokens()).unwrap_or_default();
        let prompt = Some(reported.prompt).filter(|tokens| *tokens > 0);
        let completion = usage
            .map(|usage| usage.completion_tokens)
            .filter(|tokens| *tokens > 0 || generated == 0);
        let asked = in_flight.asked.service_tier;
        Outcome {
            head,
            ending,
            tokens: Tokens {
                prompt: prompt.unwrap_or(in_flight.route.prompt_tokens),
                completion: completion.unwrap_or(generated),
                ..reported
            },
            service: usage.and_then(|usage| usage.service_tier).unwrap_or(asked),
            reported_prompt_tokens: prompt,
            estimated: prompt.is_none() || completion.is_none(),
        }
    }

    /// The model that answered.
    fn model(&self, in_flight: &InFlight) -> ModelIndex {
        self.head.answered.unwrap_or(in_flight.route.model)
    }

    fn sums(&self, in_flight: &InFlight, vm: &Vm) -> Sums {
        let (Some(served), Some(asked)) = (
            vm.config.model(self.model(in_flight)),
            vm.config.model(in_flight.route.as_asked),
        ) else {
            return Sums::default();
        };
        if self.ending == Ending::Failed {
            return Sums::default();
        }
        let bill = Bill {
            generation: match self.head.source.is_cache() {
                true => Generation::Cached,
                false => Generation::Paid,
            },
            served: &served.price,
            asked: &asked.price,
            service: self.service,
            tokens: self.tokens,
            wasted: self.head.wasted,
            compacted_tokens: in_flight.asked.compacted.saved_tokens(),
            capped_tokens: match self.is_capped(in_flight) {
                true => in_flight.capped_tokens(),
                false => 0,
            },
        };
        bill.sums()
    }

    /// Tokens that somebody worked for: none, if a cache had the answer or the upstream failed.
    fn generated_tokens(&self) -> u64 {
        match self.ending {
            Ending::Failed => 0,
            _ if self.head.source.is_cache() => 0,
            _ => self.tokens.total(),
        }
    }

    /// Did the answer end where the cap on its length did?
    fn is_capped(&self, in_flight: &InFlight) -> bool {
        let wish = in_flight.asked.max_tokens.unwrap_or(u32::MAX);
        wish > in_flight.route.max_tokens
            && self.tokens.completion >= in_flight.completion_tokens_max()
    }
}

/// The exact response headers of an answer that is still held.
pub(super) fn response_headers(in_flight: &InFlight, vm: &Vm, outcome: &Outcome) -> Vec<Effect> {
    let sums = outcome.sums(in_flight, vm);
    let prompt_tokens = (
        "x-farthing-prompt-tokens",
        digits::text(outcome.tokens.prompt),
    );
    std::iter::once(prompt_tokens)
        .chain(reply::price_tags(&sums))
        .map(|(name, value)| Effect::SetResponseHeader { name, value })
        .collect()
}

/// Closes the request.
pub(super) fn settle(
    in_flight: &mut InFlight,
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    outcome: &Outcome,
) -> Vec<Effect> {
    let sums = outcome.sums(in_flight, vm);
    let reserved = in_flight.reserved();
    // Had it been stored, it would have landed.
    let landing = match outcome.ending {
        Ending::Complete => Landing::Uncacheable,
        Ending::Aborted | Ending::TimedOut | Ending::Failed => Landing::Failed,
    };
    in_flight.land(&mut vm.flights, landing);
    let mut effects = Vec::new();
    if let Some(reservation) = in_flight.reservation.take()
        && let tokens = outcome.generated_tokens()
        && admission::settle(reservation, env, sums.cost, tokens, &mut effects)
            == Settled::Contended
    {
        let message = "a reservation could not be settled; it stays until its window ends";
        effects.push(Effect::Log {
            level: Level::Warn,
            message: message.to_owned(),
        });
        effects.push(Effect::count(Metric::SettleContended));
    }
    if let Some(prompt_tokens) = outcome.reported_prompt_tokens
        && !outcome.head.source.is_cache()
        && in_flight.asked.extent == PromptExtent::Whole
    {
        match &in_flight.basis {
            Basis::Estimated(count) => {
                vm.learn(env, in_flight.route.model, count, prompt_tokens);
            }
            Basis::Exact(counted) if *counted != prompt_tokens => {
                effects.push(Effect::count(Metric::PromptsMiscounted));
            }
            Basis::Exact(_) => {}
        }
    }
    effects.extend(reply::count_savings(outcome.head.source, &sums));
    count(in_flight, vm, outcome, &sums, &mut effects);
    if let Some(model) = vm.config.model(outcome.model(in_flight)) {
        let shadow = shadow(in_flight, vm, outcome, model);
        let line = reply::line(caller, in_flight.endpoint(), outcome.head.source);
        let line = Line {
            model_asked: Some(&in_flight.asked.model),
            status: outcome.head.status,
            stream: in_flight.asked.stream,
            aborted: outcome.ending.is_cut_off(),
            service_tier: outcome.service.as_str(),
            estimated: outcome.estimated,
            sharing_group: in_flight.asked.sharing_group.as_deref(),
            arm: in_flight.asked.arm.as_deref(),
            capped: outcome.is_capped(in_flight),
            shadow,
            ..reply::routed(line, model, &in_flight.route)
        };
        let line = reply::with_sums(line, reserved, &outcome.tokens, &sums);
        effects.push(Effect::Ledger(line.to_json()));
    }
    in_flight.answer = Answer::Settled;
    effects
}

/// What policies that only record would have done, now that the answer is known.
fn shadow(in_flight: &mut InFlight, vm: &Vm, outcome: &Outcome, served: &Model) -> Shadow {
    let shadow = std::mem::take(&mut in_flight.shadow);
    let chosen = shadow.route_model.as_deref();
    let routed = chosen.and_then(|id| vm.config.model(vm.config.find_model(id)?));
    Shadow {
        compaction_tokens: in_flight.asked.compacted.shadow_tokens(),
        ..shadow.with_costs(
            &served.price,
            routed.map(|model| &model.price),
            outcome.service,
            &outcome.tokens,
            in_flight.asked.answers,
        )
    }
}

fn count(in_flight: &InFlight, vm: &Vm, outcome: &Outcome, sums: &Sums, effects: &mut Vec<Effect>) {
    let model = outcome.model(in_flight);
    let mut add = |metric, amount| {
        if amount > 0 {
            effects.push(Effect::Count { metric, amount });
        }
    };
    add(Metric::ModelRequests(model), 1);
    add(
        Metric::UpstreamErrors,
        u64::from(matches!(outcome.ending, Ending::Failed | Ending::TimedOut)),
    );
    add(Metric::Aborts, u64::from(outcome.ending.is_cut_off()));
    add(Metric::UsageEstimated, u64::from(outcome.estimated));
    let is_default = |model: &Model| model.price_origin == PriceOrigin::Default;
    let defaulted = vm.config.model(model).is_some_and(is_default);
    add(Metric::PriceDefault, u64::from(defaulted));
    if matches!(outcome.head.source, Source::Model | Source::Provider) {
        add(
            Metric::CompactedTokens,
            in_flight.asked.compacted.saved_tokens(),
        );
        add(Metric::PromptTokens, outcome.tokens.prompt);
        add(Metric::CompletionTokens, outcome.tokens.completion);
        add(Metric::CostNanousd, sums.cost.0);
        add(Metric::ModelPromptTokens(model), outcome.tokens.prompt);
        add(
            Metric::ModelCompletionTokens(model),
            outcome.tokens.completion,
        );
        add(Metric::ModelCostNanousd(model), sums.cost.0);
    }
}

/// Puts a complete answer into the cache, if the request and the upstream allow it, and gives it to
/// those who wait for it.
pub(super) fn store(
    in_flight: &mut InFlight,
    vm: &mut Vm,
    env: &Env<'_>,
    answer: Vec<u8>,
    tokens: Tokens,
) {
    let (Some(config), Some(key), Some(life_s)) = (
        &vm.config.cache,
        &in_flight.store_under,
        in_flight.storable_s,
    ) else {
        return;
    };
    let cost = vm
        .config
        .model(in_flight.route.model)
        .map_or(Nanousd::ZERO, |model| {
            model.price.cost(in_flight.asked.service_tier, &tokens)
        });
    let now_unix_s = env.now_unix_s();
    let entry = Rc::new(Entry {
        created_unix_s: now_unix_s.saturating_sub(in_flight.age_s),
        expires_unix_s: now_unix_s.saturating_add(u64::from(life_s)),
        prompt_tokens: tokens.prompt,
        completion_tokens: tokens.completion,
        cost_nanousd: cost.0,
        answer: Bytes(answer),
    });
    let mut levels = Levels {
        store: env.store,
        per_vm: &mut vm.per_vm,
        config,
    };
    levels.insert(key, Rc::clone(&entry), in_flight.place, now_unix_s);
    in_flight.land(&mut vm.flights, Landing::Answered(entry));
}
