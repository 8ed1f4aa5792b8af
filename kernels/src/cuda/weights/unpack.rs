//! From tiles back to numbers: the reference of what the kernels make of packed weights.

use half::f16;

use super::{Format, Packed, Place};
use crate::block::f16_at;

impl Packed {
    /// One weight as the kernels compute it: the nearest f16 to d*q + m.
    ///
    /// # Panics
    /// If it lies outside the matrix.
    pub fn weight(&self, row: usize, col: usize) -> f16 {
        let shape = &self.shape;
        assert!(
            row < shape.rows && col < shape.cols,
            "[{row}, {col}] of {shape:?}"
        );
        let place = Place::of(shape, row, col);
        let (byte, shift) = place.quant(shape.format);
        let bits = self.quants[byte] >> shift;
        let at = place.scale(shape);
        let d = f16_at(&self.scales, at).to_f64();
        let (quant, m) = match shape.format {
            Format::NibbleAffine => (f64::from(bits & 15), f16_at(&self.scales, at + 2).to_f64()),
            Format::NibbleSymmetric => (f64::from(bits & 15) - 8.0, 0.0),
            Format::ByteSymmetric | Format::ByteHalfGroups => (f64::from(bits) - 128.0, 0.0),
        };
        // Exact in f64, so rounded once, as a fused multiplication and addition is.
        f16::from_f64(d * quant + m)
    }

    /// The whole matrix `[rows, cols]`.
    pub fn unpack(&self) -> Vec<f16> {
        let cells =
            (0..self.shape.rows).flat_map(|row| (0..self.shape.cols).map(move |col| (row, col)));
        cells.map(|(row, col)| self.weight(row, col)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Packed;
    use crate::{Dtype, dequantize_row};

    /// A tensor of random bits whose scales are small numbers.
    fn tensor(dtype: Dtype, elements: usize) -> Vec<u8> {
        let mut state = 7u64;
        let mut bits = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as u32
        };
        let mut bytes: Vec<u8> = (0..elements / dtype.block_len() * dtype.block_bytes())
            .map(|_| bits() as u8)
            .collect();
        for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
            let mut scale = |at: usize, size: f32| {
                let value = half::f16::from_f32((bits() % 2001) as f32 / 1000.0 * size - size);
                block[at..at + 2].copy_from_slice(&value.to_le_bytes());
            };
            match dtype {
                Dtype::Q4_0 | Dtype::Q5_0 | Dtype::Q8_0 => scale(0, 0.05),
                Dtype::Q4_1 => {
                    scale(0, 0.05);
                    scale(2, 0.5);
                }
                Dtype::Q4K => {
                    scale(0, 0.002);
                    scale(2, 0.01);
                }
                Dtype::Q6K => scale(208, 0.0005),
                Dtype::F16 => scale(0, 1.0),
                Dtype::F32 => block.copy_from_slice(&0.5f32.to_le_bytes()),
                Dtype::BF16 => block.copy_from_slice(&half::bf16::from_f32(-0.25).to_le_bytes()),
            }
        }
        bytes
    }

    /// What is decoded from the tiles is the tensor, up to the rounding of f16: once of the result,
    /// and for the K formats of each part before it.
    #[test]
    fn tiles_hold_the_tensor() {
        for dtype in Dtype::ALL {
            for (rows, cols) in [(1, 256), (65, 256), (100, 512)] {
                let bytes = tensor(dtype, rows * cols);
                let packed = Packed::from_gguf(dtype, &bytes, rows, cols).expect("packs");
                let mut exact = vec![0.0; rows * cols];
                dequantize_row(dtype, &bytes, &mut exact).expect("well-formed");
                for (at, (got, exact)) in packed.unpack().iter().zip(&exact).enumerate() {
                    let parts = if dtype == Dtype::Q4K { 2.0 } else { 0.0 };
                    let step = if dtype.block_len() == 1 {
                        0.6 / 127.0
                    } else {
                        0.0
                    };
                    let bound = (exact.abs() + parts) / 1024.0 + step + 1e-6;
                    assert!(
                        (got.to_f32() - exact).abs() <= bound,
                        "{dtype:?} {rows} x {cols} at {at}: {got} for {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn tensors_of_another_length_are_refused() {
        let error = Packed::from_gguf(Dtype::Q4_1, &[0; 79], 2, 64).expect_err("refused");
        assert!(error.to_string().contains("79 bytes"), "{error}");
        let error = Packed::from_gguf(Dtype::Q4K, &[0; 144], 1, 32).expect_err("refused");
        assert!(error.to_string().contains("32 columns"), "{error}");
    }
}
