//! From a request's bytes to prompts in tokens: parse, resolve the model, refuse what it cannot do,
//! render, tokenize, and check the length against the context.

use std::sync::Arc;

use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::limits;
use farthing_core::wire::{self, Endpoint, Prompt, Request};
use hyper::body::Bytes;
use tokio::task::JoinHandle;

use super::State;
use super::cascade::{self, Cascaded};
use super::provided::{self, Provided};
use super::semantic::Eligible;
use super::state::ServedBy;
use super::stored::{self, Asker, Found, LookedUp, Place};
use crate::model::ModelInfo;
use crate::text::{ChatPrompt, GenerationPrompt, Grammar, Specials, no_chat_template};

/// A request that the engine can take.
pub struct Prepared {
    /// The request as it was parsed.
    pub request: Request,
    /// The model that answers; for a virtual name, the first of its list.
    pub model: Arc<ModelInfo>,
    /// One list of tokens a prompt, each shorter than the context.
    pub prompts: Vec<Vec<u32>>,
    /// What is repeated before each prompt's answer; empty unless `echo` was asked.
    pub echoes: Vec<String>,
    /// What the answer is held to.
    pub grammar: Option<Grammar>,
    /// Where its answer may be kept.
    pub keep_at: Option<Place>,
    /// What the semantic cache compares it by.
    pub eligible: Option<Box<Eligible>>,
    max_tokens: usize,
}

/// What a request's bytes lead to.
pub enum Preparation {
    /// We answer it.
    Own(Own),
    /// Others serve the model.
    Provided(Box<Provided>),
    /// Several models may answer.
    Cascaded(Box<Cascaded>),
}

/// A request that we answer.
pub enum Own {
    /// It has been answered before.
    Found(Box<Found>),
    Prepared(Box<Prepared>),
}

impl Prepared {
    /// How much to generate for `prompt`: what was asked or the default, within the context.
    pub fn max_tokens(&self, prompt: &[u32]) -> usize {
        self.max_tokens
            .min(self.model.context_tokens.saturating_sub(prompt.len()))
    }
}

/// Work on another thread that is called off when nobody waits for it any more. Work that has
/// begun cannot be interrupted and runs to its end.
struct Awaited<T>(JoinHandle<T>);

impl<T> Drop for Awaited<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads a request on the threads for prompts: tokenizing a long one, or finding an old answer on
/// the disk, takes milliseconds, which the threads that move bytes do not have.
///
/// # Errors
/// As [`prepare`], and `Overloaded` when `PROMPT_QUEUE_MAX` prompts are already there.
pub async fn prepare_aside(
    state: Arc<State>,
    endpoint: Endpoint,
    asker: Asker,
    body: Bytes,
) -> Result<Preparation, ApiError> {
    let shared = Arc::clone(&state);
    aside(&state, move || prepare(&shared, endpoint, &asker, &body)).await
}

/// Does work on the threads for prompts.
///
/// # Errors
/// Those of the work, and `Overloaded` when `PROMPT_QUEUE_MAX` prompts are already there.
pub async fn aside<T: Send + 'static>(
    state: &State,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let Ok(place) = Arc::clone(&state.prompt_places).try_acquire_owned() else {
        let message = "too many prompts are waiting to be tokenized";
        return Err(ApiError::new(ErrorKind::Overloaded, message)
            .retry_after_s(limits::PROMPT_RETRY_AFTER_S));
    };
    // The place goes with the work and not with the client, who may leave while it is done.
    let mut work = Awaited(tokio::task::spawn_blocking(move || {
        let done = work();
        drop(place);
        done
    }));
    (&mut work.0).await.unwrap_or_else(|_| {
        let message = "preparing the prompt failed";
        Err(ApiError::new(ErrorKind::Internal, message))
    })
}

/// Reads a request.
///
/// # Errors
/// What [`wire::parse`] refuses, `ModelNotFound`, `InvalidValue` for what is not supported,
/// `Overloaded` while the engine's queue is full, and `ContextLengthExceeded`.
fn prepare(
    state: &State,
    endpoint: Endpoint,
    asker: &Asker,
    body: &[u8],
) -> Result<Preparation, ApiError> {
    let request = wire::parse(endpoint, body)?;
    let served = state.served_by(&request.model)?;
    prepare_for(state, asker, request, served)
}

/// Makes a request ready for those who serve it.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_for(
    state: &State,
    asker: &Asker,
    request: Request,
    served: ServedBy<'_>,
) -> Result<Preparation, ApiError> {
    match served {
        ServedBy::Cascade(cascade) => cascade::prepare(state, asker, request, cascade),
        ServedBy::Engine(model) => {
            let model = Arc::clone(model);
            prepare_own(state, asker, request, model).map(Preparation::Own)
        }
        ServedBy::Provider(model) => provided::prepare(state, asker, request, model),
    }
}

