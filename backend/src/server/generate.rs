//! `/v1/chat/completions` and `/v1/completions`: prepare, submit, then collect or stream.

use std::sync::Arc;

use farthing_core::error::ApiError;
use farthing_core::wire::stream::StreamWriter;
use farthing_core::wire::{self, AnswerHead, Choice, Endpoint, Usage, response};
use hyper::Response;
use hyper::body::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;

use super::cascade;
use super::learning::Reference;
use super::measure::Measure;
use super::prompt::{self, Own, Preparation, Prepared};
use super::provided;
use super::reply::{self, ReplyBody};
use super::router::Call;
use super::semantic;
use super::stored::{self, Asker, Collecting, Keepers};
use super::stream::{EventStream, Shown};
use crate::engine::{Confidence, EngineEvent, GenerateRequest, thread_gone};
use crate::metrics::Operation;
use crate::store::now_unix_s;

/// Answers one request.
///
/// The engine's receivers live in this future, and later in the response's body. hyper drops
/// either when the peer closes the connection, and a dropped receiver ends its sequence.
///
/// # Errors
/// What the request is refused for, or why the engine failed before an answer began.
pub async fn answer(
    call: Call<'_>,
    operation: Operation,
    body: Bytes,
) -> Result<Response<ReplyBody>, ApiError> {
    let state = Arc::clone(call.state);
    let endpoint = match operation {
        Operation::TextCompletion => Endpoint::Completions,
        Operation::Chat | Operation::Embeddings => Endpoint::ChatCompletions,
    };
    let asker = Asker::read(call.headers, call.identity);
    let response = match prompt::prepare_aside(state, endpoint, asker, body).await? {
        Preparation::Own(own) => answer_own(call, operation, own).await,
        Preparation::Provided(provided) => provided::answer(call, operation, *provided).await,
        Preparation::Cascaded(cascaded) => cascade::answer(call, operation, *cascaded).await,
    };
    // Only an answer is billed: what was spent on a request that fails waits for the next one.
    Ok(reply::with_overhead(response?, call.overhead.bill()))
}

/// Answers what has been prepared, from the store or by the engine.
///
/// # Errors
/// Why the engine failed before an answer began.
pub async fn answer_own(
    call: Call<'_>,
    operation: Operation,
    own: Own,
) -> Result<Response<ReplyBody>, ApiError> {
    let mut prepared = match own {
        Own::Found(found) => {
            call.log_stored(operation, &found.model);
            return Ok(stored::answer(*found));
        }
        Own::Prepared(prepared) => *prepared,
    };
    let subject = semantic::Subject {
        request: &prepared.request,
        model: &prepared.model.id,
        reference: Reference::Own(Arc::clone(&prepared.model)),
        takes: &|_| true,
    };
    let eligible = prepared.eligible.take();
    let learning = match semantic::look_up(call, operation, eligible, subject).await {
        semantic::LookedUp::Found(response) => return Ok(*response),
        semantic::LookedUp::Missing(learning) => learning,
    };
    let keepers = Keepers {
        place: prepared.keep_at.take(),
        learning: learning.map(|learning| (learning, Arc::clone(call.state))),
    };
    answer_prepared(call, operation, prepared, keepers).await
}

/// Lets the engine answer.
///
/// # Errors
/// Why the engine failed before an answer began.
pub async fn answer_prepared(
    call: Call<'_>,
    operation: Operation,
    prepared: Prepared,
    keepers: Keepers,
) -> Result<Response<ReplyBody>, ApiError> {
    let endpoint = prepared.request.endpoint;
    let sources = submit(call, &prepared)?;
    let choices = usize::from(prepared.request.sampling.n);
    let model = prepared.model.id.as_str();
    let measure = call.measure(operation, model, choices * sources.len());
    let head = answer_head(call, endpoint, model);
    let shown = Shown {
        choices,
        logprobs: prepared.request.sampling.logprobs.is_some(),
        usage: prepared.request.include_usage,
    };
    let response = if prepared.request.stream {
        let writer = StreamWriter::new(endpoint, head, choices * sources.len());
        let stream = EventStream::open(sources, &prepared.echoes, writer, shown, measure).await?;
        let collecting = (!keepers.is_empty()).then(|| Collecting::new(keepers, endpoint));
        reply::events(stream.keeping(collecting))
    } else {
        let (choices, usage) = collect(sources, &prepared.echoes, shown, measure).await?;
        let bytes = response::answer(endpoint, &head, &choices, &usage);
        if !keepers.is_empty()
            && let Some(completed) = wire::parse_completed(endpoint, &bytes)
        {
            keepers.keep(&completed);
        }
        reply::json(bytes)
    };
    Ok(reply::from_model(response, model))
}

