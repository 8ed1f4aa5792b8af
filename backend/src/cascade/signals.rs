//! What an answer tells of itself: how sure the model was of its tokens, above all of those that
//! hold the answer, and what kind of text it is. Tokens that a grammar forced say nothing and are
//! left out. Sources: Gupta et al., "Language Model Cascades: Token-level uncertainty and beyond"
//! (ICLR 2024), for the quantiles; SelfDoubt (arXiv 2604.06389) for the hedges.

use farthing_core::route;
use farthing_core::wire::TokenConfidence;
use serde::{Deserialize, Serialize};

use super::classes::{CLASSES, Classes};
use crate::labelled::answer_span::{answer_span, last_number};
use crate::labelled::check::plain;

/// How sure the model was of one token, and where in the text the token ends. Written as a list of
/// four numbers, or of one where the token was forced.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Token {
    Measured(u32, f32, f32, f32),
    Forced([u32; 1]),
}

/// An answer as it comes.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    pub text: String,
    pub tokens: Vec<Token>,
    pub is_complete: bool,
}

/// What is judged.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    pub prompt_bytes: usize,
    pub text: &'a str,
    pub tokens: &'a [Token],
    pub is_complete: bool,
    /// The answer of the tier before.
    pub earlier: Option<&'a str>,
    /// The answers that come often.
    pub classes: &'a Classes,
}

/// What is said of an answer, in this order.
pub const FEATURE_NAMES: [&str; FEATURES] = [
    "mean_logprob",
    "min_logprob",
    "logprob_q10",
    "logprob_q25",
    "mean_entropy",
    "max_entropy",
    "mean_margin",
    "first_margin",
    "answer_logprob",
    "answer_margin",
    "log_tokens",
    "is_complete",
    "hedges",
    "has_answer",
    "agrees",
    "log_prompt",
    "answer_class_1",
    "answer_class_2",
    "answer_class_3",
    "answer_class_4",
    "answer_class_5",
    "answer_class_6",
    "answer_class_7",
    "answer_class_8",
];

/// What is said of the answer whatever it is.
const GENERAL: usize = 16;
/// How many there are.
pub const FEATURES: usize = GENERAL + CLASSES;
/// What is read of an answer and of its prompt together.
pub const OUTLOOK: usize = FEATURES + route::FEATURES;

/// Words with which models express doubt.
const HEDGES: [&str; 12] = [
    "maybe",
    "perhaps",
    "might",
    "unclear",
    "unsure",
    "not sure",
    "cannot",
    "can't",
    "i think",
    "wait,",
    "however,",
    "it depends",
];

/// A token of no probability at all counts as this sure: one in nine million.
const LOGPROB_MIN: f32 = -16.0;

impl Token {
    /// Whether all that is said of it are numbers.
    pub fn is_finite(&self) -> bool {
        match *self {
            Token::Measured(_, logprob, entropy, margin) => [logprob, entropy, margin]
                .iter()
                .all(|value| value.is_finite()),
            Token::Forced(_) => true,
        }
    }

    /// Where in the text it ends.
    pub fn end(self) -> usize {
        match self {
            Token::Measured(end, ..) | Token::Forced([end]) => end as usize,
        }
    }
}

impl Trace {
    /// Adds what one event brought. Where it brought several tokens, all of them end with its text.
    pub fn push(&mut self, text: &str, confidence: &[TokenConfidence]) {
        self.text.push_str(text);
        let end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        let token = |confidence: &TokenConfidence| match *confidence {
            TokenConfidence::Measured {
                logprob,
                entropy_nats,
                margin,
            } => Token::Measured(end, logprob.max(LOGPROB_MIN), entropy_nats, margin),
            TokenConfidence::Forced => Token::Forced([end]),
        };
        self.tokens.extend(confidence.iter().map(token));
    }
}

