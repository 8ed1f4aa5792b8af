//! Which model answers? Rules first (a pinned model, tools, images, schemas, context), then, among
//! the models that remain, what a dear one would gain, against the configured shares or prices. The
//! result is an index into the configuration, never text of the prompt.

mod choice;
mod gain;
mod needs;

pub use gain::{
    FEATURE_NAMES, FEATURES, Gain, GainCalibration, GainCalibrationError, Head, Measured, features,
    gain,
};

use crate::budget::Pressure;
use crate::config::{Config, Model, ModelIndex, VirtualModel};
use crate::error::{ApiError, ErrorKind};
use crate::wire::{Endpoint, Request};

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Route {
    pub model: ModelIndex,
    /// Stands for what the client asked for, when savings are counted: the pinned model, or the
    /// dearest of a virtual one.
    pub as_asked: ModelIndex,
    pub reason: Reason,
    /// The rank of its gain, from 0 to 1, where it was needed.
    pub complexity: Option<f64>,
    /// Completion tokens that the upstream may generate for each choice.
    pub max_tokens: u32,
    /// Estimated tokens of the prompt, for the chosen model.
    pub prompt_tokens: u64,
}

/// Why this model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The client named it.
    Pinned,
    /// The only one of its list that the request is likely to fit, or the one with the most
    /// context where that is uncertain for all.
    OnlyFit,
    /// By what the request gains from a dear model.
    Complexity,
    /// A cheaper one than that, because the budget runs low.
    Budget,
    /// The arm of a split names it.
    Split,
    /// The dearest of a list, because routing only records here.
    Shadow,
    /// The one that its conversation went to before, whose prompt cache saves more than a cheaper
    /// model would.
    Sticky,
}

impl Reason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Pinned => "pinned",
            Reason::OnlyFit => "only_fit",
            Reason::Complexity => "complexity",
            Reason::Budget => "budget",
            Reason::Split => "split",
            Reason::Shadow => "shadow",
            Reason::Sticky => "sticky",
        }
    }
}

/// What is routed.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    pub request: &'a Request,
    /// The name of the model that is asked for: the request's, or another that its route asks
    /// instead.
    pub model: &'a str,
    /// Most completion tokens that a client's wish gets.
    pub cap: u32,
}

impl<'a> Wish<'a> {
    /// A request as it is.
    pub fn of(config: &Config, request: &'a Request) -> Wish<'a> {
        Wish {
            request,
            model: &request.model,
            cap: config.max_tokens.cap,
        }
    }
}

/// Chooses the model of a request. The prompt has at least `prompt_tokens_min` tokens for any
/// model, and `prompt_tokens` estimates it for one. An estimate chooses among models but refuses
/// nothing: the upstream counts exactly. Under `pressure` a dear model must gain more than usual.
///
/// # Errors
/// `ModelNotFound` for a name that is not configured, `InvalidValue` for tools, images or a schema
/// that no candidate takes, `ContextLengthExceeded` when even the shortest that the prompt may be
/// does not fit any candidate with the wished completion.
pub fn route(
    config: &Config,
    wish: &Wish<'_>,
    pressure: Pressure,
    prompt_tokens_min: u64,
    mut prompt_tokens: impl FnMut(ModelIndex) -> u64,
) -> Result<Route, ApiError> {
    let request = wish.request;
    let candidates = Candidates::of(config, wish.model)?;
    let as_asked = Candidates::of(config, &request.model)?.as_asked();
    let able = candidates.able(config, wish)?;
    let possible: Vec<Fit> = able
        .iter()
        .filter_map(|&(position, index)| {
            let model = config.model(index)?;
            let completion = Completion::of(config, wish);
            let estimate = prompt_tokens(index);
            completion.fits(model, prompt_tokens_min).then(|| Fit {
                position,
                index,
                context_tokens: model.context_tokens,
                likelihood: completion.likelihood(model, estimate),
                max_tokens: completion.max_tokens(model, estimate),
                prompt_tokens: estimate,
            })
        })
        .collect();
    let fitting = likely_or_largest(&possible);
    let gain = (fitting.len() > 1).then(|| gain(&config.calibration, request));
    let fit = match (&candidates, gain) {
        (Candidates::Listed(listed), Some(gain)) => {
            choice::choose(config, listed, &fitting, gain, pressure, request)
        }
        _ => fitting.first().copied(),
    };
    let Some(fit) = fit else {
        return Err(too_long(config, &able, wish));
    };
    let reason = match (&candidates, gain) {
        (Candidates::Pinned(_), _) if wish.model != request.model => Reason::Split,
        (Candidates::Pinned(_), _) => Reason::Pinned,
        (_, None) => Reason::OnlyFit,
        (_, Some(_)) => Reason::Complexity,
    };
    Ok(Route {
        model: fit.index,
        as_asked: as_asked.unwrap_or(fit.index),
        reason,
        complexity: gain.map(|gain| gain.rank),
        max_tokens: fit.max_tokens,
        prompt_tokens: fit.prompt_tokens,
    })
}

/// A candidate that can take the request.
struct Fit {
    position: usize,
    index: ModelIndex,
    context_tokens: u32,
    likelihood: Likelihood,
    max_tokens: u32,
    prompt_tokens: u64,
}

/// Does a request fit by its estimate?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Likelihood {
    Likely,
    Uncertain,
}

