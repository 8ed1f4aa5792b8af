//! The multiplication in plain Rust: what the SIMD versions compute, and the fallback elsewhere.

use half::bf16;

use super::{Outputs, Tile};
use crate::activations::Panel;
use crate::block::{BLOCK, SUPER_BLOCK, f16_at};
use crate::layout::{
    BLOCK_QUADS, F16_ROW_BYTES, Layout, NIBBLE_VECTORS, QUAD, TILE_ROWS, U4_GROUP_SCALE_BYTES,
    U4K_SUPER_SCALE_BYTES, U5_BLOCK_VECTORS, U6_BLOCK_VECTORS, U6K_SUPER_SCALE_BYTES,
    U8_GROUP_SCALE_BYTES, U8_OFFSET, VECTOR_BYTES,
};

/// Columns of a half of a block, which has a scale of its own in Q6_K.
const HALF_BLOCK: usize = BLOCK / 2;

/// Sets `sums[row][output]` for each row of the panel.
pub(super) fn multiply(tile: &Tile<'_>, x: &Panel<'_>, sums: &mut Outputs) {
    for (row, sums) in sums[..x.rows.count].iter_mut().enumerate() {
        for (output, sum) in sums.iter_mut().enumerate() {
            *sum = match tile.layout {
                Layout::U4 | Layout::U4K => nibbles(tile, x, row, output),
                Layout::U5 | Layout::U6K | Layout::U8 => signed(tile, x, row, output),
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

/// Layouts `U5`, `U6K` and `U8`: d_w * d_x * sum((u - offset)*x), a group at a time.
fn signed(tile: &Tile<'_>, panel: &Panel<'_>, row: usize, output: usize) -> f32 {
    let (vectors, group_len) = match tile.layout {
        Layout::U5 => (U5_BLOCK_VECTORS, BLOCK),
        Layout::U6K => (U6_BLOCK_VECTORS, HALF_BLOCK),
        _ => (BLOCK_QUADS, BLOCK),
    };
    let mut total = 0.0;
    for (block, weights) in tile.quants.chunks_exact(vectors * VECTOR_BYTES).enumerate() {
        let x = panel.block_quants(block, row);
        let x_scale = panel.scales[block * panel.rows.count + row];
        for (index, x) in x.chunks_exact(group_len).enumerate() {
            let first = index * group_len;
            let products = x.iter().enumerate().map(|(column, x)| {
                signed_weight(tile.layout, weights, output, first + column) * i32::from(*x)
            });
            let dot: i32 = products.sum();
            let group = block * (BLOCK / group_len) + index;
            total += signed_scale(tile, group, output) * (x_scale * dot as f32);
        }
    }
    total
}

/// One output's quant in a column of a block.
fn signed_weight(layout: Layout, block: &[u8], output: usize, column: usize) -> i32 {
    let (quad, lane) = (column / QUAD, output * QUAD + column % QUAD);
    let byte = |vector: usize| block[vector * VECTOR_BYTES + lane];
    let (bits, half) = match layout {
        Layout::U5 => (1, 16),
        Layout::U6K => (2, 32),
        _ => return i32::from(byte(quad)) - U8_OFFSET,
    };
    let packed = byte(quad % NIBBLE_VECTORS);
    let nibble = if quad < NIBBLE_VECTORS {
        packed & 0x0f
    } else {
        packed >> 4
    };
    let run_quads = NIBBLE_VECTORS / bits;
    let (run, place) = (quad / run_quads, quad % run_quads);
    let plane = byte(NIBBLE_VECTORS + run / 2);
    let above = if run.is_multiple_of(2) {
        plane >> 4
    } else {
        plane & 0x0f
    };
    let upper = (above >> (place * bits)) & ((1 << bits) - 1);
    i32::from(nibble | (upper << 4)) - half
}

/// Scale of one output in a group of 32 columns, or of 16 (`U6K`).
fn signed_scale(tile: &Tile<'_>, group: usize, output: usize) -> f32 {
    if tile.layout != Layout::U6K {
        return f16_at(tile.scales, group * U8_GROUP_SCALE_BYTES + output * 2).to_f32();
    }
    let groups = SUPER_BLOCK / HALF_BLOCK;
    let bytes = &tile.scales[group / groups * U6K_SUPER_SCALE_BYTES..];
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
