//! Replies that the filter makes itself: refusals, and answers from the cache.

use super::{Asked, Caller, Effect, LocalReply};
use crate::budget::Unit;
use crate::cache::Entry;
use crate::config::{Config, Model, PriceOrigin};
use crate::digits;
use crate::error::{ApiError, ErrorKind, ErrorShape};
use crate::ledger::{Bill, Generation, Line, SavedBy, Shadow, Source, Sums};
use crate::metrics::Metric;
use crate::money::{Nanousd, NanousdDelta};
use crate::price::{ServiceTier, Tokens};
use crate::route::Route;
use crate::tenant::Tenant;
use crate::wire::{Endpoint, Request, UsageEvent, parse_completed, replay_sse};

/// Refuses a request in the shape of its API's errors. `endpoint` is the one that it is for or lies
/// under; without one it is no request of ours and has no line in the ledger. `request` is known if
/// it could be parsed.
pub(super) fn refuse(
    caller: &Caller,
    endpoint: Option<Endpoint>,
    request: Option<&Request>,
    error: &ApiError,
    effects: &mut Vec<Effect>,
) {
    let exhausted = error.kind == ErrorKind::BudgetExhausted;
    let metric = if exhausted {
        Metric::BudgetExhausted
    } else {
        Metric::Rejected
    };
    effects.push(Effect::count(metric));
    // A name that we do not know is whatever the client wrote: it may be a prompt or a credential.
    let unknown = error.kind == ErrorKind::ModelNotFound;
    if let Some(endpoint) = endpoint {
        let line = Line {
            model_asked: request
                .filter(|_| !unknown)
                .map(|request| request.model.as_str()),
            status: error.status(),
            error: Some(error.kind.code()),
            stream: request.is_some_and(|request| request.stream),
            ..line(caller, endpoint, Source::Refused)
        };
        effects.push(Effect::Ledger(line.to_json()));
    }
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        ("x-farthing-request-id", caller.request_id.clone()),
    ];
    if let Some(retry_after_s) = error.retry_after_s {
        headers.push(("retry-after", retry_after_s.to_string()));
    }
    if error.kind == ErrorKind::MethodNotAllowed && endpoint.is_some() {
        headers.push(("allow", "POST".to_owned()));
    }
    let shape = endpoint.map_or(ErrorShape::OpenAi, Endpoint::error_shape);
    let (status, body) = (error.status(), error.body_in(shape));
    effects.push(Effect::LocalReply(LocalReply {
        status,
        headers,
        body,
    }));
}

/// An answer from the cache, in the form that the client wants.
pub(super) struct Hit {
    body: Vec<u8>,
    age_s: u64,
    tokens: Tokens,
    from: HitFrom,
}

/// Who had the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HitFrom {
    Cache,
    /// An identical request that was under way.
    SingleFlight,
}

impl Hit {
    /// `None` if the stored answer cannot be replayed, which makes it a miss.
    pub(super) fn new(entry: &Entry, now_unix_s: u64, asked: &Asked) -> Option<Hit> {
        let body = if asked.stream {
            let completed = parse_completed(asked.endpoint, &entry.answer.0)?;
            let usage_event = if asked.include_usage {
                UsageEvent::Include
            } else {
                UsageEvent::Omit
            };
            replay_sse(&completed, usage_event)
        } else {
            entry.answer.0.clone()
        };
        let tokens = Tokens {
            prompt: entry.prompt_tokens,
            completion: entry.completion_tokens,
            ..Tokens::default()
        };
        Some(Hit {
            body,
            age_s: entry.age_s(now_unix_s),
            tokens,
            from: HitFrom::Cache,
        })
    }

    /// The same answer, had by waiting for it.
    pub(super) fn by_single_flight(self) -> Hit {
        Hit {
            from: HitFrom::SingleFlight,
            ..self
        }
    }

    /// What generating the answer again would cost.
    pub(super) fn generated_cost(&self, config: &Config, route: &Route, asked: &Asked) -> Nanousd {
        config.model(route.model).map_or(Nanousd::ZERO, |model| {
            model.price.cost(asked.service_tier, &self.tokens)
        })
    }
}

/// Answers from the cache: it costs nothing and reserves nothing.
pub(super) fn hit(
    caller: &Caller,
    config: &Config,
    route: &Route,
    asked: &Asked,
    hit: Hit,
    effects: &mut Vec<Effect>,
) {
    let (Some(served), Some(dearest)) = (config.model(route.model), config.model(route.as_asked))
    else {
        return;
    };
    let bill = Bill {
        wasted: Nanousd::ZERO,
        generation: match hit.from {
            HitFrom::Cache => Generation::Cached,
            HitFrom::SingleFlight => Generation::Shared,
        },
        served: &served.price,
        asked: &dearest.price,
        service: asked.service_tier,
        tokens: hit.tokens,
        compacted_tokens: 0,
        capped_tokens: 0,
    };
    let sums = bill.sums();
    effects.push(Effect::count(Metric::Hits));
    effects.extend(count_savings(Source::EdgeCache, &sums));
    let line = Line {
        model_asked: Some(&asked.model),
        stream: asked.stream,
        sharing_group: asked.sharing_group.as_deref(),
        arm: asked.arm.as_deref(),
        service_tier: asked.service_tier.as_str(),
        ..routed(
            line(caller, asked.endpoint, Source::EdgeCache),
            served,
            route,
        )
    };
    let line = with_sums(line, None, &hit.tokens, &sums);
    effects.push(Effect::Ledger(line.to_json()));
    let content_type = if asked.stream {
        "text/event-stream"
    } else {
        "application/json"
    };
    let mut headers = vec![
        ("content-type", content_type.to_owned()),
        ("age", digits::text(hit.age_s)),
    ];
    headers.extend(describe(
        caller,
        served,
        Source::EdgeCache,
        hit.tokens.prompt,
        asked.tokens_basis,
    ));
    headers.extend(price_tags(&sums));
    let body = hit.body;
    effects.push(Effect::LocalReply(LocalReply {
        status: 200,
        headers,
        body,
    }));
}

