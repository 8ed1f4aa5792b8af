//! What the semantic cache has to do with one request: may it be answered from there, and may its
//! answer be kept for others?

use std::sync::Arc;
use std::time::Duration;

use farthing_core::cache::CacheControl;
use farthing_core::price::{ServiceTier, Tokens};
use farthing_core::tenant::TenantId;
use farthing_core::wire::{Endpoint, Request};
use hyper::Response;

use super::State;
use super::learning::{Learning, Reference};
use super::overhead::{Overhead, Purpose, Running};
use super::provided::unasked_max_tokens;
use super::reply::ReplyBody;
use super::router::Call;
use super::stored::{self, Asker, Found};
use crate::embed::EmbedHandle;
use crate::engine::EngineEvent;
use crate::metrics::Operation;
use crate::semantic::cache::{self, Resample, SemanticCache};
use crate::semantic::conversation::Asked;
use crate::semantic::freshness::Freshness;
use crate::semantic::lookup::{Judged, Question};
use crate::semantic::scope::{RouteKey, Scope};
use crate::semantic::score::Level;
use crate::semantic::verifier::{self, PROMOTED, PROVEN, is_grey};
use crate::store::now_unix_s;
use crate::yes_no;

/// Where such answers come from.
const SOURCE: &str = "semantic-cache";

/// The cache with the models that it needs.
pub struct Semantic {
    pub cache: SemanticCache,
    pub embedder: EmbedHandle,
}

/// A request that may be compared with others.
pub struct Eligible {
    /// Who pays for what is learned from it.
    pub tenant: TenantId,
    pub scope: Scope,
    pub route: RouteKey,
    pub asked: Asked,
    control: CacheControl,
    /// How long its answer keeps.
    pub ttl_s: u64,
}

impl Eligible {
    /// Only a tenant's own chat at temperature 0 with one plain answer, about nothing that changes
    /// with the moment.
    pub fn of(
        state: &State,
        asker: &Asker,
        request: &Request,
        model: &str,
    ) -> Option<Box<Eligible>> {
        let config = state.config.semantic_cache.as_ref()?;
        state.semantic.as_ref()?;
        let tenant = asker.tenant()?;
        let sampling = &request.sampling;
        let plain = request.endpoint == Endpoint::ChatCompletions
            && request.is_deterministic()
            && request.is_reusable()
            && sampling.n == 1
            && sampling.logprobs.is_none()
            && !sampling.confidence
            && !request.tools;
        let asked = Asked::of(request.messages()).filter(|_| plain)?;
        let ttl_s = Freshness::of(&asked.question).ttl_s(config.ttl_s);
        let revision = state.revisions.get(model)?;
        let behind = (model, revision.as_str());
        let default = unasked_max_tokens(state, model);
        let max_tokens = request.max_tokens.unwrap_or(default);
        (ttl_s > 0).then(|| {
            Box::new(Eligible {
                tenant,
                scope: Scope::of(tenant, behind, max_tokens, request),
                route: RouteKey::of(tenant, behind, request),
                asked,
                control: asker.control(),
                ttl_s,
            })
        })
    }
}

/// What the cache makes of a request.
pub enum LookedUp {
    Found(Box<Response<ReplyBody>>),
    /// It must be generated, and may be learned from.
    Missing(Option<Learning>),
}

/// A request that is looked up.
pub struct Subject<'a> {
    pub request: &'a Request,
    /// The model that it names.
    pub model: &'a str,
    /// Who is asked whether a cached answer was right.
    pub reference: Reference,
    /// Whether an answer is taken that is wrong with no more than this probability.
    pub takes: &'a (dyn Fn(f64) -> bool + Send + Sync),
}

