//! Rewrites GGML rows as tiles of sixteen interleaved rows (see [`crate::layout`]).

use half::f16;

use crate::Dtype;
use crate::block::{self, BLOCK, Q4K, Q6K, SUPER_BLOCK, f16_at};
use crate::layout::{
    BLOCK_QUADS, F16_ROW_BYTES, Layout, NIBBLE_VECTORS, QUAD, TILE_ROWS, U4_GROUP_SCALE_BYTES,
    U4K_SUPER_SCALE_BYTES, U5_BLOCK_VECTORS, U6_BLOCK_VECTORS, U6K_SUPER_SCALE_BYTES,
    U8_GROUP_SCALE_BYTES, U8_OFFSET, VECTOR_BYTES,
};

/// The layout that holds `bytes` of this format without loss.
pub(crate) fn layout_of(dtype: Dtype, bytes: &[u8]) -> Layout {
    match dtype {
        Dtype::F32 => Layout::F32,
        Dtype::F16 => Layout::F16,
        Dtype::BF16 => Layout::BF16,
        Dtype::Q4_1 => Layout::U4,
        // -8d is exact in f16 unless it overflows, which no real model comes near.
        Dtype::Q4_0 => {
            let mut blocks = bytes.chunks_exact(Dtype::Q4_0.block_bytes());
            let fits = blocks.all(|block| q4_0_min(f16_at(block, 0)).is_finite());
            if fits { Layout::U4 } else { Layout::U8 }
        }
        Dtype::Q5_0 => Layout::U5,
        Dtype::Q8_0 => Layout::U8,
        Dtype::Q4K => Layout::U4K,
        Dtype::Q6K => Layout::U6K,
    }
}

/// The minimum that turns w = d*(q - 8) into w = d*q + m.
fn q4_0_min(d: f16) -> f16 {
    f16::from_f32(d.to_f32() * -8.0)
}

/// One tile's part of a packed matrix, and the row of it that is being written.
pub(crate) struct TileRow<'a> {
    pub quants: &'a mut [u8],
    pub scales: &'a mut [u8],
    pub row: usize,
}

