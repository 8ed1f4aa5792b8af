//! How many tokens the prompt of one request has, for each model that may answer it: counted where
//! the model's vocabulary is loaded, else estimated. Each vocabulary counts once, and the estimate
//! is made only where one is needed.

use crate::config::{Config, ModelIndex};
use crate::tokens::{Basis, Calibration, Count, PromptCount};
use crate::vocabulary::Counted;
use crate::vocabulary::loading::Vocabularies;
use crate::wire::Request;

pub(super) struct PromptTokens<'a> {
    pub config: &'a Config,
    pub vocabularies: &'a mut Vocabularies,
    /// One for each model.
    pub calibrations: &'a [Calibration],
    pub request: &'a Request,
    estimate: Option<Count>,
    /// By position of the vocabulary.
    counted: Vec<(usize, Option<u64>)>,
}

impl<'a> PromptTokens<'a> {
    pub(super) fn new(
        config: &'a Config,
        vocabularies: &'a mut Vocabularies,
        calibrations: &'a [Calibration],
        request: &'a Request,
    ) -> PromptTokens<'a> {
        PromptTokens {
            config,
            vocabularies,
            calibrations,
            request,
            estimate: None,
            counted: Vec::new(),
        }
    }

    /// For one model.
    pub(super) fn of(&mut self, model: ModelIndex) -> u64 {
        match self.exact(model) {
            Some(tokens) => tokens,
            None => self.calibration(model).tokens(self.estimate()),
        }
    }

    /// At least, for every model that the requested name stands for.
    pub(super) fn least(&mut self) -> u64 {
        let named = self.config.find_model(&self.request.model);
        let listed = self.config.find_virtual(&self.request.model);
        let listed = listed.map_or(&[][..], |listed| &listed.members);
        let least = named
            .iter()
            .chain(listed)
            .map(|model| match self.exact(*model) {
                Some(tokens) => tokens,
                None => self.estimate().tokens_min(),
            });
        least.min().unwrap_or(0)
    }

    /// What is known of the prompt once its model is chosen.
    pub(super) fn chosen(mut self, model: ModelIndex) -> PromptCount {
        match self.exact(model) {
            Some(tokens) => PromptCount {
                most: tokens,
                basis: Basis::Exact(tokens),
            },
            None => {
                let calibration = self.calibration(model);
                let estimate = *self.estimate();
                PromptCount {
                    most: calibration.tokens_max(&estimate),
                    basis: Basis::Estimated(estimate),
                }
            }
        }
    }

    /// What the model's vocabulary counts. A prompt beyond the largest context that it could have
    /// fitted counts as one token more than that.
    fn exact(&mut self, model: ModelIndex) -> Option<u64> {
        let position = self.vocabularies.of_model(model)?;
        if let Some((_, known)) = self.counted.iter().find(|(known, _)| *known == position) {
            return *known;
        }
        let limit = self.largest_context(position);
        let counted = match self.vocabularies.count(position, self.request, limit) {
            Counted::Exactly(tokens) => Some(tokens),
            Counted::Over => Some(limit.saturating_add(1)),
            Counted::Unknown => None,
        };
        self.counted.push((position, counted));
        counted
    }

    fn largest_context(&self, position: usize) -> u64 {
        let models = (0..).zip(&self.config.models);
        let alike = models
            .filter(|(index, _)| self.vocabularies.of_model(ModelIndex(*index)) == Some(position));
        let contexts = alike.map(|(_, model)| u64::from(model.context_tokens));
        contexts.max().unwrap_or(0)
    }

    fn estimate(&mut self) -> &Count {
        let request = self.request;
        self.estimate
            .get_or_insert_with(|| Count::of_request(request))
    }

    fn calibration(&self, model: ModelIndex) -> Calibration {
        self.calibrations.get(model.0).copied().unwrap_or_default()
    }
}