/// Looks a request up. Whatever fails here is a miss.
pub async fn look_up(
    call: Call<'_>,
    operation: Operation,
    eligible: Option<Box<Eligible>>,
    subject: Subject<'_>,
) -> LookedUp {
    let state = call.state;
    let (Some(semantic), Some(eligible)) = (&state.semantic, eligible) else {
        return LookedUp::Missing(None);
    };
    // It will neither be found nor kept, so there is nothing to compare and pay for.
    if eligible.control.no_cache && !eligible.may_keep() {
        return LookedUp::Missing(None);
    }
    let texts = Question::texts(&eligible.asked);
    let embedded = semantic.embedder.embed(texts).await.ok();
    let question = embedded.and_then(|embedded| {
        call.overhead
            .embedded(&semantic.embedder.id, embedded.tokens);
        Question::new(eligible.asked.clone(), &embedded.vectors)
    });
    let Some(question) = question else {
        return LookedUp::Missing(None);
    };
    let mut learning = Learning::new(Arc::clone(semantic), eligible, question);
    if learning.eligible.control.no_cache {
        return LookedUp::Missing(learning.kept());
    }
    let looked_up = aside(Arc::clone(semantic), &learning).await;
    let risk = semantic.cache.risk(&learning.eligible.route);
    let served = match looked_up {
        cache::Found::Served(judged) if (subject.takes)(risk) => Some(judged),
        // It is worth asking for: the cached answer is compared with the new one.
        cache::Found::Served(judged) => {
            learning.candidate = Some(judged);
            None
        }
        cache::Found::Below(judged) => {
            learning.candidate = judged;
            verified(call, semantic, &mut learning).await
        }
    };
    if let Some(judged) = served
        && let Some(found) = found(&judged, &learning.eligible, subject.request, subject.model)
    {
        let route = learning.eligible.route;
        if semantic.cache.served(&route, &judged.record) == Resample::Yes {
            learning.candidate = Some(judged);
            let salt = call.identity.cache_salt;
            let request = subject.request.clone();
            learning.regenerate(Arc::clone(state), request, subject.reference, salt);
        }
        call.log_stored(operation, &found.model);
        return LookedUp::Found(Box::new(stored::answer(found)));
    }
    semantic.cache.missed();
    LookedUp::Missing(learning.kept())
}

/// Comparing with sixteen neighbours takes a good part of a millisecond, which the threads that
/// move bytes do not have.
async fn aside(semantic: Arc<Semantic>, learning: &Learning) -> cache::Found {
    let (scope, route) = (learning.eligible.scope, learning.eligible.route);
    let question = learning.question.clone();
    let work = tokio::task::spawn_blocking(move || {
        let is_known = |word: &str| semantic.embedder.is_known(word);
        let place = (&scope, &route);
        semantic
            .cache
            .look_up(place, &question, &is_known, now_unix_s())
    });
    work.await.unwrap_or(cache::Found::Below(None))
}

/// Asks the verifier about a score that is nearly enough, for as long as a request may wait.
async fn verified(call: Call<'_>, semantic: &Semantic, learning: &mut Learning) -> Option<Judged> {
    let config = call.state.config.semantic_cache.as_ref()?;
    let judged = learning.candidate.clone()?;
    let threshold = semantic.cache.threshold(&learning.eligible.route)?;
    let promoted = Level::of_odds(PROMOTED);
    if !is_grey(judged.level, threshold) || promoted < threshold {
        return None;
    }
    let verifier = config.verifier.as_ref()?;
    let wait = Duration::from_millis(config.verify_ms.get().into());
    let pair = (&judged.record.asked, &learning.question.asked);
    let salt = call.identity.cache_salt;
    let tier = ServiceTier::Standard;
    let asked = ask(call.state, (verifier, tier), pair, salt, call.overhead);
    match tokio::time::timeout(wait, asked).await {
        Ok(Some(sure)) if sure >= PROVEN => {
            semantic.cache.verified();
            Some(Judged {
                level: promoted,
                ..judged
            })
        }
        // It was heard, and there is no need to ask again.
        Ok(Some(_)) => None,
        Ok(None) | Err(_) => {
            learning.unverified = Some(verifier.clone());
            None
        }
    }
}

/// How sure the verifier is that two questions are the same.
pub async fn ask(
    state: &State,
    (verifier, tier): (&str, ServiceTier),
    pair: (&Asked, &Asked),
    cache_salt: [u8; 32],
    overhead: &Overhead,
) -> Option<f32> {
    let model = state.engine.model(verifier)?;
    let question = verifier::prompt(pair.0, pair.1);
    let request = yes_no::request(model, question, tier, cache_salt).ok()?;
    let prompt_tokens = request.prompt.len() as u64;
    let mut events = state.engine.submit(request).ok()?;
    let mut running = Running {
        overhead,
        purpose: Purpose::Verifier,
        model: verifier,
        service: tier,
        tokens: Tokens {
            prompt: prompt_tokens,
            ..Tokens::default()
        },
    };
    let mut sure = None;
    while let Some(event) = events.recv().await {
        sure = sure.or_else(|| yes_no::read(&event));
        if let EngineEvent::Done { usage } = event {
            running.tokens = usage.tokens();
        }
    }
    sure
}

/// The answer in the form that the request wants; none if it is too old for the client.
fn found(judged: &Judged, eligible: &Eligible, request: &Request, model: &str) -> Option<Found> {
    let age_s = now_unix_s().saturating_sub(judged.record.created_unix_s);
    if !eligible.control.accepts_age(age_s) {
        return None;
    }
    stored::shaped(judged.record.answer.clone(), request).map(|body| Found {
        model: model.to_owned(),
        source: SOURCE,
        stream: request.stream,
        age_s,
        body,
    })
}

impl Eligible {
    /// Whether its answer may be kept.
    pub fn may_keep(&self) -> bool {
        !self.control.no_store
    }
}
