//! The left side of a multiplication: rows of activations, quantized to int8.
//!
//! Each block of 32 has d = max|x| / 127 and q = round(x / d), as GGML's Q8_1 blocks have. Beside
//! the quants lie the sums that weights with a minimum or an offset need, so that they are
//! computed once and not once for each output row. Rows are stored in panels (see [`panel`]).

#[cfg(target_arch = "x86_64")]
mod avx512;
mod panel;

pub(crate) use panel::{PANEL_ROWS_MAX, Panel, panel_count, panel_rows};

use crate::block::BLOCK;
use crate::disjoint::Disjoint;
use crate::layout::U8_OFFSET;
use crate::{InstructionSet, TASK_NS_MIN, TASKS_PER_THREAD, ThreadPool};
use panel::PanelRows;

/// Columns of the finer sums, which the 16-wide groups of Q6_K need.
const HALF_BLOCK: usize = BLOCK / 2;
/// Elements that a thread makes and quantizes in a nanosecond, about.
const ELEMENTS_PER_NS: usize = 1;

/// Quantized rows `[rows, cols]`; a buffer to be used again for every operation.
///
/// Rows are padded with zeros to whole blocks, so any number of columns is taken.
pub struct Activations {
    rows: usize,
    cols: usize,
    keep: Keep,
    /// The rows as they were, `[rows, padded cols]`, for weights that are not quantized.
    values: Vec<f32>,
    /// From -127 to 127; each panel is `[blocks, rows, 32]`.
    quants: Vec<i8>,
    /// d; each panel is `[blocks, rows]`, as in `sums` and `offsets`.
    scales: Vec<f32>,
    /// d times the sum of q.
    sums: Vec<f32>,
    /// The sum of q times -128, which takes the offset off unsigned weights.
    offsets: Vec<i32>,
    /// The same for each half of a block; each panel is `[blocks, 2, rows]`.
    half_offsets: Vec<i32>,
}

/// What is kept of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Its quants: enough for quantized weights.
    Quants,
    /// Its values as well, which weights that are not quantized need.
    ValuesToo,
}

// === impl Activations ===

impl Activations {
    /// An empty buffer.
    pub fn new(keep: Keep) -> Activations {
        Activations {
            rows: 0,
            cols: 0,
            keep,
            values: Vec::new(),
            quants: Vec::new(),
            scales: Vec::new(),
            sums: Vec::new(),
            offsets: Vec::new(),
            half_offsets: Vec::new(),
        }
    }

    /// Quantizes `x`, which has shape `[rows, cols]`.
    ///
    /// An infinite or undefined element makes its block's scale so, and with it every product.
    ///
    /// # Panics
    /// If `x` does not have `rows * cols` elements.
    pub fn quantize(&mut self, pool: &ThreadPool, x: &[f32], rows: usize, cols: usize) {
        self.quantize_with(InstructionSet::best(), pool, x, rows, cols);
    }

    /// [`Activations::quantize`] with a given instruction set; every set gives the same result.
    pub fn quantize_with(
        &mut self,
        set: InstructionSet,
        pool: &ThreadPool,
        x: &[f32],
        rows: usize,
        cols: usize,
    ) {
        assert_eq!(
            x.len(),
            rows * cols,
            "activations have shape [{rows}, {cols}]"
        );
        self.fill(
            set,
            pool,
            rows,
            cols,
            || (),
            |(), row, write| {
                write(&x[row * cols..][..cols]);
            },
        );
    }

    /// Quantizes rows that are made on the way: `make(row, values)` writes row `row`, `cols` wide.
    /// It is called once for each row, by any thread.
    pub fn make(
        &mut self,
        pool: &ThreadPool,
        rows: usize,
        cols: usize,
        make: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) {
        let set = InstructionSet::best();
        let scratch = || vec![0.0; cols];
        self.fill(set, pool, rows, cols, scratch, |values, row, write| {
            make(row, values);
            write(values);
        });
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns, without padding.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Blocks of a row.
    pub(crate) fn blocks(&self) -> usize {
        self.cols.div_ceil(BLOCK)
    }

    /// Whether the values are there, not only the quants.
    pub(crate) fn has_values(&self) -> bool {
        self.keep == Keep::ValuesToo
    }

    /// The `index`th panel.
    #[inline]
    pub(crate) fn panel(&self, index: usize) -> Panel<'_> {
        let blocks = self.blocks();
        let rows = panel_rows(self.rows, index);
        let values = if self.has_values() {
            &self.values[rows.of(blocks * BLOCK)]
        } else {
            &[]
        };
        Panel {
            rows,
            cols: self.cols,
            blocks,
            values,
            quants: &self.quants[rows.of(blocks * BLOCK)],
            scales: &self.scales[rows.of(blocks)],
            sums: &self.sums[rows.of(blocks)],
            offsets: &self.offsets[rows.of(blocks)],
            half_offsets: &self.half_offsets[rows.of(2 * blocks)],
        }
    }

