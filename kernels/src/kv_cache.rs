//! Keys and values of every layer, in pages that sequences share.
//!
//! A *block* holds `block_size` consecutive tokens of one sequence; a sequence's block table says
//! which. Values have shape `[layer][block][kv_head][slot][head_dim]`. Keys have the slots last,
//! `[layer][block][kv_head][head_dim][slot]`: the scores of neighbouring positions then lie side
//! by side in a register, and no sum across one is needed.
//!
//! Elements are f16, or int8 with a scale for each key and each value of a head: half the memory,
//! for an error of up to 1/254 of the largest element.

use crate::disjoint::Disjoint;
use crate::half_float::narrow;
use crate::kv_page::{Elements, Page};
use crate::{AttentionRow, HEAD_DIM_MAX, KV_CACHE_BYTES_MAX, KernelError, TASK_NS_MIN, ThreadPool};

/// Elements that a thread narrows and stores in a nanosecond, about.
const ELEMENTS_PER_NS: usize = 1;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvDtype {
    #[default]
    F16,
    Int8,
}

/// The paged cache of one model.
pub struct KvCache {
    layers: usize,
    blocks: usize,
    block_size: usize,
    kv_heads: usize,
    head_dim: usize,
    keys: Half,
    values: Half,
}

/// All keys, or all values. Allocated zeroed, so the system hands out pages only as blocks are
/// used.
enum Half {
    /// f16 bits.
    F16(Vec<u16>),
    /// With a scale for each slot, `[layer][block][kv_head][slot]`.
    Int8 { quants: Vec<i8>, scales: Vec<f32> },
}

/// Which way a head's vector lies in its page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Keys: one element in each row of `block_size`.
    Down,
    /// Values: one row of `head_dim`.
    Along,
}

impl KvCache {
    /// An empty cache.
    ///
    /// # Errors
    /// A dimension is zero, `head_dim` is no multiple of 8 or above [`HEAD_DIM_MAX`], the cache
    /// would exceed [`KV_CACHE_BYTES_MAX`], or the system refuses the memory.
    pub fn new(
        dtype: KvDtype,
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
        let slots = [layers, blocks, block_size, kv_heads]
            .into_iter()
            .try_fold(1usize, |product, dimension| product.checked_mul(dimension));
        let slots = slots
            .filter(|&slots| slots > 0 && slots <= max / head_dim)
            .ok_or(KernelError::Dimension {
                name: "layers*blocks*slots*kv_heads",
                value: slots.unwrap_or(usize::MAX),
                max: max / head_dim,
            })?;
        Ok(KvCache {
            layers,
            blocks,
            block_size,
            kv_heads,
            head_dim,
            keys: Half::new(dtype, slots, head_dim)?,
            values: Half::new(dtype, slots, head_dim)?,
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
        let places: Vec<(usize, usize)> = rows
            .iter()
            .map(|row| {
                let position = row.context.checked_sub(1).expect("a row sees itself");
                let block = row.block_table[position / block_size] as usize;
                (self.page(layer, block, 0), position % block_size)
            })
            .collect();
        let worthwhile = 2 * keys.len() / ELEMENTS_PER_NS / TASK_NS_MIN;
        let tasks = worthwhile.clamp(1, kv_heads);
        let (key_pages, value_pages) = (self.keys.pages(), self.values.pages());
        pool.run(tasks, &|task| {
            for head in kv_heads * task / tasks..kv_heads * (task + 1) / tasks {
                for (row, &(first_page, slot)) in places.iter().enumerate() {
                    let of = row * width + head * head_dim;
                    let (key, value) = (&keys[of..of + head_dim], &values[of..of + head_dim]);
                    let page = first_page + head;
                    // SAFETY: a head's pages belong to one task.
                    unsafe {
                        key_pages.write(page, (block_size, slot), key, Way::Down);
                        value_pages.write(page, (block_size, slot), value, Way::Along);
                    }
                }
            }
        });
    }

    /// How keys and values are stored.
    pub fn dtype(&self) -> KvDtype {
        match self.keys {
            Half::F16(_) => KvDtype::F16,
            Half::Int8 { .. } => KvDtype::Int8,
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
        self.keys.bytes() + self.values.bytes()
    }

    /// One head's keys and values in the slots `first..first + positions` of a block.
    pub(crate) fn positions(
        &self,
        layer: usize,
        block: usize,
        head: usize,
        first: usize,
        positions: usize,
    ) -> Page<'_> {
        let (page, stride) = (self.page(layer, block, head), self.block_size);
        let elements = stride * self.head_dim;
        let at = |offset: usize| page * elements + offset..(page + 1) * elements;
        let slots = page * stride + first..page * stride + first + positions;
        Page {
            keys: self.keys.elements(at(first), slots.clone()),
            stride,
            values: self.values.elements(at(first * self.head_dim), slots),
            positions,
        }
    }

    /// The number of one head's page.
    fn page(&self, layer: usize, block: usize, head: usize) -> usize {
        assert!(
            layer < self.layers && block < self.blocks,
            "layer {layer}, block {block}"
        );
        (layer * self.blocks + block) * self.kv_heads + head
    }
}

// === impl Half ===

impl Half {
    fn new(dtype: KvDtype, slots: usize, head_dim: usize) -> Result<Half, KernelError> {
        Ok(match dtype {
            KvDtype::F16 => Half::F16(zeroed(slots * head_dim)?),
            KvDtype::Int8 => Half::Int8 {
                quants: zeroed(slots * head_dim)?,
                scales: zeroed(slots)?,
            },
        })
    }

    fn bytes(&self) -> usize {
        match self {
            Half::F16(bits) => size_of_val(bits.as_slice()),
            Half::Int8 { quants, scales } => quants.len() + size_of_val(scales.as_slice()),
        }
    }

    fn elements(&self, at: std::ops::Range<usize>, slots: std::ops::Range<usize>) -> Elements<'_> {
        match self {
            Half::F16(bits) => Elements::F16(&bits[at]),
            Half::Int8 { quants, scales } => Elements::Int8 {
                quants: &quants[at],
                scales: &scales[slots],
            },
        }
    }

    fn pages(&mut self) -> PagesMut<'_> {
        match self {
            Half::F16(bits) => PagesMut::F16(Disjoint::new(bits)),
            Half::Int8 { quants, scales } => PagesMut::Int8 {
                quants: Disjoint::new(quants),
                scales: Disjoint::new(scales),
            },
        }
    }
}

