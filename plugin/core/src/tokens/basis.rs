//! What is known of a prompt's length, and how.

use super::Count;

/// The length of one prompt for the model that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptCount {
    /// Tokens to reserve for it.
    pub most: u64,
    pub basis: Basis,
}

/// How a length is known.
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
