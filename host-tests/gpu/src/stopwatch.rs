//! Timing on a device.

use crate::random::Random;
use farthing_kernels::cuda::matmul::{HalfFormat, Library, Matmul, MatmulShape, Part, SumFormat};
use farthing_kernels::cuda::{Card, CudaError, Device};

/// Operands that are rotated are so many times larger than the cache, together.
const CACHES: usize = 4;
/// Most copies of an operand that is rotated.
const COPIES_MAX: usize = 64;
/// Random bytes that large operands are tiled with: more than a cache holds.
const TILE_BYTES: usize = 64 << 20;

/// A device that can time what runs on it.
pub trait Stopwatch: Device {
    /// Median microseconds of one call. The `copies` calls, each told its number, are recorded
    /// once and replayed many times back to back, so that the gaps between launches do not count;
    /// calls should rotate among operands that do not fit in the cache together.
    ///
    /// # Errors
    /// A call fails, or the device does.
    fn time_us(
        &mut self,
        copies: usize,
        call: &mut dyn FnMut(&mut Self, usize) -> Result<(), CudaError>,
    ) -> Result<f64, CudaError>;

    /// Median microseconds of the vendor's product of a dense bf16 matrix of `outputs x inputs`
    /// with so many rows, if the device has such a peer and its library is there.
    ///
    /// # Errors
    /// The library refuses the shape, or the device fails.
    fn peer_matmul_us(
        &mut self,
        _rows: usize,
        _outputs: usize,
        _inputs: usize,
    ) -> Result<Option<f64>, CudaError> {
        Ok(None)
    }
}

impl Stopwatch for Card {
    fn time_us(
        &mut self,
        copies: usize,
        call: &mut dyn FnMut(&mut Self, usize) -> Result<(), CudaError>,
    ) -> Result<f64, CudaError> {
        let copies = copies.max(1);
        let mut all = |card: &mut Card| (0..copies).try_for_each(|copy| call(card, copy));
        // The first time loads kernels and chooses algorithms, which cannot be recorded.
        all(self)?;
        self.wait()?;
        let times = self.replays_us(&mut all)?;
        Ok(median(&times) / copies as f64)
    }

    fn peer_matmul_us(
        &mut self,
        rows: usize,
        outputs: usize,
        inputs: usize,
    ) -> Result<Option<f64>, CudaError> {
        if self.library() == Library::Absent {
            return Ok(None);
        }
        let shape = MatmulShape {
            format: HalfFormat::Bf16,
            sums: SumFormat::Half,
            rows,
            outputs,
            inputs,
        };
        let copies = copies(self, 2 * outputs * inputs);
        let mut random = Random::new(0);
        let x = self.upload(&bf16_bytes(&mut random, rows * inputs))?;
        let out = self.filled(2 * rows * outputs, 0xff)?;
        let tile = bf16_bytes(&mut random, outputs * inputs);
        let weights: Vec<_> = (0..copies)
            .map(|_| self.upload(&tile))
            .collect::<Result<_, _>>()?;
        self.time_us(copies, &mut |card, copy| {
            card.matmul(&Matmul {
                shape,
                x: Part::whole(&x),
                weights: Part::whole(&weights[copy]),
                out: Part::whole(&out),
            })
        })
        .map(Some)
    }
}

/// How many copies of an operand of so many bytes to rotate, so that none is in the cache when its
/// turn comes.
pub fn copies(device: &impl Device, bytes: usize) -> usize {
    let cache = device.properties().l2_bytes;
    (CACHES * cache).div_ceil(bytes.max(1)).clamp(1, COPIES_MAX)
}

/// So many random bf16 from -1 to 1, the same ones again and again if they are very many.
pub fn bf16_bytes(random: &mut Random, count: usize) -> Vec<u8> {
    tiled_bf16_bytes(random, count, TILE_BYTES / 2)
}

fn tiled_bf16_bytes(random: &mut Random, count: usize, tile_count: usize) -> Vec<u8> {
    let tile: Vec<u8> = (0..count.min(tile_count))
        .flat_map(|_| ((random.value().to_bits() >> 16) as u16).to_le_bytes())
        .collect();
    let mut bytes = Vec::with_capacity(2 * count);
    while bytes.len() < 2 * count {
        let rest = 2 * count - bytes.len();
        bytes.extend_from_slice(&tile[..rest.min(tile.len())]);
    }
    bytes
}

/// The middle of the values; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[length / 2],
        length => (sorted[length / 2 - 1] + sorted[length / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::{median, tiled_bf16_bytes};
    use crate::random::Random;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn random_bf16_are_finite_and_tiled() {
        let bytes = tiled_bf16_bytes(&mut Random::new(7), 2_003, 1_000);
        assert_eq!(bytes.len(), 2 * 2_003);
        assert_eq!(bytes[2_000..4_000], bytes[..2_000]);
        assert_eq!(bytes[4_000..], bytes[..6]);
        for pair in bytes.chunks_exact(2) {
            let bits = u32::from(u16::from_le_bytes([pair[0], pair[1]])) << 16;
            assert!(f32::from_bits(bits).abs() <= 1.0);
        }
    }
}
