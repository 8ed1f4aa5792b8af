//! Requests for a cascade: its models are asked from cheap to dear until an answer is worth
//! keeping. The client sees one model's answer. A stream is held back until the first tokens say
//! that it will be kept, or until it has been judged whole.

use std::sync::Arc;

use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::route;
use farthing_core::wire::{Endpoint, Request};
use hyper::Response;

use super::cascades::{Cascade, TierModel};
use super::climb::Climb;
use super::learning::Reference;
use super::prompt::{self, Preparation};
use super::reply::ReplyBody;
use super::router::Call;
use super::semantic::{self, Eligible};
use super::state::{ServedBy, State};
use super::stored::{self, Asker, Keepers, LookedUp, Place};
use crate::metrics::Operation;

/// A request that the models of a cascade can take.
pub struct Cascaded {
    pub request: Request,
    pub asker: Asker,
    pub cascade: Arc<Cascade>,
    keep_at: Option<Place>,
    eligible: Option<Box<Eligible>>,
    /// The probability that each tier is wrong, by the prompt alone.
    pub priors: Vec<f64>,
    /// What is read of the prompt.
    pub prompt_features: [f64; route::FEATURES],
    pub prompt_bytes: usize,
}

/// Looks a request for a cascade up. One whose answer cannot be judged is for the dearest model of
/// the plan alone.
///
/// # Errors
/// As those of that model.
pub fn prepare(
    state: &State,
    asker: &Asker,
    request: Request,
    cascade: &Arc<Cascade>,
) -> Result<Preparation, ApiError> {
    if !is_judged(&request) {
        let dearest = cascade.tiers.get(cascade.plan.last());
        let served = match dearest.ok_or_else(nobody)? {
            TierModel::Own(model) => ServedBy::Engine(model),
            TierModel::Provider(model) => ServedBy::Provider(model),
        };
        return prompt::prepare_for(state, asker, request, served);
    }
    let keep_at = match stored::look_up(state, asker, &request, &cascade.name) {
        LookedUp::Found(found) => return Ok(Preparation::Own(prompt::Own::Found(found))),
        LookedUp::Missing(place) => place,
    };
    let eligible = Eligible::of(state, asker, &request, &cascade.name);
    let last = request.messages().last();
    let asked = route::features(last.map_or("", |last| &last.content).as_bytes());
    let tiers = cascade.calibration.tiers.iter();
    Ok(Preparation::Cascaded(Box::new(Cascaded {
        priors: tiers.map(|tier| tier.prior.p_wrong(&asked)).collect(),
        prompt_features: asked,
        prompt_bytes: request
            .messages()
            .iter()
            .map(|said| said.content.len())
            .sum(),
        asker: asker.clone(),
        cascade: Arc::clone(cascade),
        keep_at,
        eligible,
        request,
    })))
}

/// One plain answer to a chat: anything else cannot be compared with what was learned.
fn is_judged(request: &Request) -> bool {
    let sampling = &request.sampling;
    request.endpoint == Endpoint::ChatCompletions
        && sampling.n == 1
        && sampling.logprobs.is_none()
        && !sampling.confidence
        && !request.tools
        && request.images.first.is_none()
}

/// Answers from a cache, or by the first model whose answer is worth keeping.
///
/// # Errors
/// What the dearest model failed for.
pub async fn answer(
    call: Call<'_>,
    operation: Operation,
    mut cascaded: Cascaded,
) -> Result<Response<ReplyBody>, ApiError> {
    let cascade = Arc::clone(&cascaded.cascade);
    let policy = cascade.policy();
    let dearest = cascade.tiers.get(cascade.plan.last()).ok_or_else(nobody)?;
    let prompt_tokens = (cascaded.prompt_bytes / BYTES_PER_TOKEN) as u64;
    let priors = cascaded.priors.clone();
    let subject = semantic::Subject {
        request: &cascaded.request,
        model: &cascade.name,
        reference: match dearest {
            TierModel::Own(model) => Reference::Own(Arc::clone(model)),
            TierModel::Provider(model) => Reference::Provider(Arc::clone(model)),
        },
        takes: &|p_wrong| policy.takes_cached(p_wrong, &priors, prompt_tokens),
    };
    let eligible = cascaded.eligible.take();
    let learning = match semantic::look_up(call, operation, eligible, subject).await {
        semantic::LookedUp::Found(response) => return Ok(*response),
        semantic::LookedUp::Missing(learning) => learning,
    };
    let keepers = Keepers {
        place: cascaded.keep_at.take(),
        learning: learning.map(|learning| (learning, Arc::clone(call.state))),
    };
    Climb::new(call, operation, &cascaded).answer(keepers).await
}

/// What a prompt is taken to have where it has not been tokenized: only the choice between a cached
/// answer and a new one depends on it.
pub const BYTES_PER_TOKEN: usize = 4;

/// The error of a name behind which there is no model.
pub fn nobody() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "nobody serves this model")
}