/// Response headers that are known before the answer is.
pub(super) fn describe(
    caller: &Caller,
    model: &Model,
    source: Source,
    prompt_tokens: u64,
    tokens_basis: &str,
) -> [(&'static str, String); 6] {
    [
        ("x-farthing-source", source.as_str().to_owned()),
        ("x-farthing-model", model.id.clone()),
        ("x-farthing-tier", model.tier.clone()),
        ("x-farthing-prompt-tokens", digits::text(prompt_tokens)),
        ("x-farthing-tokens", tokens_basis.to_owned()),
        ("x-farthing-request-id", caller.request_id.clone()),
    ]
}

/// Response headers that are known when the answer is.
pub(super) fn price_tags(sums: &Sums) -> [(&'static str, String); 3] {
    [
        ("x-farthing-cost-usd", sums.cost.to_usd()),
        ("x-farthing-saved-usd", sums.saved().to_usd()),
        ("x-farthing-saved-by", sums.saved_by.to_header()),
    ]
}

/// Adds what was saved to the counters: the whole, each part, and for a cache its level. A counter
/// cannot fall, so a part below zero goes to one of its own.
pub(super) fn count_savings(source: Source, sums: &Sums) -> Vec<Effect> {
    let parts = sums.saved_by.parts();
    let gained = parts
        .iter()
        .fold(0_u64, |sum, (_, part)| sum.saturating_add(part.gain()));
    let lost = parts
        .iter()
        .fold(0_u64, |sum, (_, part)| sum.saturating_add(part.loss()));
    let cached = NanousdDelta(sums.saved_by.cache_nanousd).gain();
    let by_part = Metric::SAVED_BY
        .into_iter()
        .zip(parts.map(|(_, part)| part.gain()));
    [(Metric::SavedNanousd, gained), (Metric::LostNanousd, lost)]
        .into_iter()
        .chain(by_part)
        .chain(Metric::saved_by_level(source).map(|metric| (metric, cached)))
        .filter(|(_, amount)| *amount > 0)
        .map(|(metric, amount)| Effect::Count { metric, amount })
        .collect()
}

/// A ledger line of a 200 without tokens; the callers fill in what they know.
pub(super) fn line<'a>(caller: &'a Caller, endpoint: Endpoint, source: Source) -> Line<'a> {
    Line {
        request_id: &caller.request_id,
        tenant: match &caller.tenant {
            Tenant::Anonymous => None,
            Tenant::Known { id, .. } => Some(id.to_hex()),
        },
        endpoint: endpoint.path(),
        model_asked: None,
        model: None,
        tier: None,
        route: None,
        complexity: None,
        source,
        status: 200,
        error: None,
        stream: false,
        aborted: false,
        prompt_tokens: 0,
        cache_read_tokens: 0,
        cache_write_tokens: 0,
        completion_tokens: 0,
        service_tier: ServiceTier::Standard.as_str(),
        estimated: false,
        reserved_nanousd: 0,
        reserved_tokens: 0,
        cost_nanousd: 0,
        as_asked_nanousd: 0,
        saved_nanousd: 0,
        saved_by: SavedBy::default(),
        sharing_group: None,
        arm: None,
        capped: false,
        price_default: false,
        shadow: Shadow::default(),
    }
}

pub(super) fn routed<'a>(line: Line<'a>, model: &'a Model, route: &Route) -> Line<'a> {
    Line {
        model: Some(&model.id),
        tier: Some(&model.tier),
        route: Some(route.reason.as_str()),
        complexity: route.complexity,
        price_default: model.price_origin == PriceOrigin::Default,
        ..line
    }
}

pub(super) fn with_sums<'a>(
    line: Line<'a>,
    reserved: Option<(Unit, u64)>,
    tokens: &Tokens,
    sums: &Sums,
) -> Line<'a> {
    let reserved_in = |unit: Unit| match reserved {
        Some((reserved_unit, amount)) if reserved_unit == unit => amount,
        _ => 0,
    };
    Line {
        prompt_tokens: tokens.prompt,
        cache_read_tokens: tokens.cache_read,
        cache_write_tokens: tokens.cache_write.saturating_add(tokens.cache_write_1h),
        completion_tokens: tokens.completion,
        reserved_nanousd: reserved_in(Unit::Nanousd),
        reserved_tokens: reserved_in(Unit::Tokens),
        cost_nanousd: sums.cost.0,
        as_asked_nanousd: sums.as_asked.0,
        saved_nanousd: sums.saved().0,
        saved_by: sums.saved_by,
        ..line
    }
}
