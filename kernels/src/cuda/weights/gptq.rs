//! GPTQ and AWQ checkpoints: the same 4-bit groups under other orders of nibbles.
//!
//! Sources: AutoGPTQ's `qlinear_cuda` (packed along the inputs, zero points stored one lower) and
//! AutoAWQ's `WQLinear_GEMM` (packed along the outputs, nibbles in the order 0 2 4 6 1 3 5 7).

use half::f16;

use super::pack::Scale;
use super::{Format, Packed, WeightShape};
use crate::KernelError;
use crate::cuda::CudaError;

/// Whose order of nibbles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoint {
    /// `qweight` `[cols / 8, rows]`: nibble i of a word is input 8k + i.
    Gptq,
    /// `qweight` `[cols, rows / 8]`: nibbles of a word are outputs 8n + (0, 2, 4, 6, 1, 3, 5, 7).
    Awq,
}

/// The tensors of a 4-bit layer, as its safetensors file has them.
#[derive(Debug, Clone, Copy)]
pub struct Nibbles<'a> {
    pub checkpoint: Checkpoint,
    pub rows: usize,
    pub cols: usize,
    pub group: usize,
    pub qweight: &'a [u32],
    /// `[cols / group, rows / 8]`.
    pub qzeros: &'a [u32],
    /// `[cols / group, rows]`.
    pub scales: &'a [f16],
}

/// Which nibble of an AWQ word holds an output.
const AWQ_NIBBLE: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

impl Packed {
    /// Packs a layer of a GPTQ or AWQ checkpoint: w = d*(q - zero) = d*q + m with m = -d*zero,
    /// rounded to f16.
    ///
    /// # Errors
    /// The kernels do not take the shape, rows are no multiple of 8, cols none of the group, or a
    /// tensor has not the length of the shape.
    pub fn from_nibbles(layer: &Nibbles<'_>) -> Result<Packed, CudaError> {
        let shape = WeightShape {
            format: Format::NibbleAffine,
            rows: layer.rows,
            cols: layer.cols,
            group: layer.group,
        };
        let mut packed = Packed::zeroed(shape)?;
        layer.check()?;
        let mut quants = vec![0; layer.group];
        for row in 0..layer.rows {
            for group in 0..layer.cols / layer.group {
                let first = group * layer.group;
                for (offset, quant) in quants.iter_mut().enumerate() {
                    *quant = layer.quant(row, first + offset);
                }
                let d = layer.scales[group * layer.rows + row];
                let m = f16::from_f32(-d.to_f32() * layer.zero(row, group));
                packed.write_group(row, first, &quants, Scale { d, m });
            }
        }
        Ok(packed)
    }
}

impl Nibbles<'_> {
    fn check(&self) -> Result<(), CudaError> {
        let shape = |name, value, rule| CudaError::Shape {
            kernel: "4-bit checkpoint",
            name,
            value,
            rule,
        };
        if !self.rows.is_multiple_of(8) {
            return Err(shape("rows", self.rows, "a multiple of 8"));
        }
        if !self.cols.is_multiple_of(self.group) {
            return Err(shape("cols", self.cols, "a multiple of the group"));
        }
        let groups = self.cols / self.group;
        for (actual, expected) in [
            (self.qweight.len() * 4, self.rows * self.cols / 2),
            (self.qzeros.len() * 4, groups * self.rows / 2),
            (self.scales.len() * 2, groups * self.rows * 2),
        ] {
            if actual != expected {
                return Err(KernelError::ByteLength { expected, actual }.into());
            }
        }
        Ok(())
    }

    fn quant(&self, row: usize, col: usize) -> u8 {
        match self.checkpoint {
            Checkpoint::Gptq => nibble(self.qweight[col / 8 * self.rows + row], col % 8),
            Checkpoint::Awq => {
                let word = self.qweight[col * (self.rows / 8) + row / 8];
                nibble(word, AWQ_NIBBLE[row % 8])
            }
        }
    }

    fn zero(&self, row: usize, group: usize) -> f32 {
        let word = self.qzeros[group * (self.rows / 8) + row / 8];
        match self.checkpoint {
            // Four bits wrap: 15 stands for 0.
            Checkpoint::Gptq => f32::from((nibble(word, row % 8) + 1) & 15),
            Checkpoint::Awq => f32::from(nibble(word, AWQ_NIBBLE[row % 8])),
        }
    }
}

