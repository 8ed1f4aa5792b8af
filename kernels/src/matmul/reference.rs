//! The multiplication in plain Rust: what the SIMD versions compute, and the fallback elsewhere.

use half::bf16;

use super::{Outputs, Tile};
use crate::activations::Panel;
use crate::block::{BLOCK, SUPER_BLOCK, f16_at};
use crate::layout::{
    F16_ROW_BYTES, Layout, QUAD, TILE_ROWS, U4_GROUP_SCALE_BYTES, U4K_SUPER_SCALE_BYTES,
    U8_GROUP_SCALE_BYTES, U8K_SUPER_SCALE_BYTES, VECTOR_BYTES,
};

/// Vectors of 32 columns of nibbles: each has one quad in the low and one in the high half.
const NIBBLE_VECTORS: usize = BLOCK / QUAD / 2;

/// Sets `sums[row][output]` for each row of the panel.
pub(super) fn multiply(tile: &Tile<'_>, x: &Panel<'_>, sums: &mut Outputs) {
    for (row, sums) in sums[..x.rows.count].iter_mut().enumerate() {
        for (output, sum) in sums.iter_mut().enumerate() {
            *sum = match tile.layout {
                Layout::U4 | Layout::U4K => nibbles(tile, x, row, output),
                Layout::U8 | Layout::U8K => bytes(tile, x, row, output),
                Layout::F32 | Layout::F16 | Layout::BF16 => dense(tile, x, row, output),
            };
        }
    }
}

/// Layouts `U4` and `U4K`: d_w * d_x * sum(u*x) + m_w * d_x * sum(x), a group of 32 at a time.
fn nibbles(tile: &Tile<'_>, panel: &Panel<'_>, row: usize, output: usize) -> f32 {
    let groups = tile.quants.chunks_exact(NIBBLE_VECTORS * VECTOR_BYTES);
    let mut total = 0.0;
    for (group, weights) in groups.enumerate() {
        let x = panel.block_quants(group, row);
        let mut dot = 0;
        for (index, vector) in weights.chunks_exact(VECTOR_BYTES).enumerate() {
            for (column, &byte) in vector[output * QUAD..][..QUAD].iter().enumerate() {
                let at = index * QUAD + column;
                dot += i32::from(byte & 0x0f) * i32::from(x[at]);
                dot += i32::from(byte >> 4) * i32::from(x[at + BLOCK / 2]);
            }
        }
        let (scale, min) = nibble_scale(tile, group, output);
        let at = group * panel.rows.count + row;
        total += scale * (panel.scales[at] * dot as f32);
        total += min * panel.sums[at];
    }
    total
}

/// Scale and minimum of one output in a group of 32 columns.
fn nibble_scale(tile: &Tile<'_>, group: usize, output: usize) -> (f32, f32) {
    let pair = |bytes: &[u8]| {
        let d = f16_at(bytes, output * 2).to_f32();
        (d, f16_at(bytes, F16_ROW_BYTES + output * 2).to_f32())
    };
    if tile.layout == Layout::U4 {
        return pair(&tile.scales[group * U4_GROUP_SCALE_BYTES..]);
    }
    let groups = SUPER_BLOCK / BLOCK;
    let bytes = &tile.scales[group / groups * U4K_SUPER_SCALE_BYTES..];
    let (d, d_min) = pair(bytes);
    let at = 2 * F16_ROW_BYTES + group % groups * 2 * TILE_ROWS + output;
    (
        d * f32::from(bytes[at]),
        -(d_min * f32::from(bytes[at + TILE_ROWS])),
    )
}

/// Layouts `U8` and `U8K`: d_w * d_x * (sum(u*x) - 128 * sum(x)), a group at a time.
fn bytes(tile: &Tile<'_>, panel: &Panel<'_>, row: usize, output: usize) -> f32 {
    let group_len = if tile.layout == Layout::U8 {
        BLOCK
    } else {
        BLOCK / 2
    };
    let half_blocks = group_len / (BLOCK / 2);
    let groups = tile.quants.chunks_exact(group_len / QUAD * VECTOR_BYTES);
    let mut total = 0.0;
    let rows = panel.rows.count;
    for (group, weights) in groups.enumerate() {
        let (block, column) = (group * group_len / BLOCK, group * group_len % BLOCK);
        let x = &panel.block_quants(block, row)[column..][..group_len];
        let halves = group * half_blocks..(group + 1) * half_blocks;
        let mut dot: i32 = halves
            .map(|half| panel.half_offsets[half * rows + row])
            .sum();
        for (vector, x) in weights.chunks_exact(VECTOR_BYTES).zip(x.chunks_exact(QUAD)) {
            for (&byte, &x) in vector[output * QUAD..].iter().zip(x) {
                dot += i32::from(byte) * i32::from(x);
            }
        }
        let x_scale = panel.scales[block * rows + row];
        total += byte_scale(tile, group, output) * (x_scale * dot as f32);
    }
    total
}

/// Scale of one output in a group of 32 (`U8`) or 16 (`U8K`) columns.
fn byte_scale(tile: &Tile<'_>, group: usize, output: usize) -> f32 {
    if tile.layout == Layout::U8 {
        return f16_at(tile.scales, group * U8_GROUP_SCALE_BYTES + output * 2).to_f32();
    }
    let groups = SUPER_BLOCK / (BLOCK / 2);
    let bytes = &tile.scales[group / groups * U8K_SUPER_SCALE_BYTES..];
    let scale = bytes[F16_ROW_BYTES + group % groups * TILE_ROWS + output] as i8;
    f16_at(bytes, output * 2).to_f32() * f32::from(scale)
}

/// Weights that are not quantized meet activations that are not either.
fn dense(tile: &Tile<'_>, panel: &Panel<'_>, row: usize, output: usize) -> f32 {
    let weight = |col: usize| {
        let index = col * TILE_ROWS + output;
        match tile.layout {
            Layout::F16 => f16_at(tile.quants, index * 2).to_f32(),
            Layout::BF16 => {
                let bytes = [tile.quants[index * 2], tile.quants[index * 2 + 1]];
                bf16::from_le_bytes(bytes).to_f32()
            }
            _ => {
                let bytes = &tile.quants[index * 4..][..4];
                f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
            }
        }
    };
    panel.values[row * panel.blocks * BLOCK..][..panel.cols]
        .iter()
        .enumerate()
        .fold(0.0, |sum, (col, x)| sum + weight(col) * x)
}
