//! Where the keys and values of one layer lie: paged, keys and values in a buffer each.
//!
//! A *block* holds `block_size` consecutive tokens of one sequence; a sequence's block table says
//! which blocks are its own. A *slot* is `block * block_size + offset`, the place of one token.
//! Either buffer is `[blocks][kv_heads][block_size][head_dim]`, f16 or i8, so what attention reads
//! of one head is contiguous within a block. With i8 each of the two has a buffer of f32 scales
//! beside it, `[blocks][kv_heads][block_size]`: an element is its integer times the scale, which
//! is the largest magnitude of that token's head over 127.
//!
//! [`KvBytes`] is the same on the host. References read it, and checks write it.

use half::f16;

use super::{Arg, CudaError, Device};

/// How elements are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvKind {
    F16,
    /// Signed bytes with one scale for each token and head.
    I8,
}

/// The dimensions of one layer's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvLayout {
    pub kind: KvKind,
    pub blocks: usize,
    pub kv_heads: usize,
    /// Tokens of a block: 16 or 32.
    pub block_size: usize,
    /// Elements of a head: 64, 96, 128 or 256.
    pub head_dim: usize,
}

/// The largest integer of an i8 cache; -128 is not used.
pub const I8_MAX: f32 = 127.0;
/// Rows (slots of all heads) that a kernel can number.
const ROWS_MAX: usize = u32::MAX as usize;

impl KvKind {
    /// Bytes of one element.
    pub fn element_bytes(self) -> usize {
        match self {
            KvKind::F16 => size_of::<u16>(),
            KvKind::I8 => size_of::<i8>(),
        }
    }
}

impl KvLayout {
    /// Elements of the keys, or of the values, before `slot`'s of `kv_head`.
    pub fn element(&self, slot: usize, kv_head: usize) -> usize {
        self.row(slot, kv_head) * self.head_dim
    }

    /// Rows (one token's of one head) before this one; also the index of its scale.
    pub fn row(&self, slot: usize, kv_head: usize) -> usize {
        let (block, offset) = (slot / self.block_size, slot % self.block_size);
        (block * self.kv_heads + kv_head) * self.block_size + offset
    }

    /// Rows of either buffer.
    pub fn rows(&self) -> usize {
        self.blocks * self.kv_heads * self.block_size
    }

    /// Bytes of the keys, or of the values.
    pub fn bytes(&self) -> usize {
        self.rows() * self.head_dim * self.kind.element_bytes()
    }

    /// Bytes of the scales of the keys, or of the values: none for f16.
    pub fn scale_bytes(&self) -> usize {
        match self.kind {
            KvKind::F16 => 0,
            KvKind::I8 => self.rows() * size_of::<f32>(),
        }
    }

    /// Bytes of everything that one token has in this layer, keys and values.
    pub fn token_bytes(&self) -> usize {
        let scale = match self.kind {
            KvKind::F16 => 0,
            KvKind::I8 => size_of::<f32>(),
        };
        2 * self.kv_heads * (self.head_dim * self.kind.element_bytes() + scale)
    }

    /// Whether the kernels take this layout.
    ///
    /// # Errors
    /// A dimension that they do not; the error names it.
    pub fn check(&self, kernel: &'static str) -> Result<(), CudaError> {
        let refuse = |name, value, rule| {
            Err(CudaError::Shape {
                kernel,
                name,
                value,
                rule,
            })
        };
        if !matches!(self.head_dim, 64 | 96 | 128 | 256) {
            return refuse("head_dim", self.head_dim, "it must be 64, 96, 128 or 256");
        }
        if !matches!(self.block_size, 16 | 32) {
            return refuse("block_size", self.block_size, "it must be 16 or 32");
        }
        if self.kv_heads == 0 || self.kv_heads > u16::MAX as usize {
            return refuse("kv_heads", self.kv_heads, "it must be 1 to 65,535");
        }
        let rows = self.blocks.checked_mul(self.kv_heads * self.block_size);
        if rows.is_none_or(|rows| rows == 0 || rows > ROWS_MAX) {
            return refuse("blocks", self.blocks, "its slots of all heads must fit u32");
        }
        Ok(())
    }
}