fn nibble(word: u32, index: usize) -> u8 {
    (word >> (4 * index)) as u8 & 15
}

#[cfg(test)]
mod tests {
    use super::{Checkpoint, Nibbles};
    use crate::cuda::weights::Packed;
    use half::f16;

    const ROWS: usize = 72;
    const COLS: usize = 256;
    const GROUP: usize = 128;

    fn quant(row: usize, col: usize) -> u32 {
        ((row * 7 + col * 3 + row * col / 5) % 16) as u32
    }

    fn zero(row: usize, group: usize) -> u32 {
        ((row + group * 5) % 16) as u32
    }

    fn scale(row: usize, group: usize) -> f16 {
        f16::from_f32(0.01 + 0.001 * ((row + group) % 9) as f32)
    }

    fn words(count: usize, value: impl Fn(usize, usize) -> u32) -> Vec<u32> {
        let word = |word| {
            (0..8).fold(0, |bits, nibble| {
                bits | (value(word, nibble) << (4 * nibble))
            })
        };
        (0..count).map(word).collect()
    }

    /// Both orders are written here as their projects document them, and read back.
    #[test]
    fn checkpoints_hold_the_layer() {
        let order = [0, 2, 4, 6, 1, 3, 5, 7];
        let groups = COLS / GROUP;
        let scales: Vec<f16> = (0..groups * ROWS)
            .map(|at| scale(at % ROWS, at / ROWS))
            .collect();
        let gptq = words(COLS / 8 * ROWS, |w, n| quant(w % ROWS, w / ROWS * 8 + n));
        let gptq_zeros = words(groups * ROWS / 8, |w, n| {
            zero(w % (ROWS / 8) * 8 + n, w / (ROWS / 8)).wrapping_sub(1) & 15
        });
        let awq = words(COLS * ROWS / 8, |w, n| {
            quant(w % (ROWS / 8) * 8 + order[n], w / (ROWS / 8))
        });
        let awq_zeros = words(groups * ROWS / 8, |w, n| {
            zero(w % (ROWS / 8) * 8 + order[n], w / (ROWS / 8))
        });
        for (checkpoint, qweight, qzeros) in [
            (Checkpoint::Gptq, &gptq, &gptq_zeros),
            (Checkpoint::Awq, &awq, &awq_zeros),
        ] {
            let layer = Nibbles {
                checkpoint,
                rows: ROWS,
                cols: COLS,
                group: GROUP,
                qweight,
                qzeros,
                scales: &scales,
            };
            let packed = Packed::from_nibbles(&layer).expect("packs");
            for row in 0..ROWS {
                for col in 0..COLS {
                    let group = col / GROUP;
                    let d = scale(row, group).to_f32();
                    let exact = d * (quant(row, col) as f32 - zero(row, group) as f32);
                    let bound = d * 16.0 / 1024.0;
                    let got = packed.weight(row, col).to_f32();
                    assert!(
                        (got - exact).abs() <= bound,
                        "{checkpoint:?} [{row}, {col}]"
                    );
                }
            }
            let short = Nibbles {
                qzeros: &qzeros[1..],
                ..layer
            };
            assert!(Packed::from_nibbles(&short).is_err(), "{checkpoint:?}");
            let ragged = Nibbles { rows: 71, ..layer };
            let error = Packed::from_nibbles(&ragged)
                .expect_err("refused")
                .to_string();
            assert!(error.contains("rows = 71"), "{error}");
        }
    }
}