    /// Quantizes each row that `source` hands to its last argument. Each task has a scratch of its
    /// own.
    fn fill<S>(
        &mut self,
        set: InstructionSet,
        pool: &ThreadPool,
        rows: usize,
        cols: usize,
        scratch: impl Fn() -> S + Sync,
        source: impl Fn(&mut S, usize, &mut dyn FnMut(&[f32])) + Sync,
    ) {
        assert!(
            set.is_available(),
            "{set:?} is not available on this processor"
        );
        self.resize(rows, cols);
        let (blocks, keep) = (self.blocks(), self.keep);
        let panels = panel_count(rows);
        let buffers = Buffers {
            values: Disjoint::new(&mut self.values),
            quants: Disjoint::new(&mut self.quants),
            scales: Disjoint::new(&mut self.scales),
            sums: Disjoint::new(&mut self.sums),
            offsets: Disjoint::new(&mut self.offsets),
            half_offsets: Disjoint::new(&mut self.half_offsets),
        };
        let worthwhile = rows * cols / ELEMENTS_PER_NS / TASK_NS_MIN;
        let tasks = worthwhile
            .clamp(1, pool.threads() * TASKS_PER_THREAD)
            .min(panels);
        pool.run(tasks, &|task| {
            let mut scratch = scratch();
            for index in panels * task / tasks..panels * (task + 1) / tasks {
                // SAFETY: each panel belongs to one task.
                let mut panel = unsafe { buffers.panel(panel_rows(rows, index), blocks, keep) };
                for row in 0..panel.rows.count {
                    source(&mut scratch, panel.rows.first + row, &mut |values| {
                        panel.write_row(set, row, values);
                    });
                }
            }
        });
    }

    fn resize(&mut self, rows: usize, cols: usize) {
        (self.rows, self.cols) = (rows, cols);
        let blocks = rows * self.blocks();
        if self.has_values() {
            self.values.resize(blocks * BLOCK, 0.0);
        }
        self.quants.resize(blocks * BLOCK, 0);
        self.scales.resize(blocks, 0.0);
        self.sums.resize(blocks, 0.0);
        self.offsets.resize(blocks, 0);
        self.half_offsets.resize(2 * blocks, 0);
    }
}

/// Every buffer, while panels are written side by side.
struct Buffers<'a> {
    values: Disjoint<'a, f32>,
    quants: Disjoint<'a, i8>,
    scales: Disjoint<'a, f32>,
    sums: Disjoint<'a, f32>,
    offsets: Disjoint<'a, i32>,
    half_offsets: Disjoint<'a, i32>,
}

// === impl Buffers ===

impl Buffers<'_> {
    /// # Safety
    /// No two panels that are alive at once may share a row.
    unsafe fn panel(&self, rows: PanelRows, blocks: usize, keep: Keep) -> PanelMut<'_> {
        // SAFETY: the caller's promise.
        unsafe {
            PanelMut {
                rows,
                blocks,
                values: match keep {
                    Keep::ValuesToo => self.values.slice(rows.of(blocks * BLOCK)),
                    Keep::Quants => &mut [],
                },
                quants: self.quants.slice(rows.of(blocks * BLOCK)),
                scales: self.scales.slice(rows.of(blocks)),
                sums: self.sums.slice(rows.of(blocks)),
                offsets: self.offsets.slice(rows.of(blocks)),
                half_offsets: self.half_offsets.slice(rows.of(2 * blocks)),
            }
        }
    }
}

