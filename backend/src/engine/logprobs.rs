//! Log-probabilities of the model's unmodified distribution.

/// Tokens and their log-probabilities at one position.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// Of the token that was chosen.
    pub chosen: f32,
    /// The likeliest tokens, best first; of equal ones, the smaller id first.
    pub top: Vec<(u32, f32)>,
}

/// Natural logarithms of the softmax of `logits` for one chosen token and the `k` likeliest.
/// Logits that are not a number count as impossible.
pub fn logprobs(logits: &[f32], chosen: u32, k: usize) -> Logprobs {
    let log_sum = log_sum_exp(logits);
    let logprob = |logit: f32| {
        let value = (f64::from(logit) - log_sum) as f32;
        // JSON has no infinity; this is how OpenAI writes "never".
        if value.is_finite() { value } else { NEVER }
    };
    let top = largest(logits, k)
        .into_iter()
        .map(|(id, logit)| (id, logprob(logit)))
        .collect();
    let chosen = logits
        .get(chosen as usize)
        .map_or(NEVER, |&logit| logprob(logit));
    Logprobs { chosen, top }
}

/// The log-probability of what cannot happen, as OpenAI writes it.
const NEVER: f32 = -9999.0;

/// `ln(sum(exp(logits)))`, shifted by the largest logit so that nothing overflows.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !max.is_finite() {
        return f64::from(max);
    }
    let sum: f64 = logits
        .iter()
        .filter(|logit| !logit.is_nan())
        .map(|&logit| f64::from((logit - max).exp()))
        .sum();
    f64::from(max) + sum.ln()
}

/// The `k` largest logits, largest first. One pass: a logit that does not beat the smallest kept
/// one, which is nearly every one, costs one comparison.
fn largest(logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut kept: Vec<(u32, f32)> = Vec::with_capacity(k + 1);
    for (id, &logit) in logits.iter().enumerate() {
        let beaten = kept.len() == k && kept.last().is_none_or(|&(_, least)| logit <= least);
        if beaten || logit.is_nan() {
            continue;
        }
        let at = kept.partition_point(|&(_, other)| other >= logit);
        kept.insert(at, (id as u32, logit));
        kept.truncate(k);
    }
    kept
}
