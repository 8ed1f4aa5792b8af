//! The pre-router: before a prompt is answered, how much more often would a strong model be right
//! than a weak one? Two heads over the prompt's embedding and its features say how likely the
//! strong one is right where the weak one is wrong, and the reverse; similar prompts whose outcome
//! is known have a fifth of the say. A prompt that is unlike all of those is said to be unknown.
//!
//! Pure but for [`PreRouter::load`]; [`crate::calibrate`] learns it and measures it on prompts that
//! it has not seen.

mod features;
mod file;
mod fold;
mod head;
mod near;
mod training;

pub use file::{Measured, PreRouter};
pub use training::{Example, Parts, Training};

/// What is expected of two models on one prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain {
    /// How much more often the strong model is right, from -1 to 1: P(strong right, weak wrong)
    /// less P(weak right, strong wrong). Below 0 the weak one is the better.
    pub value: f32,
    /// The share of the calibration's prompts that gain less, from 0 up to but without 1.
    pub rank: f32,
    pub p_weak_right: f32,
    pub p_strong_right: f32,
    /// Whether any known prompt is near. If not, the value is a guess by the words alone, and
    /// better not acted on.
    pub is_known: bool,
}
