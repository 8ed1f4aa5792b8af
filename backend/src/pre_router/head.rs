//! One logistic regression.

use serde::{Deserialize, Serialize};

/// The log-odds of something, linear in a row of numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub bias: f32,
    pub weights: Vec<f32>,
}

impl Head {
    pub(super) fn probability(&self, row: &[f32]) -> f32 {
        let terms = self.weights.iter().zip(row);
        let logit = self.bias + terms.map(|(weight, x)| weight * x).sum::<f32>();
        1.0 / (1.0 + (-logit).exp())
    }
}
