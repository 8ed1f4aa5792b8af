//! The forward pass of llama and qwen2 (Touvron et al. 2023; Qwen2 technical report, 2024) over
//! packed tokens: RMSNorm, rotary attention with grouped key-value heads, SwiGLU. The two differ in
//! biases on query, key and value, and in which pairs the rotation turns.
//!
//! A token's result depends only on the tokens of its own sequence, never on what else is in the
//! batch, so chunked prefill, batching and recomputation leave answers as they are.

use farthing_core::limits::KV_BLOCK_TOKENS;
use farthing_kernels::{
    Activations, KvCache, KvDtype, Matrix, RopeTable, Store, ThreadPool, add, add_bias, matmul,
    matmul_group, paged_attention, rms_norm, rope, swiglu,
};

use super::batch::Batch;
use super::hyper_parameters::HyperParameters;
use super::rows::each_row;
use super::weights::{Layer, Projection, Weights};
use super::workspace::Workspace;
use crate::error::BackendError;

/// A model that computes.
pub struct Decoder {
    shape: HyperParameters,
    weights: Weights,
    rope: RopeTable,
}

// === impl Decoder ===

impl Decoder {
    /// A model for sequences of up to `context_tokens` tokens.
    pub(super) fn new(
        shape: HyperParameters,
        weights: Weights,
        context_tokens: usize,
    ) -> Result<Decoder, BackendError> {
        let rope = RopeTable::new(shape.head_dim, shape.rope_base, context_tokens)?;
        Ok(Decoder {
            shape,
            weights,
            rope,
        })
    }

    pub fn shape(&self) -> &HyperParameters {
        &self.shape
    }

    /// Bytes of all weights as they are held: packed ones, and the embedding in the mapped file.
    pub fn weight_bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// An empty KV cache of `blocks` blocks of `KV_BLOCK_TOKENS` tokens.
    pub fn kv_cache(&self, dtype: KvDtype, blocks: usize) -> Result<KvCache, BackendError> {
        let HyperParameters {
            layers,
            kv_heads,
            head_dim,
            ..
        } = self.shape;
        Ok(KvCache::new(
            dtype,
            layers,
            blocks,
            KV_BLOCK_TOKENS,
            kv_heads,
            head_dim,
        )?)
    }

    /// Buffers for steps of up to `tokens` tokens, `sampled` of which get logits.
    pub fn workspace(&self, tokens: usize, sampled: usize) -> Workspace {
        Workspace::new(&self.shape, self.weights.keep(), tokens, sampled)
    }

