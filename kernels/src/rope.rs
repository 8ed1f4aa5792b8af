//! Rotary position embedding: pairs of a head's dimensions turn by position * base^(-2i/dim).

use crate::instruction_set::versions;
use crate::{HEAD_DIM_MAX, InstructionSet, KernelError, ROPE_POSITIONS_MAX};

/// Which dimensions of a head make a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeStyle {
    /// 2i and 2i + 1, as GGUF files of the llama architecture are stored.
    Interleaved,
    /// i and i + dim / 2 (NeoX), as qwen2 has it.
    Halves,
}

/// Cosines and sines of every position, computed in f64 once for a model.
pub struct RopeTable {
    head_dim: usize,
    positions: usize,
    /// `[positions, head_dim / 2]`.
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl RopeTable {
    /// A table for heads of `head_dim` (even) dimensions and positions below `positions`.
    ///
    /// # Errors
    /// `head_dim` is odd, zero or above [`HEAD_DIM_MAX`], or `positions` is zero or above
    /// [`ROPE_POSITIONS_MAX`].
    pub fn new(head_dim: usize, base: f32, positions: usize) -> Result<RopeTable, KernelError> {
        if head_dim == 0 || head_dim > HEAD_DIM_MAX || !head_dim.is_multiple_of(2) {
            let (name, max) = ("head_dim (even)", HEAD_DIM_MAX);
            return Err(KernelError::Dimension {
                name,
                value: head_dim,
                max,
            });
        }
        if positions == 0 || positions > ROPE_POSITIONS_MAX {
            let (name, max) = ("positions", ROPE_POSITIONS_MAX);
            return Err(KernelError::Dimension {
                name,
                value: positions,
                max,
            });
        }
        let pairs = head_dim / 2;
        let frequency = |pair: usize| f64::from(base).powf(-2.0 * pair as f64 / head_dim as f64);
        let frequencies: Vec<f64> = (0..pairs).map(frequency).collect();
        let angles = (0..positions)
            .flat_map(|position| frequencies.iter().map(move |f| position as f64 * f));
        let (sines, cosines) = angles
            .map(f64::sin_cos)
            .map(|(sin, cos)| (sin as f32, cos as f32))
            .unzip();
        Ok(RopeTable {
            head_dim,
            positions,
            cosines,
            sines,
        })
    }

    /// Positions that the table has.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// `[positions, head_dim / 2]`.
    pub fn cosines(&self) -> &[f32] {
        &self.cosines
    }

    /// `[positions, head_dim / 2]`.
    pub fn sines(&self) -> &[f32] {
        &self.sines
    }
}

/// Turns every head of `x`, one token's `[heads, head_dim]`, to `position`.
///
/// # Panics
/// If the table is for another head size or ends before `position`, or `x` is no whole number of
/// heads.
pub fn rope(x: &mut [f32], head_dim: usize, position: usize, table: &RopeTable, style: RopeStyle) {
    assert_eq!(
        head_dim, table.head_dim,
        "the table is for heads of this size"
    );
    assert!(
        position < table.positions,
        "position {position} is beyond the table"
    );
    assert!(x.len().is_multiple_of(head_dim), "x is [heads, {head_dim}]");
    let pairs = head_dim / 2;
    let cosines = &table.cosines[position * pairs..][..pairs];
    let sines = &table.sines[position * pairs..][..pairs];
    let set = InstructionSet::best();
    match style {
        RopeStyle::Interleaved => turn_neighbours(set, x, cosines, sines),
        RopeStyle::Halves => turn_halves(set, x, cosines, sines),
    }
}

versions! {
    fn turn_neighbours(x: &mut [f32], cosines: &[f32], sines: &[f32]) = turn_each_neighbours;
}

versions! {
    fn turn_halves(x: &mut [f32], cosines: &[f32], sines: &[f32]) = turn_each_halves;
}

#[inline(always)]
fn turn_each_neighbours(x: &mut [f32], cosines: &[f32], sines: &[f32]) {
    for head in x.chunks_exact_mut(2 * cosines.len()) {
        let (head, _) = head.as_chunks_mut::<2>();
        for ((pair, cos), sin) in head.iter_mut().zip(cosines).zip(sines) {
            *pair = turn(pair[0], pair[1], *cos, *sin);
        }
    }
}

#[inline(always)]
fn turn_each_halves(x: &mut [f32], cosines: &[f32], sines: &[f32]) {
    for head in x.chunks_exact_mut(2 * cosines.len()) {
        let (low, high) = head.split_at_mut(cosines.len());
        for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
            [*low, *high] = turn(*low, *high, *cos, *sin);
        }
    }
}

#[inline(always)]
fn turn(x: f32, y: f32, cos: f32, sin: f32) -> [f32; 2] {
    [x * cos - y * sin, x * sin + y * cos]
}