// === On a device ===

/// The buffers of one layer's cache.
pub struct KvBuffers<'a, B> {
    pub keys: &'a B,
    pub values: &'a B,
    /// f32 scales of keys and values: `Some` for i8.
    pub scales: Option<(&'a B, &'a B)>,
}

impl<B> Clone for KvBuffers<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for KvBuffers<'_, B> {}

impl<'a, B> KvBuffers<'a, B> {
    /// Whether every buffer is as long as the layout asks for.
    ///
    /// # Errors
    /// One is shorter, or not there.
    pub fn check<D: Device<Buffer = B>>(
        &self,
        device: &D,
        layout: &KvLayout,
        kernel: &'static str,
    ) -> Result<(), CudaError> {
        let len = |buffer: Option<&B>| buffer.map_or(0, |buffer| device.len(buffer));
        for (name, actual, needed) in [
            ("keys", device.len(self.keys), layout.bytes()),
            ("values", device.len(self.values), layout.bytes()),
            (
                "key_scales",
                len(self.scales.map(|scales| scales.0)),
                layout.scale_bytes(),
            ),
            (
                "value_scales",
                len(self.scales.map(|scales| scales.1)),
                layout.scale_bytes(),
            ),
        ] {
            if actual < needed {
                return Err(CudaError::BufferTooShort {
                    kernel,
                    name,
                    actual,
                    needed,
                });
            }
        }
        Ok(())
    }

    /// Keys, values, scales of keys and of values, as kernels take them.
    pub fn arguments(&self) -> [Arg<'a, B>; 4] {
        let (key_scales, value_scales) = match self.scales {
            Some((keys, values)) => (Arg::Buffer(keys), Arg::Buffer(values)),
            None => (Arg::Null, Arg::Null),
        };
        [
            Arg::Buffer(self.keys),
            Arg::Buffer(self.values),
            key_scales,
            value_scales,
        ]
    }
}

// === On the host ===

/// Keys or values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    Keys,
    Values,
}

/// One layer's cache on the host, byte for byte what a device holds.
#[derive(Debug, Clone, PartialEq)]
pub struct KvBytes {
    pub layout: KvLayout,
    pub keys: Vec<u8>,
    pub values: Vec<u8>,
    pub key_scales: Vec<u8>,
    pub value_scales: Vec<u8>,
}

impl KvBytes {
    /// A cache of a layout that [`KvLayout::check`] accepts; every byte is `byte`.
    pub fn filled(layout: KvLayout, byte: u8) -> KvBytes {
        KvBytes {
            layout,
            keys: vec![byte; layout.bytes()],
            values: vec![byte; layout.bytes()],
            key_scales: vec![byte; layout.scale_bytes()],
            value_scales: vec![byte; layout.scale_bytes()],
        }
    }

    /// Stores one token's head, rounded to the kind.
    ///
    /// # Panics
    /// If slot or head are out of range or `head` is not `head_dim` long.
    pub fn write(&mut self, half: Half, slot: usize, kv_head: usize, head: &[f32]) {
        assert_eq!(head.len(), self.layout.head_dim, "one head");
        let (first, row) = (
            self.layout.element(slot, kv_head),
            self.layout.row(slot, kv_head),
        );
        let (elements, scales) = match half {
            Half::Keys => (&mut self.keys, &mut self.key_scales),
            Half::Values => (&mut self.values, &mut self.value_scales),
        };
        match self.layout.kind {
            KvKind::F16 => {
                for (index, x) in head.iter().enumerate() {
                    let bits = f16::from_f32(*x).to_le_bytes();
                    elements[2 * (first + index)..][..2].copy_from_slice(&bits);
                }
            }
            KvKind::I8 => {
                let (integers, scale) = quantize_head(head);
                for (index, integer) in integers.iter().enumerate() {
                    elements[first + index] = *integer as u8;
                }
                scales[4 * row..][..4].copy_from_slice(&scale.to_le_bytes());
            }
        }
    }