    /// Computes one step: keys and values go into the cache, and the logits of the sampled tokens,
    /// in the batch's order, are returned as `[sampled, vocab_size]`.
    ///
    /// # Errors
    /// The batch is larger than the workspace, or has a token outside the vocabulary.
    pub fn forward<'w>(
        &self,
        pool: &ThreadPool,
        batch: &Batch<'_>,
        cache: &mut KvCache,
        work: &'w mut Workspace,
    ) -> Result<&'w mut [f32], BackendError> {
        if batch.len() > work.tokens_max || batch.sampled.len() > work.sampled_max {
            return Err(BackendError::Model(format!(
                "a step of {} tokens, {} sampled, exceeds its buffers",
                batch.len(),
                batch.sampled.len()
            )));
        }
        self.weights.embed(
            &batch.tokens,
            &mut work.hidden[..batch.len() * self.shape.width],
        )?;
        for (index, layer) in self.weights.layers.iter().enumerate() {
            self.attend(pool, index, layer, batch, cache, work);
            self.feed_forward(pool, layer, batch.len(), work);
        }
        Ok(self.head(pool, &batch.sampled, work))
    }

    /// The attention half of a layer, added to the residual stream.
    fn attend(
        &self,
        pool: &ThreadPool,
        index: usize,
        layer: &Layer,
        batch: &Batch<'_>,
        cache: &mut KvCache,
        work: &mut Workspace,
    ) {
        let HyperParameters {
            width,
            heads,
            kv_heads,
            head_dim,
            ..
        } = self.shape;
        let (tokens, query_width, kv_width) = (batch.len(), heads * head_dim, kv_heads * head_dim);
        let hidden = &mut work.hidden[..tokens * width];
        let query = &mut work.query[..tokens * query_width];
        let key = &mut work.key[..tokens * kv_width];
        let value = &mut work.value[..tokens * kv_width];
        self.normalise(pool, hidden, &layer.attention_norm, &mut work.activations);
        let Layer {
            query: to_query,
            key: to_key,
            value: to_value,
            ..
        } = layer;
        matmul_group(
            pool,
            &work.activations,
            &mut [
                (&to_query.matrix, &mut *query),
                (&to_key.matrix, &mut *key),
                (&to_value.matrix, &mut *value),
            ],
        );
        self.rotate(pool, to_query, batch, query, query_width);
        self.rotate(pool, to_key, batch, key, kv_width);
        if let Some(bias) = &to_value.bias {
            add_bias(value, bias);
        }
        cache.write(pool, index, &batch.rows, key, value);
        let attended = &mut work.attended[..tokens * query_width];
        let scale = 1.0 / (head_dim as f32).sqrt();
        paged_attention(
            pool,
            cache,
            index,
            query,
            &batch.rows,
            heads,
            scale,
            attended,
        );
        work.activations
            .quantize(pool, attended, tokens, query_width);
        let output = &layer.attention_output;
        matmul(pool, output, &work.activations, hidden, Store::Add);
    }

    /// The feed-forward half of a layer, added to the residual stream.
    fn feed_forward(&self, pool: &ThreadPool, layer: &Layer, tokens: usize, work: &mut Workspace) {
        let HyperParameters {
            width,
            feed_forward,
            ..
        } = self.shape;
        let hidden = &mut work.hidden[..tokens * width];
        let gate = &mut work.gate[..tokens * feed_forward];
        let up = &mut work.up[..tokens * feed_forward];
        self.normalise(
            pool,
            hidden,
            &layer.feed_forward_norm,
            &mut work.activations,
        );
        let (to_gate, to_up): (&Matrix, &Matrix) = (&layer.gate, &layer.up);
        matmul_group(
            pool,
            &work.activations,
            &mut [(to_gate, &mut *gate), (to_up, &mut *up)],
        );
        work.activations
            .make(pool, tokens, feed_forward, &|row, out| {
                let at = row * feed_forward..(row + 1) * feed_forward;
                swiglu(&gate[at.clone()], &up[at], out);
            });
        matmul(pool, &layer.down, &work.activations, hidden, Store::Add);
    }

    /// The logits of the sampled rows; the other rows are not carried further.
    fn head<'w>(
        &self,
        pool: &ThreadPool,
        sampled: &[usize],
        work: &'w mut Workspace,
    ) -> &'w mut [f32] {
        let HyperParameters {
            width,
            vocab_size,
            rms_epsilon,
            ..
        } = self.shape;
        let logits = &mut work.logits[..sampled.len() * vocab_size];
        if sampled.is_empty() {
            return logits;
        }
        let hidden = &work.hidden;
        work.activations
            .make(pool, sampled.len(), width, &|row, out| {
                let hidden = &hidden[sampled[row] * width..][..width];
                rms_norm(hidden, &self.weights.output_norm, rms_epsilon, out);
            });
        let output = &self.weights.output;
        matmul(pool, output, &work.activations, logits, Store::Replace);
        logits
    }

    /// Quantizes the normalised rows of `x`, `[tokens, weight.len()]`.
    fn normalise(&self, pool: &ThreadPool, x: &[f32], weight: &[f32], out: &mut Activations) {
        let width = weight.len();
        out.make(pool, x.len() / width, width, &|row, out| {
            let x = &x[row * width..][..width];
            rms_norm(x, weight, self.shape.rms_epsilon, out);
        });
    }

    /// Adds the bias and turns each token's heads to its position.
    fn rotate(
        &self,
        pool: &ThreadPool,
        projection: &Projection,
        batch: &Batch<'_>,
        x: &mut [f32],
        width: usize,
    ) {
        let style = self.shape.architecture.rope_style();
        each_row(pool, x, width, &|row, x| {
            if let Some(bias) = &projection.bias {
                add(x, bias);
            }
            let position = batch.rows[row].context - 1;
            rope(x, self.shape.head_dim, position, &self.rope, style);
        });
    }
}
