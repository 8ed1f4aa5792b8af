//! The largest of each block of a row of logits, by which large ones are found without looking at
//! all of them again.

use crate::InstructionSet;
use crate::instruction_set::versions;
use crate::lanes::LANES;

/// Logits of one block.
pub const LOGITS_PER_BLOCK: usize = 16 * LANES;

/// Writes the largest of each block of [`LOGITS_PER_BLOCK`] elements of `x` to `maxima`; minus
/// infinity if a block has nothing larger. What is not a number is passed over.
///
/// # Panics
/// If `maxima` has not one element a block.
pub fn block_maxima(x: &[f32], maxima: &mut [f32]) {
    assert_eq!(
        maxima.len(),
        x.len().div_ceil(LOGITS_PER_BLOCK),
        "{} elements have one maximum a block",
        x.len()
    );
    largest_of_blocks(InstructionSet::best(), x, maxima);
}

versions! {
    fn largest_of_blocks(x: &[f32], maxima: &mut [f32]) = largest_of_each_block;
}

#[inline(always)]
fn largest_of_each_block(x: &[f32], maxima: &mut [f32]) {
    for (block, maximum) in x.chunks(LOGITS_PER_BLOCK).zip(maxima) {
        let (chunks, rest) = block.as_chunks::<{ 2 * LANES }>();
        let mut lanes = [f32::NEG_INFINITY; 2 * LANES];
        for chunk in chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                // False for what is not a number.
                *lane = if x > *lane { x } else { *lane };
            }
        }
        *maximum = lanes
            .iter()
            .chain(rest)
            .fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    }
}
