//! Requests whose model a provider serves: written in its words, sent, and answered in ours. Where
//! it does not answer, the next in the model's order is asked, as long as nothing of an answer has
//! gone out.

use std::sync::Arc;

use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::limits;
use farthing_core::wire::provider::{ProviderRequest, UsageWish};
use farthing_core::wire::{self, AnswerHead, Completed, Request};
use hyper::Response;

use super::generate::{answer_head, answer_own};
use super::learning::Reference;
use super::log;
use super::measure::Measure;
use super::prompt::{self, Own, Preparation};
use super::provided_stream::ProvidedStream;
use super::reply::{self, ReplyBody};
use super::router::Call;
use super::semantic::{self, Eligible};
use super::state::{ServedBy, State};
use super::stored::{self, Asker, Collecting, Keepers, LookedUp, Place};
use crate::metrics::Operation;
use crate::model::ModelInfo;
use crate::provider::retry::Fallback;
use crate::provider::{Answer, AnswerForm, Asked, Failure, ProviderModel, Question, ask};

/// A request that providers can take.
pub struct Provided {
    request: Request,
    asker: Asker,
    /// Who is asked, in this order.
    order: Vec<Candidate>,
    /// Where the answer of the first may be kept.
    keep_at: Option<Place>,
    /// What the semantic cache compares it by.
    eligible: Option<Box<Eligible>>,
}

/// One model that may answer.
enum Candidate {
    Provider(Arc<ProviderModel>, ProviderRequest),
    Own(Arc<ModelInfo>),
}

/// Writes a request for `model` and for those that may answer in its place. One of these that
/// cannot be told all of it is not asked.
///
/// # Errors
/// The provider's API has no word for a field, or the answer may be longer than its context.
pub fn prepare(
    state: &State,
    asker: &Asker,
    request: Request,
    model: &Arc<ProviderModel>,
) -> Result<Preparation, ApiError> {
    let order = order(state, &request, model)?;
    let keep_at = match stored::look_up(state, asker, &request, &model.id) {
        LookedUp::Found(found) => return Ok(Preparation::Own(Own::Found(found))),
        LookedUp::Missing(place) => place,
    };
    let eligible = Eligible::of(state, asker, &request, &model.id);
    Ok(Preparation::Provided(Box::new(Provided {
        request,
        asker: asker.clone(),
        order,
        keep_at,
        eligible,
    })))
}

/// Who may answer, `model` first.
fn order(
    state: &State,
    request: &Request,
    model: &Arc<ProviderModel>,
) -> Result<Vec<Candidate>, ApiError> {
    let mut order = vec![written(state, request, model)?];
    for id in &model.config.fallbacks {
        let candidate = match state.served_by(id)? {
            ServedBy::Engine(model) => {
                prompt::refuse_unsupported(request).map(|()| Candidate::Own(Arc::clone(model)))
            }
            ServedBy::Provider(model) => written(state, request, model),
            ServedBy::Cascade(_) => continue,
        };
        order.extend(candidate);
    }
    Ok(order)
}

fn written(
    state: &State,
    request: &Request,
    model: &Arc<ProviderModel>,
) -> Result<Candidate, ApiError> {
    if let (Some(asked), Some(max)) = (request.max_tokens, model.config.max_tokens_max())
        && asked >= max.get()
    {
        let message = format!(
            "{asked} tokens are asked for, but {} takes {max} tokens of prompt and answer together",
            model.id
        );
        let error = ApiError::new(ErrorKind::ContextLengthExceeded, message);
        return Err(error.param("max_tokens"));
    }
    let target = model.target(state.config.max_tokens_default.get());
    let written = model.provider.api.request(request, &target)?;
    Ok(Candidate::Provider(Arc::clone(model), written))
}

