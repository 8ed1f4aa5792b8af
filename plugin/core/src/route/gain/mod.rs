//! How much would a dear model gain on this request? Two logistic heads over lexical features: the
//! chance that it is right where the cheap one is wrong, less the chance of the reverse. What asks
//! for hard work but is answered as well by the cheap model gains nothing.

mod calibration;
mod exp;
mod features;
mod lexicon;
mod reader;

pub use calibration::{GainCalibration, GainCalibrationError, Head, Measured};
pub use features::{FEATURE_NAMES, FEATURES, features};

use crate::wire::{Message, Prompt, Request, Role};

/// What a dear model is expected to gain on one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    /// How much more often it is right.
    pub value: f64,
    /// The share of the calibration's prompts that gain less.
    pub rank: f64,
}

/// The gain of a request: of the last user message (or the first prompt), and a little of the
/// system text.
pub fn gain(calibration: &GainCalibration, request: &Request) -> Gain {
    let (question, system) = match &request.prompt {
        Prompt::Messages(messages) => (last_user(messages), system_text(messages)),
        Prompt::Text(texts) => (texts.first().map_or("", String::as_str), ""),
        // Token ids say nothing to us; a request in this form is taken for a middling one.
        Prompt::Tokens(_) => {
            let middle = calibration.quantiles.len() / 2;
            let value = calibration.quantiles.get(middle).copied().unwrap_or(0.0);
            return Gain { value, rank: 0.5 };
        }
    };
    let system = match system {
        "" => [0.0; FEATURES],
        text => features(text.as_bytes()),
    };
    let value = calibration.gain(&features(question.as_bytes()), &system);
    let rank = calibration.rank(value);
    Gain { value, rank }
}

fn last_user(messages: &[Message]) -> &str {
    let user = messages
        .iter()
        .rev()
        .find(|message| message.role == Role::User);
    user.or(messages.last())
        .map_or("", |message| message.content.as_str())
}

fn system_text(messages: &[Message]) -> &str {
    messages
        .iter()
        .find(|message| matches!(message.role, Role::System | Role::Developer))
        .map_or("", |message| message.content.as_str())
}