    /// One token's head as attention sees it.
    ///
    /// # Panics
    /// If slot or head are out of range.
    pub fn read(&self, half: Half, slot: usize, kv_head: usize) -> Vec<f32> {
        let (elements, scales) = match half {
            Half::Keys => (&self.keys, &self.key_scales),
            Half::Values => (&self.values, &self.value_scales),
        };
        let first = self.layout.element(slot, kv_head);
        let bytes = first * self.layout.kind.element_bytes()
            ..(first + self.layout.head_dim) * self.layout.kind.element_bytes();
        match self.layout.kind {
            KvKind::F16 => elements[bytes]
                .as_chunks()
                .0
                .iter()
                .map(|bits| f16::from_le_bytes(*bits).to_f32())
                .collect(),
            KvKind::I8 => {
                let scale = scales.as_chunks().0[self.layout.row(slot, kv_head)];
                let scale = f32::from_le_bytes(scale);
                let integers = elements[bytes].iter().map(|byte| *byte as i8);
                integers.map(|integer| f32::from(integer) * scale).collect()
            }
        }
    }
}

/// One token's head as integers and their scale; a head of zeros has scale zero.
pub fn quantize_head(head: &[f32]) -> (Vec<i8>, f32) {
    let largest = head.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let scale = largest / I8_MAX;
    let inverse = if largest > 0.0 { I8_MAX / largest } else { 0.0 };
    let integers = head
        .iter()
        .map(|x| (x * inverse).round_ties_even() as i8)
        .collect();
    (integers, scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: KvLayout = KvLayout {
        kind: KvKind::I8,
        blocks: 3,
        kv_heads: 2,
        block_size: 16,
        head_dim: 64,
    };

    #[test]
    fn a_head_is_contiguous_within_a_block() {
        assert_eq!(LAYOUT.row(0, 0), 0);
        assert_eq!(LAYOUT.row(1, 0), 1);
        assert_eq!(LAYOUT.row(0, 1), 16);
        assert_eq!(LAYOUT.row(16, 0), 32);
        assert_eq!(LAYOUT.element(17, 1), (32 + 16 + 1) * 64);
        assert_eq!(LAYOUT.bytes(), 3 * 2 * 16 * 64);
        assert_eq!(LAYOUT.scale_bytes(), 3 * 2 * 16 * 4);
        assert_eq!(LAYOUT.token_bytes(), 2 * 2 * (64 + 4));
    }

    #[test]
    fn what_is_written_is_read() {
        for (kind, tolerance) in [(KvKind::F16, 1e-3), (KvKind::I8, 1e-2)] {
            let layout = KvLayout { kind, ..LAYOUT };
            let mut cache = KvBytes::filled(layout, 0xff);
            let head: Vec<f32> = (0..64).map(|x| (x as f32 - 31.0) / 32.0).collect();
            let zeros = vec![0.0; 64];
            cache.write(Half::Keys, 33, 1, &head);
            cache.write(Half::Values, 33, 1, &zeros);
            for (got, wanted) in cache.read(Half::Keys, 33, 1).iter().zip(&head) {
                assert!((got - wanted).abs() < tolerance, "{kind:?} {got} {wanted}");
            }
            assert_eq!(cache.read(Half::Values, 33, 1), zeros);
        }
    }

    #[test]
    fn other_layouts_are_refused_by_name() {
        for (name, layout) in [
            (
                "head_dim",
                KvLayout {
                    head_dim: 80,
                    ..LAYOUT
                },
            ),
            (
                "block_size",
                KvLayout {
                    block_size: 8,
                    ..LAYOUT
                },
            ),
            (
                "kv_heads",
                KvLayout {
                    kv_heads: 0,
                    ..LAYOUT
                },
            ),
            (
                "blocks",
                KvLayout {
                    blocks: 0,
                    ..LAYOUT
                },
            ),
            (
                "blocks",
                KvLayout {
                    blocks: usize::MAX,
                    ..LAYOUT
                },
            ),
        ] {
            match layout.check("attention") {
                Err(CudaError::Shape { name: refused, .. }) => assert_eq!(refused, name),
                other => panic!("{name}: {other:?}"),
            }
        }
        assert_eq!(LAYOUT.check("attention"), Ok(()));
    }
}