/// Makes a request ready for a model of our own.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_own(
    state: &State,
    asker: &Asker,
    request: Request,
    model: Arc<ModelInfo>,
) -> Result<Own, ApiError> {
    refuse_unsupported(&request)?;
    let keep_at = match stored::look_up(state, asker, &request, &model.id) {
        LookedUp::Found(found) => return Ok(Own::Found(found)),
        LookedUp::Missing(place) => place,
    };
    let eligible = Eligible::of(state, asker, &request, &model.id);
    let prepared = encode_own(state, request, model)?;
    Ok(Own::Prepared(Box::new(Prepared {
        keep_at,
        eligible,
        ..prepared
    })))
}

/// Makes a request ready for a model of our own, whatever has been kept of such.
///
/// # Errors
/// `InvalidValue` for what is not supported, `Overloaded` while the engine's queue is full, and
/// `ContextLengthExceeded`.
pub fn encode_own(
    state: &State,
    request: Request,
    model: Arc<ModelInfo>,
) -> Result<Prepared, ApiError> {
    encode_with(state, request, model, None)
}

/// The same, with the prompts in tokens where they are known already.
///
/// # Errors
/// As [`encode_own`].
pub fn encode_with(
    state: &State,
    request: Request,
    model: Arc<ModelInfo>,
    known: Option<Vec<Vec<u32>>>,
) -> Result<Prepared, ApiError> {
    refuse_unsupported(&request)?;
    let endpoint = request.endpoint;
    // Before the costly part, so that an overload is refused at once.
    state.engine.check_room(request.service_tier)?;
    let form = request.answer_form()?;
    let grammar = match &form {
        Some(form) => Some(model.grammars.compile(form)?),
        None => None,
    };
    let prompts = match known {
        Some(prompts) => prompts,
        None => encode(&request.prompt, &model)?,
    };
    for prompt in &prompts {
        check_length(endpoint, prompt.len(), &model)?;
    }
    let echoes = if request.echo {
        echoes(&request.prompt, &prompts, &model)
    } else {
        Vec::new()
    };
    let default = state.config.max_tokens_default.get();
    let max_tokens = request.max_tokens.unwrap_or(default) as usize;
    Ok(Prepared {
        request,
        model,
        prompts,
        echoes,
        grammar,
        keep_at: None,
        eligible: None,
        max_tokens,
    })
}

/// Refused by name, never ignored: an ignored field is a wrong answer that nobody notices.
pub fn refuse_unsupported(request: &Request) -> Result<(), ApiError> {
    let refused = if let Some(path) = &request.images.first {
        Some((path.as_str(), "this model does not see images; send text"))
    } else if request.tools {
        Some((
            "tools",
            "this model does not call tools; leave out tools and functions",
        ))
    } else if request.echo && request.sampling.logprobs.is_some() {
        Some((
            "logprobs",
            "echo does not come with log probabilities of the prompt",
        ))
    } else {
        None
    };
    match refused {
        Some((param, message)) => Err(ApiError::new(ErrorKind::InvalidValue, message).param(param)),
        None => Ok(()),
    }
}

fn check_length(endpoint: Endpoint, tokens: usize, model: &ModelInfo) -> Result<(), ApiError> {
    if tokens < model.context_tokens {
        return Ok(());
    }
    let message = format!(
        "the prompt has {tokens} tokens, but {} takes {} tokens of prompt and answer together",
        model.id, model.context_tokens
    );
    Err(ApiError::new(ErrorKind::ContextLengthExceeded, message).param(endpoint.prompt_field()))
}

fn encode(prompt: &Prompt, model: &ModelInfo) -> Result<Vec<Vec<u32>>, ApiError> {
    let tokenizer = &model.tokenizer;
    match prompt {
        Prompt::Messages(messages) => {
            let Some(template) = &model.chat_template else {
                return Err(no_chat_template(&model.id));
            };
            let prompt = ChatPrompt {
                messages,
                tools: None,
                generation_prompt: GenerationPrompt::Add,
            };
            Ok(vec![tokenizer.encode_chat(template, &prompt)?])
        }
        // A bare prompt is the client's own from end to end, so its special tokens are its choice:
        // this is how a chat with a template of one's own is written.
        Prompt::Text(texts) => Ok(texts
            .iter()
            .map(|text| tokenizer.encode_prompt(text, Specials::Parse))
            .collect()),
        Prompt::Tokens(lists) => Ok(lists.clone()),
    }
}

fn echoes(prompt: &Prompt, tokens: &[Vec<u32>], model: &ModelInfo) -> Vec<String> {
    match prompt {
        Prompt::Text(texts) => texts.clone(),
        Prompt::Messages(_) | Prompt::Tokens(_) => {
            let text = |ids: &Vec<u32>| model.tokenizer.decode(ids);
            tokens
                .iter()
                .map(|ids| String::from_utf8_lossy(&text(ids)).into_owned())
                .collect()
        }
    }
}
