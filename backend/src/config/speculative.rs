//! Guessing tokens ahead (`speculative:`).

use farthing_core::limits;
use serde::{Deserialize, Serialize};

use super::at_most;
use crate::engine::{LookupUse, Speculation};
use crate::error::BackendError;

/// How tokens are guessed ahead. Which model guesses for which is said at the model
/// (`models[].draft_model`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpeculativeConfig {
    /// Whether to look up how the last tokens went on the time before.
    pub lookup: bool,
    /// Tokens guessed for one sequence in one step at most; 0 turns all guessing off.
    pub tokens: usize,
}

impl Default for SpeculativeConfig {
    fn default() -> Self {
        let speculation = Speculation::default();
        SpeculativeConfig {
            lookup: speculation.lookup == LookupUse::On,
            tokens: speculation.tokens_max,
        }
    }
}

impl SpeculativeConfig {
    /// As the engine takes it.
    pub fn engine(self) -> Speculation {
        Speculation {
            tokens_max: self.tokens,
            lookup: match self.lookup {
                true => LookupUse::On,
                false => LookupUse::Off,
            },
        }
    }

    pub(super) fn check_bounds(self) -> Result<(), BackendError> {
        at_most(
            "speculative.tokens",
            self.tokens as u64,
            limits::ENGINE_DRAFT_TOKENS_MAX as u64,
        )
    }
}
