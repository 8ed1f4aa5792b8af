//! Keys and values of every layer in f16, in pages that sequences share.
//!
//! A *block* holds `block_size` consecutive tokens of one sequence; a sequence's block table says
//! which. Values have shape `[layer][block][kv_head][slot][head_dim]`. Keys have the slots last,
//! `[layer][block][kv_head][head_dim][slot]`: the scores of neighbouring positions then lie side
//! by side in a register, and no sum across one is needed.

use crate::disjoint::Disjoint;
use crate::half_float::narrow;
use crate::{AttentionRow, HEAD_DIM_MAX, KV_CACHE_BYTES_MAX, KernelError, TASK_NS_MIN, ThreadPool};

/// Elements that a thread narrows and stores in a nanosecond, about.
const ELEMENTS_PER_NS: usize = 1;

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

    /// Stores keys and values, each `[rows.len(), kv_heads, head_dim]`, in the last place that each
    /// row sees.
    ///
    /// # Panics
    /// If layer or a block is out of range, a context is zero or longer than its block table, or
    /// a length is wrong.
    pub fn write(
        &mut self,
        pool: &ThreadPool,
        layer: usize,
        rows: &[AttentionRow<'_>],
        keys: &[f32],
        values: &[f32],
    ) {
        let (head_dim, block_size, kv_heads) = (self.head_dim, self.block_size, self.kv_heads);
        let width = kv_heads * head_dim;
        assert!(
            keys.len() == rows.len() * width && values.len() == keys.len(),
            "keys and values are [{}, {width}]",
            rows.len()
        );
        let starts: Vec<(usize, usize)> = rows
            .iter()
            .map(|row| {
                let position = row.context.checked_sub(1).expect("a row sees itself");
                let block = row.block_table[position / block_size] as usize;
                (self.page_start(layer, block, 0), position % block_size)
            })
            .collect();
        let page = block_size * head_dim;
        let worthwhile = 2 * keys.len() / ELEMENTS_PER_NS / TASK_NS_MIN;
        let tasks = worthwhile.clamp(1, kv_heads);
        let (all_keys, all_values) = (
            Disjoint::new(&mut self.keys),
            Disjoint::new(&mut self.values),
        );
        pool.run(tasks, &|task| {
            for head in kv_heads * task / tasks..kv_heads * (task + 1) / tasks {
                for (row, &(start, offset)) in starts.iter().enumerate() {
                    let at = start + head * page;
                    let from = row * width + head * head_dim;
                    // SAFETY: a head's pages belong to one task.
                    let (key_page, value_page) = unsafe {
                        (
                            all_keys.slice(at..at + page),
                            all_values.slice(at..at + page),
                        )
                    };
                    let mut key = [0; HEAD_DIM_MAX];
                    let key = &mut key[..head_dim];
                    narrow(&keys[from..from + head_dim], key);
                    let column = key_page[offset..].iter_mut().step_by(block_size);
                    for (place, &bits) in column.zip(key.iter()) {
                        *place = bits;
                    }
                    let value = &mut value_page[offset * head_dim..][..head_dim];
                    narrow(&values[from..from + head_dim], value);
                }
            }
        });
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