/// Asks one after the other until one answers.
///
/// # Errors
/// What the first one failed for, if none answers; or what is wrong with the request, if one says.
pub async fn answer(
    call: Call<'_>,
    operation: Operation,
    provided: Provided,
) -> Result<Response<ReplyBody>, ApiError> {
    let Provided {
        request,
        asker,
        order,
        keep_at,
        eligible,
    } = provided;
    let learning = match order.first() {
        Some(Candidate::Provider(model, _)) => {
            let subject = semantic::Subject {
                request: &request,
                model: &model.id,
                reference: Reference::Provider(Arc::clone(model)),
                takes: &|_| true,
            };
            match semantic::look_up(call, operation, eligible, subject).await {
                semantic::LookedUp::Found(response) => return Ok(*response),
                semantic::LookedUp::Missing(learning) => learning,
            }
        }
        _ => None,
    };
    let keepers = Keepers {
        place: keep_at,
        learning: learning.map(|learning| (learning, Arc::clone(call.state))),
    };
    ask_in_order(call, operation, (&request, &asker), order, keepers).await
}

/// Asks `model`, and where it does not answer those that may in its place.
///
/// # Errors
/// As [`answer`], and as [`prepare`].
pub async fn answer_as(
    call: Call<'_>,
    operation: Operation,
    asked: (&Request, &Asker),
    model: &Arc<ProviderModel>,
    keepers: Keepers,
) -> Result<Response<ReplyBody>, ApiError> {
    let order = order(call.state, asked.0, model)?;
    ask_in_order(call, operation, asked, order, keepers).await
}

async fn ask_in_order(
    call: Call<'_>,
    operation: Operation,
    (request, asker): (&Request, &Asker),
    order: Vec<Candidate>,
    keepers: Keepers,
) -> Result<Response<ReplyBody>, ApiError> {
    // Only the first one's answer is kept: what others say in its place is not its answer.
    let mut keepers = Some(keepers);
    let mut first_error = None;
    let mut order = order.into_iter().peekable();
    while let Some(candidate) = order.next() {
        let fallback = match order.peek() {
            Some(_) => Fallback::Ready,
            None => Fallback::None,
        };
        let error = match candidate {
            Candidate::Own(model) => match own(call, operation, (request, asker), model).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            },
            Candidate::Provider(model, written) => {
                let asking = Asking {
                    call,
                    operation,
                    request,
                    fallback,
                };
                let keepers = keepers.take().unwrap_or_default();
                match asking.of_provider(&model, &written, keepers).await {
                    Ok(response) => return Ok(response),
                    Err(failure) if failure.is_of_request() => {
                        return Err(failure.error(&model.provider.name));
                    }
                    Err(failure) => {
                        if fallback == Fallback::Ready {
                            model.count_fallback();
                        }
                        failure.error(&model.provider.name)
                    }
                }
            }
        };
        first_error.get_or_insert(error);
    }
    let none = || ApiError::new(ErrorKind::Unavailable, "nobody serves this model");
    Err(first_error.unwrap_or_else(none))
}

/// A model of ours in the place of a provider's.
async fn own(
    call: Call<'_>,
    operation: Operation,
    (request, asker): (&Request, &Asker),
    model: Arc<ModelInfo>,
) -> Result<Response<ReplyBody>, ApiError> {
    let state = Arc::clone(call.state);
    let (request, asker) = (request.clone(), asker.clone());
    let preparing = prompt::aside(call.state, move || {
        prompt::prepare_own(&state, &asker, request, model)
    });
    answer_own(call, operation, preparing.await?).await
}

/// A request on its way to a provider.
struct Asking<'a> {
    call: Call<'a>,
    operation: Operation,
    request: &'a Request,
    fallback: Fallback,
}

