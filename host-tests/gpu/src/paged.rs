//! Caches of random keys and values for the checks and timings of attention.

use crate::random::Random;
use farthing_kernels::cuda::kv_layout::{Half, KvBuffers, KvBytes, KvLayout};
use farthing_kernels::cuda::{CudaError, Device};
use half::f16;

/// Blocks that no sequence has, full of what is no number.
const SPARE_BLOCKS: usize = 2;
/// What tables say beyond a sequence's blocks.
const NO_BLOCK: u32 = u32::MAX;

/// Sequences with their tables, in blocks of random order.
pub struct Paged {
    pub bytes: KvBytes,
    /// `[seqs][blocks_max]`.
    pub tables: Vec<u32>,
    pub blocks_max: usize,
}

/// The same on a device.
pub struct Uploaded<B> {
    keys: B,
    values: B,
    scales: Option<(B, B)>,
    pub tables: B,
}

impl Paged {
    /// As many blocks as the contexts need and some to spare, whatever `layout.blocks` says. What
    /// lies beyond contexts is no number.
    pub fn new(random: &mut Random, layout: KvLayout, contexts: &[u32]) -> Paged {
        let blocks_of = |context: &u32| (*context as usize).div_ceil(layout.block_size);
        let used: usize = contexts.iter().map(blocks_of).sum();
        let blocks_max = contexts.iter().map(blocks_of).max().unwrap_or(0) + 1;
        let layout = KvLayout {
            blocks: used + SPARE_BLOCKS,
            ..layout
        };
        let mut order = shuffled(random, layout.blocks).into_iter();
        let mut bytes = KvBytes::filled(layout, 0xff);
        let mut tables = vec![NO_BLOCK; contexts.len() * blocks_max];
        for (seq, context) in contexts.iter().enumerate() {
            let table = &mut tables[seq * blocks_max..][..blocks_of(context)];
            table.fill_with(|| order.next().unwrap_or(NO_BLOCK));
            for token in 0..*context as usize {
                let block = table[token / layout.block_size] as usize;
                let slot = block * layout.block_size + token % layout.block_size;
                for head in 0..layout.kv_heads {
                    bytes.write(Half::Keys, slot, head, &random.values(layout.head_dim));
                    bytes.write(Half::Values, slot, head, &random.values(layout.head_dim));
                }
            }
        }
        Paged {
            bytes,
            tables,
            blocks_max,
        }
    }

    /// # Errors
    /// The device has not so much memory.
    pub fn upload<D: Device>(&self, device: &mut D) -> Result<Uploaded<D::Buffer>, CudaError> {
        let scales = if self.bytes.key_scales.is_empty() {
            None
        } else {
            Some((
                device.upload(&self.bytes.key_scales)?,
                device.upload(&self.bytes.value_scales)?,
            ))
        };
        Ok(Uploaded {
            keys: device.upload(&self.bytes.keys)?,
            values: device.upload(&self.bytes.values)?,
            scales,
            tables: device.upload(&u32_bytes(&self.tables))?,
        })
    }
}

impl<B> Uploaded<B> {
    pub fn buffers(&self) -> KvBuffers<'_, B> {
        KvBuffers {
            keys: &self.keys,
            values: &self.values,
            scales: self.scales.as_ref().map(|(keys, values)| (keys, values)),
        }
    }
}

/// The numbers below `count` in random order (Fisher and Yates).
pub fn shuffled(random: &mut Random, count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    for last in (1..count).rev() {
        order.swap(last, random.below(last + 1));
    }
    order
}

/// `values` times `factor`, rounded to f16.
pub fn f16_bytes(values: &[f32], factor: f32) -> Vec<u8> {
    let halves = values.iter().map(|x| f16::from_f32(x * factor));
    halves.flat_map(f16::to_le_bytes).collect()
}

/// f16 in bytes, widened.
pub fn f16_values(bytes: &[u8]) -> Vec<f32> {
    let (halves, _) = bytes.as_chunks();
    halves
        .iter()
        .map(|bits| f16::from_le_bytes(*bits).to_f32())
        .collect()
}

pub fn u32_bytes(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

// === For timings ===

/// Random bytes that a large cache is tiled with.
const TILE_BYTES: usize = 64 << 20;

/// One large cache that layouts of every model and kind are laid over, so that it is filled once.
pub struct Expanse<B> {
    keys: B,
    values: B,
    key_scales: B,
    value_scales: B,
    bytes: usize,
}

impl<B> Expanse<B> {
    /// `bytes` of keys and as many of values.
    ///
    /// # Errors
    /// The device has not so much memory.
    pub fn new<D: Device<Buffer = B>>(
        device: &mut D,
        random: &mut Random,
        bytes: usize,
    ) -> Result<Expanse<B>, CudaError> {
        let bytes = bytes.next_multiple_of(TILE_BYTES);
        let tile = f16_bytes(&random.values(TILE_BYTES / 2), 1.0);
        let all = tile.repeat(bytes / TILE_BYTES);
        // One scale for each row of the smallest head, 64 bytes.
        let scales = tile.repeat(bytes.div_ceil(64 * TILE_BYTES / 4));
        Ok(Expanse {
            keys: device.upload(&all)?,
            values: device.upload(&all)?,
            key_scales: device.upload(&scales)?,
            value_scales: device.upload(&scales)?,
            bytes,
        })
    }

    /// `layout` with as many blocks as there is room for.
    pub fn fit(&self, layout: KvLayout) -> KvLayout {
        let block = KvLayout {
            blocks: 1,
            ..layout
        };
        KvLayout {
            blocks: self.bytes / block.bytes(),
            ..layout
        }
    }

    pub fn buffers(&self, layout: &KvLayout) -> KvBuffers<'_, B> {
        KvBuffers {
            keys: &self.keys,
            values: &self.values,
            scales: (layout.scale_bytes() > 0).then_some((&self.key_scales, &self.value_scales)),
        }
    }
}
