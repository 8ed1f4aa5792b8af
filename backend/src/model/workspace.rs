//! The memory of a step.

use farthing_kernels::{Activations, Keep};

use super::hyper_parameters::HyperParameters;

/// Every intermediate result of a step, allocated once for the largest step.
pub struct Workspace {
    pub(super) tokens_max: usize,
    pub(super) sampled_max: usize,
    /// The residual stream, `[tokens, width]`.
    pub(super) hidden: Vec<f32>,
    /// `[tokens, heads * head_dim]`, as `attended`.
    pub(super) query: Vec<f32>,
    /// `[tokens, kv_heads * head_dim]`, as `value`.
    pub(super) key: Vec<f32>,
    pub(super) value: Vec<f32>,
    pub(super) attended: Vec<f32>,
    /// `[tokens, feed_forward]`, as `up`.
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
    /// `[sampled, vocab_size]`.
    pub(super) logits: Vec<f32>,
    pub(super) activations: Activations,
}

// === impl Workspace ===

impl Workspace {
    /// Buffers for steps of up to `tokens` tokens, `sampled` of which get logits.
    pub(super) fn new(
        shape: &HyperParameters,
        keep: Keep,
        tokens: usize,
        sampled: usize,
    ) -> Workspace {
        let HyperParameters {
            width,
            feed_forward,
            heads,
            kv_heads,
            head_dim,
            ..
        } = *shape;
        let zeros = |columns: usize| vec![0.0; tokens * columns];
        Workspace {
            tokens_max: tokens,
            sampled_max: sampled,
            hidden: zeros(width),
            query: zeros(heads * head_dim),
            key: zeros(kv_heads * head_dim),
            value: zeros(kv_heads * head_dim),
            attended: zeros(heads * head_dim),
            gate: zeros(feed_forward),
            up: zeros(feed_forward),
            logits: vec![0.0; sampled * shape.vocab_size],
            activations: Activations::new(keep),
        }
    }

    /// Tokens of the largest step.
    pub fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    /// Rows of logits of the largest step.
    pub fn sampled_max(&self) -> usize {
        self.sampled_max
    }
}