impl Asking<'_> {
    async fn of_provider(
        &self,
        model: &Arc<ProviderModel>,
        written: &ProviderRequest,
        keepers: Keepers,
    ) -> Result<Response<ReplyBody>, Failure> {
        let (call, endpoint) = (self.call, self.request.endpoint);
        let choices = usize::from(self.request.sampling.n);
        let mut measure = call.measure(self.operation, &model.id, choices);
        let wish = match self.request.include_usage {
            true => UsageWish::Wanted,
            false => UsageWish::NotWanted,
        };
        let head = answer_head(call, endpoint, &model.id);
        let asked = Asked {
            question: Question {
                endpoint,
                request: written,
                head: &head,
                form: match self.request.stream {
                    true => AnswerForm::Streamed(wish),
                    false => AnswerForm::Whole,
                },
            },
            fallback: self.fallback,
            // Without randomness, waits are the same everywhere, which is all that is lost.
            seed: getrandom::u64().unwrap_or_default(),
        };
        let failed = |failure: &Failure, before| self.log_failure(model, failure, before);
        let response = match ask(model, &asked, failed).await {
            Err(failure) => {
                measure.failed();
                return Err(failure);
            }
            Ok(Answer::Whole(answer)) => {
                measure.completed(answer.usage.unwrap_or_default());
                if !keepers.is_empty()
                    && let Some(completed) = wire::parse_completed(endpoint, &answer.body)
                {
                    keepers.keep(&completed);
                }
                reply::json(answer.body)
            }
            Ok(Answer::Streamed(answer)) => {
                let collecting = (!keepers.is_empty()).then(|| Collecting::new(keepers, endpoint));
                let request_id = call.identity.log_id().to_owned();
                let stream = ProvidedStream::new(answer, wish, measure, request_id);
                reply::provided_events(stream.keeping(collecting))
            }
        };
        Ok(reply::from_source(response, "provider", &model.id))
    }

    fn log_failure(&self, model: &ProviderModel, failure: &Failure, before: u32) {
        log_failure(self.call.identity.log_id(), model, failure, before);
    }
}

/// The whole answer of a provider, for somebody else than a client.
///
/// # Errors
/// It cannot be told all of the request, it failed, or what it said is no answer.
pub async fn whole(
    state: &State,
    request: &Request,
    model: &Arc<ProviderModel>,
    head: &AnswerHead,
    mut measure: Measure,
) -> Result<Completed, ApiError> {
    let target = model.target(state.config.max_tokens_default.get());
    let request = &request.unstreamed();
    let written = model.provider.api.request(request, &target)?;
    let asked = Asked {
        question: Question {
            endpoint: request.endpoint,
            request: &written,
            head,
            form: AnswerForm::Whole,
        },
        fallback: Fallback::None,
        seed: getrandom::u64().unwrap_or_default(),
    };
    let failed = |failure: &Failure, before| log_failure("-", model, failure, before);
    let name = &model.provider.name;
    let answered = ask(model, &asked, failed).await;
    let answered = answered.inspect_err(|_| measure.failed());
    let body = match answered.map_err(|failure| failure.error(name))? {
        Answer::Whole(answer) => {
            measure.completed(answer.usage.unwrap_or_default());
            answer.body
        }
        // It was asked for a whole one.
        Answer::Streamed(_) => Vec::new(),
    };
    let completed = wire::parse_completed(request.endpoint, &body);
    let no_answer = || ApiError::new(ErrorKind::Unavailable, "the provider gave no answer");
    completed.ok_or_else(no_answer)
}

/// One line for an attempt that failed: what happened, and nothing of what was said.
pub fn log_failure(request_id: &str, model: &ProviderModel, failure: &Failure, before: u32) {
    let wait_ms = failure.retry_after.map_or(0, |wait| wait.as_millis());
    let fields: [(&str, &dyn std::fmt::Display); 6] = [
        ("request_id", &request_id),
        ("provider", &model.provider.name),
        ("model", &model.id),
        ("failure", &failure.as_str()),
        ("attempt", &(u64::from(before) + 1)),
        ("wait_ms", &wait_ms),
    ];
    log::event("provider_failed", &fields);
}

/// What stands for the answer's limit in a store's key where the client names none: some APIs are
/// told the default then, others decide by themselves.
pub fn unasked_max_tokens(state: &State, model: &str) -> u32 {
    let decides = state.providers.model(model).is_some_and(|model| {
        use farthing_core::wire::provider::ProviderApi::{Gemini, OpenAi};
        matches!(model.provider.api, OpenAi | Gemini)
    });
    match decides {
        // No request can ask for so many.
        true => limits::MAX_TOKENS_MAX + 1,
        false => state.config.max_tokens_default.get(),
    }
}