impl TileRow<'_> {
    /// Writes one row, given as whole blocks of `dtype`, into its lanes.
    pub fn write(&mut self, layout: Layout, dtype: Dtype, bytes: &[u8]) {
        for (index, block) in bytes.chunks_exact(dtype.block_bytes()).enumerate() {
            match dtype {
                Dtype::F32 | Dtype::F16 | Dtype::BF16 => self.write_element(index, block),
                Dtype::Q4_0 if layout == Layout::U4 => {
                    let d = f16_at(block, 0);
                    self.write_u4(index, d, q4_0_min(d), &block[2..]);
                }
                Dtype::Q4_0 => self.write_q4_0_as_u8(index, block),
                Dtype::Q4_1 => {
                    self.write_u4(index, f16_at(block, 0), f16_at(block, 2), &block[4..]);
                }
                Dtype::Q5_0 => self.write_q5_0(index, block),
                Dtype::Q8_0 => self.write_q8_0(index, block),
                Dtype::Q4K => self.write_q4_k(index, &Q4K::read(block)),
                Dtype::Q6K => self.write_q6_k(index, &Q6K::read(block)),
            }
        }
    }

    fn write_element(&mut self, col: usize, element: &[u8]) {
        let at = (col * TILE_ROWS + self.row) * element.len();
        self.quants[at..at + element.len()].copy_from_slice(element);
    }

    /// Q4_0 and Q4_1 have the nibbles in quad order already: columns 0..16 low, 16..32 high.
    fn write_u4(&mut self, group: usize, d: f16, min: f16, packed: &[u8]) {
        self.write_f16(group * U4_GROUP_SCALE_BYTES, d);
        self.write_f16(group * U4_GROUP_SCALE_BYTES + F16_ROW_BYTES, min);
        self.write_quads(group * NIBBLE_VECTORS, packed);
    }

    fn write_q4_0_as_u8(&mut self, group: usize, block: &[u8]) {
        let mut quants = [0; BLOCK];
        block::nibbles(&block[2..], &mut quants);
        self.write_f16(group * U8_GROUP_SCALE_BYTES, f16_at(block, 0));
        self.write_quads(
            group * BLOCK_QUADS,
            &quants.map(|quant| offset(quant as i8 - 8, U8_OFFSET)),
        );
    }

    fn write_q8_0(&mut self, group: usize, block: &[u8]) {
        let mut quants = [0; BLOCK];
        let d = block::q8_0(block, &mut quants);
        self.write_f16(group * U8_GROUP_SCALE_BYTES, d);
        self.write_quads(
            group * BLOCK_QUADS,
            &quants.map(|quant| offset(quant, U8_OFFSET)),
        );
    }

    fn write_q5_0(&mut self, group: usize, block: &[u8]) {
        let mut quants = [0; BLOCK];
        let d = block::q5_0(block, &mut quants);
        self.write_f16(group * U8_GROUP_SCALE_BYTES, d);
        let quants = quants.map(|quant| offset(quant, 16));
        self.write_planes::<1>(group * U5_BLOCK_VECTORS, &quants);
    }

    fn write_q4_k(&mut self, index: usize, block: &Q4K) {
        let scales_at = index * U4K_SUPER_SCALE_BYTES;
        self.write_f16(scales_at, block.d);
        self.write_f16(scales_at + F16_ROW_BYTES, block.d_min);
        let groups = SUPER_BLOCK / BLOCK;
        for (group, quants) in block.quants.chunks_exact(BLOCK).enumerate() {
            let at = scales_at + 2 * F16_ROW_BYTES + group * 2 * TILE_ROWS + self.row;
            self.scales[at] = block.scales[group];
            self.scales[at + TILE_ROWS] = block.mins[group];
            let packed = pack_nibbles(quants);
            self.write_quads((index * groups + group) * NIBBLE_VECTORS, &packed);
        }
    }

    fn write_q6_k(&mut self, index: usize, block: &Q6K) {
        let scales_at = index * U6K_SUPER_SCALE_BYTES;
        self.write_f16(scales_at, block.d);
        for (group, &scale) in block.scales.iter().enumerate() {
            self.scales[scales_at + F16_ROW_BYTES + group * TILE_ROWS + self.row] = scale as u8;
        }
        let quants = block.quants.map(|quant| offset(quant, 32));
        let (groups, _) = quants.as_chunks::<BLOCK>();
        for (group, quants) in groups.iter().enumerate() {
            let group = index * (SUPER_BLOCK / BLOCK) + group;
            self.write_planes::<2>(group * U6_BLOCK_VECTORS, quants);
        }
    }

    /// Nibbles, then what has the `BITS` bits above them: as many planes, in each a nibble for
    /// every run of quads.
    fn write_planes<const BITS: usize>(&mut self, vector: usize, quants: &[u8; BLOCK]) {
        self.write_quads(vector, &pack_nibbles(&quants.map(|quant| quant & 0x0f)));
        let run_quads = NIBBLE_VECTORS / BITS;
        let mut planes = [[0; QUAD]; 2];
        for (index, quant) in quants.iter().enumerate() {
            let (quad, byte) = (index / QUAD, index % QUAD);
            let (run, place) = (quad / run_quads, quad % run_quads);
            let bit = if run.is_multiple_of(2) { 4 } else { 0 } + place * BITS;
            planes[run / 2][byte] |= (quant >> 4) << bit;
        }
        self.write_quads(vector + NIBBLE_VECTORS, planes[..BITS].as_flattened());
    }

    /// Spreads consecutive quads over this row's lane of consecutive vectors.
    fn write_quads(&mut self, vector: usize, bytes: &[u8]) {
        let lane = self.row * QUAD;
        let vectors = self.quants[vector * VECTOR_BYTES..].chunks_exact_mut(VECTOR_BYTES);
        for (vector, quad) in vectors.zip(bytes.chunks_exact(QUAD)) {
            vector[lane..lane + QUAD].copy_from_slice(quad);
        }
    }

    fn write_f16(&mut self, at: usize, value: f16) {
        let at = at + self.row * 2;
        self.scales[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
}

/// A signed quant as it is stored, higher by half of what its bits hold.
fn offset(quant: i8, by: i32) -> u8 {
    (i32::from(quant) + by) as u8
}

/// The first half of 32 quants low, the second high.
fn pack_nibbles(quants: &[u8]) -> [u8; BLOCK / 2] {
    let (low, high) = quants.split_at(BLOCK / 2);
    let mut packed = [0; BLOCK / 2];
    for ((packed, low), high) in packed.iter_mut().zip(low).zip(high) {
        *packed = low | (high << 4);
    }
    packed
}
