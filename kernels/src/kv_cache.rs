//! Keys and values of every layer in f16, in pages that sequences share.
//!
//! A *block* holds `block_size` consecutive tokens of one sequence; a sequence's block table says
//! which. Values have shape `[layer][block][kv_head][slot][head_dim]`. Keys have the slots last,
//! `[layer][block][kv_head][head_dim][slot]`: the scores of neighbouring positions then lie side
//! by side in a register, and no sum across one is needed.

use crate::half_float::narrow;
use crate::{HEAD_DIM_MAX, KV_CACHE_BYTES_MAX, KernelError};

/// The paged cache of one model.
pub struct KvCache {
    layers: usize,
    blocks: usize,
    block_size: usize,
    kv_heads: usize,
    head_dim: usize,
    /// f16 bits. Allocated zeroed, so the system hands out pages only as blocks are used.
    keys: Vec<u16>,
    values: Vec<u16>,
}

impl KvCache {
    /// An empty cache.
    ///
    /// # Errors
    /// A dimension is zero, `head_dim` is no multiple of 8 or above [`HEAD_DIM_MAX`], the cache
    /// would exceed [`KV_CACHE_BYTES_MAX`], or the system refuses the memory.
    pub fn new(
        layers: usize,
        blocks: usize,
        block_size: usize,
        kv_heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, KernelError> {
        if head_dim == 0 || head_dim > HEAD_DIM_MAX || !head_dim.is_multiple_of(8) {
            let (name, max) = ("head_dim (a multiple of 8)", HEAD_DIM_MAX);
            return Err(KernelError::Dimension {
                name,
                value: head_dim,
                max,
            });
        }
        let max = KV_CACHE_BYTES_MAX / (2 * size_of::<u16>());
        let elements = [layers, blocks, block_size, kv_heads, head_dim]
            .into_iter()
            .try_fold(1usize, |product, dimension| product.checked_mul(dimension))
            .filter(|&elements| elements > 0 && elements <= max)
            .ok_or(KernelError::Dimension {
                name: "layers*blocks*slots",
                value: blocks,
                max,
            })?;
        check_memory(elements)?;
        let (keys, values) = (vec![0; elements], vec![0; elements]);
        Ok(KvCache {
            layers,
            blocks,
            block_size,
            kv_heads,
            head_dim,
            keys,
            values,
        })
    }

    /// Stores one token's key and value, each `[kv_heads, head_dim]`, at
    /// `slot = block * block_size + offset`.
    ///
    /// # Panics
    /// If layer or slot is out of range or a length is wrong.
    pub fn write(&mut self, layer: usize, slot: usize, key: &[f32], value: &[f32]) {
        let width = self.kv_heads * self.head_dim;
        assert!(
            key.len() == width && value.len() == width,
            "key and value are {width} wide"
        );
        let (block, offset) = (slot / self.block_size, slot % self.block_size);
        let row = &mut [0; HEAD_DIM_MAX][..self.head_dim];
        for head in 0..self.kv_heads {
            let page = self.page_start(layer, block, head);
            let of = head * self.head_dim..(head + 1) * self.head_dim;
            let value_at = page + offset * self.head_dim;
            narrow(
                &value[of.clone()],
                &mut self.values[value_at..value_at + self.head_dim],
            );
            narrow(&key[of], row);
            for (dimension, &bits) in row.iter().enumerate() {
                self.keys[page + dimension * self.block_size + offset] = bits;
            }
        }
    }

    /// Tokens of a block.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// Blocks of each layer.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Heads that keys and values have.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Elements of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Bytes of keys and values together.
    pub fn bytes(&self) -> usize {
        2 * size_of::<u16>() * self.keys.len()
    }

    /// One head's keys in one block, `[head_dim, block_size]` as f16 bits.
    pub(crate) fn key_page(&self, layer: usize, block: usize, head: usize) -> &[u16] {
        &self.keys[self.page_start(layer, block, head)..][..self.block_size * self.head_dim]
    }

    /// One head's values in one block, `[block_size, head_dim]` as f16 bits.
    pub(crate) fn value_page(&self, layer: usize, block: usize, head: usize) -> &[u16] {
        &self.values[self.page_start(layer, block, head)..][..self.block_size * self.head_dim]
    }

    fn page_start(&self, layer: usize, block: usize, head: usize) -> usize {
        assert!(
            layer < self.layers && block < self.blocks,
            "layer {layer}, block {block}"
        );
        let page = (layer * self.blocks + block) * self.kv_heads + head;
        page * self.block_size * self.head_dim
    }
}

/// Asks for the memory of both halves and gives it back untouched. What the system refuses is then
/// an error and not an abort, and the halves can still be allocated zeroed, which takes no page
/// before it is used; growing a reserved vector would write to all of them.
fn check_memory(elements: usize) -> Result<(), KernelError> {
    let mut probe: Vec<[u16; 2]> = Vec::new();
    probe
        .try_reserve_exact(elements)
        .map_err(|_| KernelError::OutOfMemory {
            bytes: elements * size_of::<[u16; 2]>(),
        })
}
