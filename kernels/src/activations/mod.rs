//! The left side of a multiplication: rows of activations, quantized to int8.
//!
//! Each block of 32 has d = max|x| / 127 and q = round(x / d), as GGML's Q8_1 blocks have. Beside
//! the quants lie the sums that weights with a minimum or an offset need, so that they are
//! computed once and not once for each output row.

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::block::BLOCK;
use crate::disjoint::Disjoint;
use crate::layout::U8_OFFSET;
use crate::{InstructionSet, TASK_NS_MIN, ThreadPool};

/// Columns of the finer sums, which the 16-wide groups of Q6_K need.
const HALF_BLOCK: usize = BLOCK / 2;
/// Elements that a thread quantizes in a nanosecond, about.
const ELEMENTS_PER_NS: usize = 2;

/// Quantized rows `[rows, cols]`; a buffer to be used again for every operation.
///
/// Rows are padded with zeros to whole blocks, so any number of columns is taken.
#[derive(Default)]
pub struct Activations {
    rows: usize,
    cols: usize,
    /// The rows as they were, for weights that are not quantized: `[rows, padded cols]`.
    pub(crate) values: Vec<f32>,
    /// `[rows, padded cols]`, from -127 to 127.
    pub(crate) quants: Vec<i8>,
    /// d: `[rows, blocks]`.
    pub(crate) scales: Vec<f32>,
    /// d times the sum of q: `[rows, blocks]`.
    pub(crate) sums: Vec<f32>,
    /// The sum of q times -128, which takes the offset off unsigned weights: `[rows, blocks]`.
    pub(crate) offsets: Vec<i32>,
    /// The same for each half of a block: `[rows, 2 * blocks]`.
    pub(crate) half_offsets: Vec<i32>,
}

impl Activations {
    /// An empty buffer.
    pub fn new() -> Activations {
        Activations::default()
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
        self.resize(rows, cols);
        if x.is_empty() {
            return;
        }
        let blocks = self.blocks();
        let values = Disjoint::new(&mut self.values);
        let quants = Disjoint::new(&mut self.quants);
        let scales = Disjoint::new(&mut self.scales);
        let sums = Disjoint::new(&mut self.sums);
        let offsets = Disjoint::new(&mut self.offsets);
        let half_offsets = Disjoint::new(&mut self.half_offsets);
        let task_rows = (TASK_NS_MIN * ELEMENTS_PER_NS).div_ceil(cols);
        pool.run(rows.div_ceil(task_rows), &|task| {
            for row in task * task_rows..rows.min((task + 1) * task_rows) {
                let of = |count: usize| row * count..(row + 1) * count;
                // SAFETY: each task has its own rows.
                let blocks = unsafe {
                    RowBlocks {
                        values: values.slice(of(blocks * BLOCK)),
                        quants: quants.slice(of(blocks * BLOCK)),
                        scales: scales.slice(of(blocks)),
                        sums: sums.slice(of(blocks)),
                        offsets: offsets.slice(of(blocks)),
                        half_offsets: half_offsets.slice(of(2 * blocks)),
                    }
                };
                blocks.values[..cols].copy_from_slice(&x[of(cols)]);
                blocks.values[cols..].fill(0.0);
                quantize_row(set, blocks);
            }
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

    fn resize(&mut self, rows: usize, cols: usize) {
        (self.rows, self.cols) = (rows, cols);
        let blocks = rows * self.blocks();
        self.values.resize(blocks * BLOCK, 0.0);
        self.quants.resize(blocks * BLOCK, 0);
        self.scales.resize(blocks, 0.0);
        self.sums.resize(blocks, 0.0);
        self.offsets.resize(blocks, 0);
        self.half_offsets.resize(2 * blocks, 0);
    }
}

/// One row's part of every buffer.
struct RowBlocks<'a> {
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

/// Quantizes one row from its values.
fn quantize_row(set: InstructionSet, row: RowBlocks<'_>) {
    assert!(
        set.is_available(),
        "{set:?} is not available on this processor"
    );
    match set {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the assertion above says that the processor has these features.
        InstructionSet::Avx512 => unsafe { avx512::quantize_row(row) },
        _ => quantize_blocks(row, quantize_block),
    }
}

/// Quantizes block after block and stores the sums in the forms that weights want.
#[inline(always)]
fn quantize_blocks(
    row: RowBlocks<'_>,
    quantize: impl Fn(&[f32; BLOCK], &mut [i8; BLOCK]) -> QuantizedBlock,
) {
    let (values, _) = row.values.as_chunks::<BLOCK>();
    let (quants, _) = row.quants.as_chunks_mut::<BLOCK>();
    let (halves, _) = row.half_offsets.as_chunks_mut::<2>();
    let outputs = quants
        .iter_mut()
        .zip(row.scales)
        .zip(row.sums)
        .zip(row.offsets)
        .zip(halves);
    for (values, ((((quants, scale), sum), offset), halves)) in values.iter().zip(outputs) {
        let block = quantize(values, quants);
        let [low, high] = block.sums;
        // At most 32 * 127 * 128 (less is known of undefined input, which must not panic).
        let total = low.wrapping_add(high);
        *scale = block.scale;
        *sum = block.scale * total as f32;
        *offset = total.wrapping_mul(-U8_OFFSET);
        *halves = [low.wrapping_mul(-U8_OFFSET), high.wrapping_mul(-U8_OFFSET)];
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
