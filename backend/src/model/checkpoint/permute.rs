//! Rotary pairs: Hugging Face's llama has the two halves of a head apart, GGUF's has the pairs side
//! by side (llama.cpp, `convert_hf_to_gguf.py`, `LlamaModel.permute`).

/// An order of the output rows of llama's query and key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PairsSideBySide {
    pub(super) head_dim: usize,
}

impl PairsSideBySide {
    /// Which row of the checkpoint is row `row` of the GGUF tensor: within a head, row `2i + j` is
    /// element `i` of half `j`.
    pub(super) fn source_row(self, row: usize) -> usize {
        let (head, within) = (row / self.head_dim, row % self.head_dim);
        head * self.head_dim + within % 2 * (self.head_dim / 2) + within / 2
    }
}