/// Queues every prompt. Where one is refused, those before it are dropped, which aborts them.
fn submit(
    call: Call<'_>,
    prepared: &Prepared,
) -> Result<Vec<UnboundedReceiver<EngineEvent>>, ApiError> {
    let confidence = match prepared.request.sampling.confidence {
        true => Confidence::Report,
        false => Confidence::Skip,
    };
    let prompts = prepared.prompts.iter();
    prompts
        .map(|prompt| engine_request(call, prepared, prompt, confidence))
        .map(|request| call.state.engine.submit(request))
        .collect()
}

/// What the engine is asked for one prompt.
pub fn engine_request(
    call: Call<'_>,
    prepared: &Prepared,
    prompt: &[u32],
    confidence: Confidence,
) -> GenerateRequest {
    GenerateRequest {
        model: prepared.model.id.clone(),
        prompt: prompt.to_vec(),
        sampling: prepared.request.sampling.clone(),
        tier: prepared.request.service_tier,
        grammar: prepared.grammar.clone(),
        confidence,
        max_tokens: prepared.max_tokens(prompt),
        min_tokens: prepared.request.min_tokens as usize,
        cache_salt: call.identity.cache_salt,
    }
}

/// What an answer begins with.
pub fn answer_head(call: Call<'_>, endpoint: Endpoint, model: &str) -> AnswerHead {
    let prefix = match endpoint {
        Endpoint::ChatCompletions => "chatcmpl",
        _ => "cmpl",
    };
    AnswerHead {
        id: call.state.salts.response_id(prefix),
        created_unix_s: now_unix_s(),
        model: model.to_owned(),
    }
}

/// Waits for every choice of every prompt; their order is OpenAI's: the prompt counts more.
async fn collect(
    sources: Vec<UnboundedReceiver<EngineEvent>>,
    echoes: &[String],
    shown: Shown,
    mut measure: Measure,
) -> Result<(Vec<Choice>, Usage), ApiError> {
    let mut choices = Vec::with_capacity(sources.len() * shown.choices);
    let mut total = Usage::default();
    for (prompt, mut source) in sources.into_iter().enumerate() {
        let echo = echoes.get(prompt).map_or("", String::as_str);
        let mut answers: Vec<_> = (0..shown.choices)
            .map(|_| Choice {
                text: echo.to_owned(),
                finish_reason: wire::FinishReason::Length,
                logprobs: shown.logprobs.then(Vec::new),
            })
            .collect();
        loop {
            match source.recv().await {
                Some(EngineEvent::Done { usage }) => {
                    add_usage(&mut total, usage);
                    break;
                }
                Some(EngineEvent::Failed(error)) => {
                    measure.failed();
                    return Err(error);
                }
                Some(event) => on_event(&mut answers, event, &mut measure),
                None => {
                    measure.failed();
                    return Err(thread_gone());
                }
            }
        }
        choices.append(&mut answers);
    }
    measure.completed(total);
    Ok((choices, total))
}

pub fn on_event(answers: &mut [Choice], event: EngineEvent, measure: &mut Measure) {
    match event {
        EngineEvent::Delta {
            choice,
            text,
            logprobs,
            ..
        } => {
            measure.token();
            if let Some(answer) = answers.get_mut(choice) {
                answer.text.push_str(&text);
                if let Some(tokens) = &mut answer.logprobs {
                    tokens.extend(logprobs);
                }
            }
        }
        EngineEvent::Finished { choice, reason } => {
            if let Some(answer) = answers.get_mut(choice) {
                answer.finish_reason = reason;
            }
        }
        EngineEvent::Prefilled { .. } | EngineEvent::Done { .. } | EngineEvent::Failed(_) => {}
    }
}

/// Adds one prompt's tokens to the request's.
pub fn add_usage(total: &mut Usage, usage: Usage) {
    total.prompt_tokens += usage.prompt_tokens;
    total.completion_tokens += usage.completion_tokens;
    total.cached_tokens += usage.cached_tokens;
}
