//! How hard is a request? A squashed, weighted sum of lexical features, from 0 to 1. The weights
//! are a documented prior, not a trained model: each feature saturates, so that no single one and
//! no amount of padding decides alone. Only the four operations of IEEE 754 are used, because `exp`
//! and `log2` may differ in the last bit between wasm and native, and both must decide alike.

use super::features::Features;
use crate::wire::{Message, Prompt, Request, Role};

/// `(weight, saturates at)` of each feature; the sum passes through [`squash`].
const BIAS: f64 = -2.3;
/// On the binary logarithm of distinct words: length alone says little.
const WORDS: (f64, f64) = (0.12, 6.0);
const NUMBERS: (f64, f64) = (0.30, 5.0);
const LARGE_NUMBER: f64 = 0.25;
const RECKONING: (f64, f64) = (0.32, 4.0);
const REASONING: (f64, f64) = (0.75, 3.0);
const CONSTRAINTS: (f64, f64) = (0.25, 4.0);
const CODE: (f64, f64) = (0.40, 5.0);
/// On the binary logarithm of one more than the count.
const SYMBOLS: (f64, f64) = (0.20, 5.0);
const OPTIONS: (f64, f64) = (0.15, 4.0);
const SIMPLE: (f64, f64) = (-0.55, 2.0);

/// The system text frames every request of an application alike, so it weighs less.
const SYSTEM_WEIGHT: f64 = 0.25;
/// A number beyond this is rarely reckoned with in the head.
const LARGE: f64 = 100.0;

/// The complexity of a request: of the last user message (or the first prompt), and a little of
/// the system text.
pub fn complexity(request: &Request) -> f64 {
    let (question, system) = match &request.prompt {
        Prompt::Messages(messages) => (last_user(messages), system_text(messages)),
        Prompt::Text(texts) => (texts.first().map_or("", String::as_str), ""),
        // Token ids say nothing to us; a request in this form is taken for a middling one.
        Prompt::Tokens(_) => return 0.5,
    };
    let sum = BIAS
        + weigh(&Features::of(question.as_bytes()))
        + SYSTEM_WEIGHT * weigh(&Features::of(system.as_bytes()));
    squash(sum)
}

/// From any number to 0..1, with 0 in the middle: the softsign, a logistic without `exp`.
fn squash(sum: f64) -> f64 {
    0.5 + 0.5 * sum / (1.0 + sum.abs())
}

/// The binary logarithm of `count + 1`, straight between powers of two.
fn log2_of_next(count: f64) -> f64 {
    let next = count as u64 + 1;
    let whole = next.ilog2();
    let power = (1u64 << whole) as f64;
    f64::from(whole) + (next as f64 - power) / power
}

fn weigh(features: &Features) -> f64 {
    let saturating = |(weight, most): (f64, f64), value: f64| weight * value.min(most);
    let large = if features.number_max > LARGE {
        LARGE_NUMBER
    } else {
        0.0
    };
    saturating(WORDS, log2_of_next(features.words))
        + saturating(NUMBERS, features.numbers)
        + large
        + saturating(RECKONING, features.reckoning)
        + saturating(REASONING, features.reasoning)
        + saturating(CONSTRAINTS, features.constraints)
        + saturating(CODE, features.code)
        + saturating(SYMBOLS, log2_of_next(features.symbols))
        + saturating(OPTIONS, features.options)
        + saturating(SIMPLE, features.simple)
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
