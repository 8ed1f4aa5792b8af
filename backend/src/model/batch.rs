//! The packed tokens of one step: any mixture of prompt chunks and single decoded tokens, each with
//! its position and its sequence's block table. Nothing is padded.

use farthing_kernels::AttentionRow;

/// What one forward pass computes.
#[derive(Default)]
pub struct Batch<'a> {
    pub(super) tokens: Vec<u32>,
    /// One a token; `context` is its position plus one.
    pub(super) rows: Vec<AttentionRow<'a>>,
    /// Indices into `tokens` of those whose logits are wanted, ascending.
    pub(super) sampled: Vec<usize>,
}

/// After which of a chunk's tokens the logits are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    Skip,
    Last,
    /// After each token, as for drafts that are to be verified.
    All,
}

// === impl Batch ===

impl<'a> Batch<'a> {
    /// Adds consecutive tokens of one sequence, the first at position `start`. Their blocks, and
    /// those of all earlier tokens, are in `block_table`.
    pub fn push(&mut self, tokens: &[u32], start: usize, block_table: &'a [u32], logits: Logits) {
        let first = self.tokens.len();
        for (index, &token) in tokens.iter().enumerate() {
            self.tokens.push(token);
            self.rows.push(AttentionRow {
                block_table,
                context: start + index + 1,
            });
        }
        let end = self.tokens.len();
        self.sampled.extend(match logits {
            Logits::Skip => end..end,
            Logits::Last => end.saturating_sub(1).max(first)..end,
            Logits::All => first..end,
        });
    }

    /// Tokens in all.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is nothing to compute.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}