/// A [`Half`] whose pages are written side by side.
enum PagesMut<'a> {
    F16(Disjoint<'a, u16>),
    Int8 {
        quants: Disjoint<'a, i8>,
        scales: Disjoint<'a, f32>,
    },
}

// === impl PagesMut ===

impl PagesMut<'_> {
    /// Stores one vector in a slot of a page.
    ///
    /// # Safety
    /// No other thread uses the page.
    unsafe fn write(
        &self,
        page: usize,
        (block_size, slot): (usize, usize),
        vector: &[f32],
        way: Way,
    ) {
        let elements = block_size * vector.len();
        let of = page * elements..(page + 1) * elements;
        match self {
            PagesMut::F16(bits) => {
                let mut row = [0; HEAD_DIM_MAX];
                let row = &mut row[..vector.len()];
                narrow(vector, row);
                // SAFETY: the caller's promise.
                place(row, unsafe { bits.slice(of) }, block_size, slot, way);
            }
            PagesMut::Int8 { quants, scales } => {
                let mut row = [0; HEAD_DIM_MAX];
                let row = &mut row[..vector.len()];
                let scale = quantize(vector, row);
                // SAFETY: the caller's promise.
                place(row, unsafe { quants.slice(of) }, block_size, slot, way);
                let at = page * block_size + slot;
                // SAFETY: as above; a page's scales belong to it.
                let place = unsafe { scales.slice(at..at + 1) };
                place[0] = scale;
            }
        }
    }
}

/// Puts a vector into its page.
fn place<T: Copy>(row: &[T], page: &mut [T], block_size: usize, slot: usize, way: Way) {
    match way {
        Way::Down => {
            let column = page[slot..].iter_mut().step_by(block_size);
            for (place, &element) in column.zip(row) {
                *place = element;
            }
        }
        Way::Along => page[slot * row.len()..][..row.len()].copy_from_slice(row),
    }
}

/// d = max|x| / 127, q = round(x / d); answers d. What is infinite or undefined counts as the
/// largest f32 or as 0, so that it cannot make later sums undefined.
fn quantize(vector: &[f32], quants: &mut [i8]) -> f32 {
    let finite = |x: f32| {
        if x.is_nan() {
            0.0
        } else {
            x.clamp(f32::MIN, f32::MAX)
        }
    };
    let largest = vector
        .iter()
        .fold(0.0f32, |largest, &x| largest.max(finite(x).abs()));
    if largest < 127.0 * f32::MIN_POSITIVE {
        quants.fill(0);
        return 0.0;
    }
    let scale = largest / 127.0;
    for (quant, &x) in quants.iter_mut().zip(vector) {
        *quant = (finite(x) / scale).round_ties_even() as i8;
    }
    scale
}

/// Zeros, or the error that the system refuses them. It is asked before: an allocation that fails
/// would end the process. The memory of the question is given back untouched, and a vector can
/// then still be allocated zeroed, which takes no page before it is used.
fn zeroed<T: Clone + Default>(len: usize) -> Result<Vec<T>, KernelError> {
    let mut probe: Vec<T> = Vec::new();
    let asked = probe.try_reserve_exact(len);
    asked.map_err(|_| KernelError::OutOfMemory {
        bytes: len * size_of::<T>(),
    })?;
    drop(probe);
    Ok(vec![T::default(); len])
}