/// A [`Panel`] that is being written.
struct PanelMut<'a> {
    rows: PanelRows,
    blocks: usize,
    values: &'a mut [f32],
    quants: &'a mut [i8],
    scales: &'a mut [f32],
    sums: &'a mut [f32],
    offsets: &'a mut [i32],
    half_offsets: &'a mut [i32],
}

/// What became of a block, beside its quants.
struct QuantizedBlock {
    /// d.
    scale: f32,
    /// The sum of q over each half.
    sums: [i32; 2],
}

// === impl PanelMut ===

impl PanelMut<'_> {
    /// Quantizes a row's values, which are padded here.
    fn write_row(&mut self, set: InstructionSet, row: usize, values: &[f32]) {
        if !self.values.is_empty() {
            let padded = &mut self.values[row * self.blocks * BLOCK..][..self.blocks * BLOCK];
            padded[..values.len()].copy_from_slice(values);
            padded[values.len()..].fill(0.0);
        }
        match set {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `fill` has asserted that the processor has these features.
            InstructionSet::Avx512 => unsafe { avx512::write_row(self, row, values) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            InstructionSet::Avx2 | InstructionSet::AvxVnni => unsafe {
                self.write_row_avx2(row, values);
            },
            _ => self.write_blocks(row, values, quantize_block),
        }
    }

    /// The portable version, compiled for AVX2, which rounds in one instruction.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    #[allow(clippy::redundant_closure, reason = "the closure is compiled for AVX2")]
    fn write_row_avx2(&mut self, row: usize, values: &[f32]) {
        // A closure has the instructions of the function that it is in; a path would have none.
        self.write_blocks(row, values, |values, quants| quantize_block(values, quants));
    }

    /// Quantizes block after block and stores the sums in the forms that weights want.
    #[inline(always)]
    fn write_blocks(
        &mut self,
        row: usize,
        values: &[f32],
        quantize: impl Fn(&[f32; BLOCK], &mut [i8; BLOCK]) -> QuantizedBlock,
    ) {
        let rows = self.rows.count;
        let (quants, _) = self.quants.as_chunks_mut::<BLOCK>();
        let (whole, rest) = values.as_chunks::<BLOCK>();
        let mut last = [0.0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        let padded = (!rest.is_empty()).then_some(&last);
        for (block, values) in whole.iter().chain(padded).enumerate() {
            let at = block * rows + row;
            let quantized = quantize(values, &mut quants[at]);
            let [low, high] = quantized.sums;
            // At most 32 * 127 * 128 (less is known of undefined input, which must not panic).
            let total = low.wrapping_add(high);
            self.scales[at] = quantized.scale;
            self.sums[at] = quantized.scale * total as f32;
            self.offsets[at] = total.wrapping_mul(-U8_OFFSET);
            self.half_offsets[2 * block * rows + row] = low.wrapping_mul(-U8_OFFSET);
            self.half_offsets[(2 * block + 1) * rows + row] = high.wrapping_mul(-U8_OFFSET);
        }
    }
}

/// d and 1/d for the largest magnitude of a block. Blocks whose d would be below the smallest
/// normal number become zero.
#[inline(always)]
fn scale_and_inverse(largest: f32) -> (f32, f32) {
    if largest < 127.0 * f32::MIN_POSITIVE {
        return (0.0, 0.0);
    }
    (largest / 127.0, 127.0 / largest)
}

/// The portable version.
#[inline(always)]
fn quantize_block(values: &[f32; BLOCK], quants: &mut [i8; BLOCK]) -> QuantizedBlock {
    // Compared as integers, magnitudes order like floats, and what is undefined is the largest.
    let magnitudes = values.iter().map(|value| value.to_bits() & 0x7fff_ffff);
    let (scale, inverse) = scale_and_inverse(f32::from_bits(magnitudes.fold(0, u32::max)));
    let mut sums = [0; 2];
    let halves = quants
        .chunks_exact_mut(HALF_BLOCK)
        .zip(values.chunks_exact(HALF_BLOCK));
    for ((quants, values), sum) in halves.zip(&mut sums) {
        for (quant, value) in quants.iter_mut().zip(values) {
            *quant = (value * inverse).round_ties_even() as i8;
            *sum += i32::from(*quant);
        }
    }
    QuantizedBlock { scale, sums }
}
