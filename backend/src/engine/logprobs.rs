//! What the model's unmodified distribution says at one position: log-probabilities, and how sure
//! the model was.

use farthing_core::wire::TokenConfidence;
use farthing_kernels::{LOGITS_PER_BLOCK, Softmax, block_maxima};

/// Tokens and their log-probabilities at one position.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// Of the token that was chosen.
    pub chosen: f32,
    /// The likeliest tokens, best first; of equal ones, the smaller id first.
    pub top: Vec<(u32, f32)>,
}

/// The log-probability of what cannot happen, as OpenAI writes it.
const NEVER: f32 = -9999.0;

// === impl Logprobs ===

impl Logprobs {
    /// Natural logarithms of the probabilities of one chosen token and of the `k` likeliest, of the
    /// softmax of `logits`. Logits that are not a number count as impossible.
    pub fn of(softmax: Option<&Softmax>, logits: &[f32], chosen: u32, k: usize) -> Logprobs {
        let logprob = |logit: f32| {
            let value = softmax.map_or(NEVER, |softmax| softmax.log_probability(logit));
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
}

/// How sure the model was of the token with this logit, among all tokens at this position. Nothing
/// is certain where the distribution is undefined.
pub fn confidence(softmax: Option<&Softmax>, chosen: f32) -> TokenConfidence {
    let logprob = softmax.map_or(NEVER, |softmax| softmax.log_probability(chosen));
    TokenConfidence::Measured {
        logprob: if logprob.is_finite() { logprob } else { NEVER },
        entropy_nats: softmax.map_or(0.0, Softmax::entropy_nats),
        margin: softmax.map_or(0.0, Softmax::margin),
    }
}

/// The `k` largest logits, largest first. Only blocks that have one larger than the smallest kept
/// are looked at, which is nearly none.
fn largest(logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut kept: Vec<(u32, f32)> = Vec::with_capacity(k + 1);
    if k == 0 {
        return kept;
    }
    let mut maxima = vec![0.0; logits.len().div_ceil(LOGITS_PER_BLOCK)];
    block_maxima(logits, &mut maxima);
    for (block, (logits, &max)) in logits.chunks(LOGITS_PER_BLOCK).zip(&maxima).enumerate() {
        let least = |kept: &[(u32, f32)]| kept.get(k - 1).map(|&(_, least)| least);
        if least(&kept).is_some_and(|least| max <= least) {
            continue;
        }
        for (within, &logit) in logits.iter().enumerate() {
            let beaten = least(&kept).is_some_and(|least| logit <= least);
            if beaten || logit.is_nan() {
                continue;
            }
            let at = kept.partition_point(|&(_, other)| other >= logit);
            kept.insert(at, ((block * LOGITS_PER_BLOCK + within) as u32, logit));
            kept.truncate(k);
        }
    }
    kept
}