/// Those that the request is likely to fit; where there is none, the one with the most context.
fn likely_or_largest(possible: &[Fit]) -> Vec<&Fit> {
    let likely: Vec<&Fit> = possible
        .iter()
        .filter(|fit| fit.likelihood == Likelihood::Likely)
        .collect();
    if !likely.is_empty() {
        return likely;
    }
    possible
        .iter()
        .max_by_key(|fit| fit.context_tokens)
        .into_iter()
        .collect()
}

/// What the requested name stands for.
enum Candidates<'a> {
    Pinned(ModelIndex),
    /// It has members.
    Listed(&'a VirtualModel),
}

impl<'a> Candidates<'a> {
    fn of(config: &'a Config, name: &str) -> Result<Candidates<'a>, ApiError> {
        if let Some(index) = config.find_model(name) {
            return Ok(Candidates::Pinned(index));
        }
        if let Some(listed) = config.find_virtual(name)
            && !listed.members.is_empty()
        {
            return Ok(Candidates::Listed(listed));
        }
        let message = format!("the model \"{name}\" does not exist");
        Err(ApiError::new(ErrorKind::ModelNotFound, message).param("model"))
    }

    /// Those that can take what the request needs, each with its position in the list.
    fn able(&self, config: &Config, wish: &Wish<'_>) -> Result<Vec<(usize, ModelIndex)>, ApiError> {
        let mut able: Vec<_> = self.members().iter().copied().enumerate().collect();
        for need in needs::of(wish.request) {
            able.retain(|(_, index)| config.model(*index).is_some_and(|model| need.is_met(model)));
            if able.is_empty() {
                return Err(need.refusal(wish.model));
            }
        }
        Ok(able)
    }

    fn members(&self) -> &[ModelIndex] {
        match self {
            Candidates::Pinned(index) => std::slice::from_ref(index),
            Candidates::Listed(listed) => &listed.members,
        }
    }

    /// The pinned model, or the dearest of a list.
    fn as_asked(&self) -> Option<ModelIndex> {
        self.members().last().copied()
    }
}

/// Part of a prompt by which its estimate may be short of it: our own default leaves it free.
const ESTIMATE_SLACK_DIVISOR: u64 = 8;

/// The completion tokens of each choice.
#[derive(Clone, Copy)]
enum Completion {
    /// A client's wish, capped and never lowered further.
    Wished(u32),
    /// Our own default, which shrinks into what room there is.
    Default(u32),
    /// Embeddings generate no tokens.
    Nothing,
}

impl Completion {
    fn of(config: &Config, wish: &Wish<'_>) -> Completion {
        match wish.request.max_tokens {
            _ if wish.request.endpoint == Endpoint::Embeddings => Completion::Nothing,
            Some(tokens) => Completion::Wished(tokens.min(wish.cap)),
            None => Completion::Default(config.max_tokens.default),
        }
    }

    /// Would a prompt of so many tokens fit a model together with the completion?
    fn fits(self, model: &Model, prompt_tokens: u64) -> bool {
        let least = match self {
            Completion::Wished(wish) => wish,
            Completion::Default(_) => 1,
            Completion::Nothing => 0,
        };
        prompt_tokens.saturating_add(u64::from(least)) <= u64::from(model.context_tokens)
    }

    fn likelihood(self, model: &Model, prompt_tokens: u64) -> Likelihood {
        if self.fits(model, prompt_tokens) {
            Likelihood::Likely
        } else {
            Likelihood::Uncertain
        }
    }

    /// What to ask the model for, with a prompt of about so many tokens.
    fn max_tokens(self, model: &Model, prompt_tokens: u64) -> u32 {
        match self {
            Completion::Wished(wish) => wish,
            Completion::Nothing => 0,
            Completion::Default(default) => {
                let slack = prompt_tokens
                    .checked_div(ESTIMATE_SLACK_DIVISOR)
                    .unwrap_or(0);
                let room = u64::from(model.context_tokens)
                    .saturating_sub(prompt_tokens.saturating_add(slack))
                    .max(1);
                default.min(u32::try_from(room).unwrap_or(u32::MAX))
            }
        }
    }
}

fn too_long(config: &Config, able: &[(usize, ModelIndex)], asked: &Wish<'_>) -> ApiError {
    let context = able
        .iter()
        .filter_map(|(_, index)| config.model(*index))
        .map(|model| model.context_tokens)
        .max()
        .unwrap_or(0);
    let wish = match asked.request.max_tokens {
        Some(wish) => format!(" with {} completion tokens", wish.min(asked.cap)),
        None => String::new(),
    };
    let message =
        format!("the prompt{wish} does not fit the context of {context} tokens; shorten it");
    ApiError::new(ErrorKind::ContextLengthExceeded, message)
        .param(asked.request.endpoint.prompt_field())
}
