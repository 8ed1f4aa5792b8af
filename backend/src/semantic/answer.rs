//! Answers of the model: which may be kept for other questions, and when two of them say the same.

use farthing_core::wire::{Completed, Json};

use super::index::Quantized;
use super::signature::Signature;
use super::words::Knows;

/// How an answer ends that says all it had to say.
const COMPLETE: &str = "stop";

/// Least cosine of two answers that say the same.
const SAME_COSINE_MIN: f32 = 0.85;

/// Beginnings of answers that refuse.
const REFUSALS: &[&str] = &[
    "i'm sorry, but i can",
    "i am sorry, but i can",
    "i'm sorry, i can",
    "sorry, but i can",
    "sorry, i can",
    "i can't help",
    "i cannot help",
    "i can't assist",
    "i cannot assist",
    "i'm unable to",
    "i am unable to",
    "i'm not able to",
    "as an ai",
];

/// The text of an answer that may be given to others: one choice, complete, no call of a tool, no
/// refusal.
pub fn reusable_text(completed: &Completed) -> Option<&str> {
    let [choice] = completed.choices() else {
        return None;
    };
    let message = choice.get("message")?;
    let refused = message
        .get("refusal")
        .is_some_and(|refusal| !refusal.is_null());
    let reason = choice.get("finish_reason").and_then(Json::as_str);
    if completed.calls_tools() || refused || reason != Some(COMPLETE) {
        return None;
    }
    let text = message.get("content").and_then(Json::as_str)?;
    let lower = text.trim().to_lowercase().replace('\u{2019}', "'");
    let refuses = REFUSALS
        .iter()
        .any(|beginning| lower.starts_with(beginning));
    (!lower.is_empty() && !refuses).then_some(text)
}

/// Whether two answers are the same but for white space and letter case.
pub fn equal(a: &str, b: &str) -> bool {
    let words =
        |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_lowercase).collect() };
    words(a) == words(b)
}

/// Whether two answers in different words say the same: near in meaning, with the same numbers,
/// names and negations.
pub fn agree((a, b): (&str, &str), (va, vb): (&[f32], &[f32]), is_known: Knows<'_>) -> bool {
    let cosine = Quantized::of(va).cosine(&Quantized::of(vb));
    let read = |text| Signature::read(text, is_known);
    let apart = read(a).figures_apart(&read(b));
    cosine >= SAME_COSINE_MIN && apart == [0, 0] && read(a).compare(&read(b)).conflict.is_none()
}