/// The features of an answer, or of as much of it as there is. Of one without tokens only the text
/// counts, as if the model had been sure of all of it.
pub fn features(judged: &Judged<'_>) -> [f64; FEATURES] {
    let measured: Vec<(usize, f32, f32, f32)> = judged
        .tokens
        .iter()
        .filter_map(|token| match *token {
            Token::Measured(_, logprob, entropy, margin) => {
                Some((token.end(), logprob, entropy, margin))
            }
            Token::Forced(_) => None,
        })
        .collect();
    let span = answer_span(judged.text);
    let in_span: Vec<_> = measured
        .iter()
        .filter(|(end, ..)| *end > span.start)
        .copied()
        .collect();
    let in_span = if in_span.is_empty() {
        &measured
    } else {
        &in_span
    };
    let mean = |of: &[(usize, f32, f32, f32)], value: fn(&(usize, f32, f32, f32)) -> f32| {
        let sum: f64 = of.iter().map(|token| f64::from(value(token))).sum();
        sum / of.len().max(1) as f64
    };
    let mut logprobs: Vec<f32> = measured.iter().map(|token| token.1).collect();
    logprobs.sort_by(f32::total_cmp);
    let quantile = |share: f64| {
        let at = (share * logprobs.len().saturating_sub(1) as f64) as usize;
        logprobs.get(at).copied().map_or(0.0, f64::from)
    };
    let max_entropy = measured.iter().map(|token| token.2).fold(0.0, f32::max);
    let margin_min = in_span.iter().map(|token| token.3).fold(1.0, f32::min);
    let first_margin = measured.first().map_or(1.0, |token| token.3);
    let answer = judged.text.get(span).unwrap_or_default();
    let general: [f64; GENERAL] = [
        mean(&measured, |token| token.1),
        quantile(0.0),
        quantile(0.1),
        quantile(0.25),
        mean(&measured, |token| token.2),
        f64::from(max_entropy),
        mean(&measured, |token| token.3),
        f64::from(first_margin),
        mean(in_span, |token| token.1),
        f64::from(margin_min),
        (1.0 + judged.tokens.len() as f64).ln(),
        f64::from(u8::from(judged.is_complete)),
        hedges(judged.text),
        f64::from(u8::from(!answer.is_empty() && answer.len() < 24)),
        judged
            .earlier
            .map_or(0.5, |earlier| agreement(earlier, judged.text)),
        (1.0 + judged.prompt_bytes as f64).ln(),
    ];
    joined(&general, &judged.classes.mark(judged.text))
}

/// The features of an answer and those of its prompt, from which is told whether a dearer model
/// would be right.
pub fn outlook(answer: &[f64; FEATURES], prompt: &[f64; route::FEATURES]) -> [f64; OUTLOOK] {
    joined(answer, prompt)
}

/// One list behind the other; `N` is the length of both together.
fn joined<const N: usize>(first: &[f64], second: &[f64]) -> [f64; N] {
    let mut both = first.iter().chain(second).copied();
    std::array::from_fn(|_| both.next().unwrap_or_default())
}

/// 1 where two texts give the same answer, 0 where they do not.
fn agreement(a: &str, b: &str) -> f64 {
    let said = |text: &str| plain(text.get(answer_span(text)).unwrap_or_default());
    let (first, second) = (said(a), said(b));
    let same_number = matches!((last_number(&first), last_number(&second)),
        (Some(x), Some(y)) if (x - y).abs() < 1e-9);
    f64::from(u8::from(first == second || same_number))
}

fn hedges(text: &str) -> f64 {
    let lower = text.to_lowercase();
    let count: usize = HEDGES
        .iter()
        .map(|hedge| lower.matches(hedge).count())
        .sum();
    (1.0 + count as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(logprob: f32, margin: f32) -> TokenConfidence {
        TokenConfidence::Measured {
            logprob,
            entropy_nats: -logprob,
            margin,
        }
    }

    #[test]
    fn the_answer_counts_by_itself_and_forced_tokens_do_not() {
        let mut trace = Trace::default();
        trace.push(
            "It is clear.\n",
            &[measured(-0.5, 0.5), measured(-1.5, 0.1)],
        );
        trace.push("{\"a\":", &[TokenConfidence::Forced]);
        trace.push(" 7", &[measured(-0.25, 0.9)]);
        trace.is_complete = true;
        let of = features(&Judged {
            prompt_bytes: 100,
            text: &trace.text,
            tokens: &trace.tokens,
            is_complete: true,
            classes: &Classes::default(),
            earlier: Some("the answer is 7"),
        });
        let by_name = |name| of[FEATURE_NAMES.iter().position(|it| *it == name).unwrap()];
        assert!((by_name("mean_logprob") + 0.75).abs() < 1e-6);
        assert!((by_name("min_logprob") + 1.5).abs() < 1e-6);
        assert!((by_name("answer_logprob") + 0.25).abs() < 1e-6);
        assert!((by_name("answer_margin") - 0.9).abs() < 1e-6);
        assert!((by_name("agrees") - 1.0).abs() < 1e-9);
    }

    #[test]
    fn an_empty_answer_has_features_too() {
        let empty = Judged {
            prompt_bytes: 0,
            text: "",
            tokens: &[],
            is_complete: false,
            classes: &Classes::default(),
            earlier: None,
        };
        assert!(features(&empty).iter().all(|value| value.is_finite()));
    }
}
