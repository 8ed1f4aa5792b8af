//! How many tokens one prompt has, for each model that may answer it: counted where the model's
//! vocabulary is loaded, else estimated. Each vocabulary counts once, and the estimate is made only
//! where one is needed.

use super::{Calibration, Count};
use crate::config::{Config, ModelIndex};
use crate::vocabulary::Counted;
use crate::vocabulary::loading::Vocabularies;
use crate::wire::Request;

/// The length of one prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptTokens {
    /// What the models' own vocabularies counted.
    exact: Vec<(ModelIndex, u64)>,
    /// For the other models; `None` if there are none.
    estimate: Option<Count>,
}

/// How the length of a prompt is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The model's own vocabulary counted so many.
    Exact(u64),
    /// From the sums by class of byte, which usage corrects.
    Estimated(Count),
}

impl Basis {
    /// Its word in `x-farthing-tokens`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Basis::Exact(_) => "exact",
            Basis::Estimated(_) => "estimated",
        }
    }
}

impl PromptTokens {
    /// For the models that the requested name stands for.
    pub fn of(config: &Config, vocabularies: &mut Vocabularies, request: &Request) -> PromptTokens {
        let mut tokens = PromptTokens::default();
        tokens.count(config, vocabularies, request);
        tokens
    }

    /// The estimate alone, for decisions that may make the count unnecessary:
    /// [`PromptTokens::count`] makes up for it.
    pub fn estimated(request: &Request) -> PromptTokens {
        PromptTokens {
            exact: Vec::new(),
            estimate: Some(Count::of_request(request)),
        }
    }

    /// Counts what the models' vocabularies can count, and estimates where none can.
    pub fn count(&mut self, config: &Config, vocabularies: &mut Vocabularies, request: &Request) {
        let named = config.find_model(&request.model);
        let listed = config.find_virtual(&request.model);
        let listed = listed.map_or(&[][..], |listed| &listed.members);
        let mut counted: Vec<(usize, Option<u64>)> = Vec::new();
        let mut is_whole = true;
        vocabularies.begin();
        self.exact.clear();
        for &model in named.iter().chain(listed) {
            let exact = vocabularies.of_model(model).and_then(|position| {
                let known = counted.iter().find(|(known, _)| *known == position);
                if let Some((_, known)) = known {
                    return *known;
                }
                let exact = count(config, vocabularies, position, request);
                counted.push((position, exact));
                exact
            });
            match exact {
                Some(exact) => self.exact.push((model, exact)),
                None => is_whole = false,
            }
        }
        if self.estimate.is_none() && (!is_whole || self.exact.is_empty()) {
            self.estimate = Some(Count::of_request(request));
        }
    }

    /// For one model; `calibration` corrects an estimate.
    pub fn tokens(&self, model: ModelIndex, calibration: &Calibration) -> u64 {
        match self.basis(model) {
            Basis::Exact(tokens) => tokens,
            Basis::Estimated(count) => calibration.tokens(&count),
        }
    }

    /// What is to be reserved for it.
    pub fn tokens_max(&self, model: ModelIndex, calibration: &Calibration) -> u64 {
        match self.basis(model) {
            Basis::Exact(tokens) => tokens,
            Basis::Estimated(count) => calibration.tokens_max(&count),
        }
    }

    /// At least, for every one of the models.
    pub fn tokens_min(&self) -> u64 {
        let exact = self.exact.iter().map(|(_, tokens)| *tokens);
        let least = self.estimate.as_ref().map(Count::tokens_min);
        exact.chain(least).min().unwrap_or(0)
    }

    /// How the length is known for one model. Any other than those it was asked for gets the count
    /// of one of them.
    pub fn basis(&self, model: ModelIndex) -> Basis {
        let own = self.exact.iter().find(|(counted, _)| *counted == model);
        match (own, self.estimate, self.exact.first()) {
            (Some((_, tokens)), _, _) => Basis::Exact(*tokens),
            (None, Some(estimate), _) => Basis::Estimated(estimate),
            (None, None, Some((_, tokens))) => Basis::Exact(*tokens),
            (None, None, None) => Basis::Estimated(Count::default()),
        }
    }
}

/// What a vocabulary counts. A prompt beyond the largest context that it could have fitted counts
/// as one token more than that.
fn count(
    config: &Config,
    vocabularies: &mut Vocabularies,
    position: usize,
    request: &Request,
) -> Option<u64> {
    let models = (0..).map(ModelIndex).zip(&config.models);
    let alike = models.filter(|(index, _)| vocabularies.of_model(*index) == Some(position));
    let context = alike
        .map(|(_, model)| u64::from(model.context_tokens))
        .max();
    let limit = context.unwrap_or(0);
    match vocabularies.count(position, request, limit) {
        Counted::Exactly(tokens) => Some(tokens),
        Counted::Over => Some(limit.saturating_add(1)),
        Counted::Unknown => None,
    }
}
