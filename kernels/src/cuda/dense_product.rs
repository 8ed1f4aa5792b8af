//! Weights times tokens by a library of dense products, cuBLASLt on a card: the road for what our
//! kernels do not take ([`super::multiply`] chooses).
//!
//! Packed weights become f16 by our own kernel first ([`super::dequantize`]), the same numbers that
//! our products multiply with. The library leaves f32 sums, which a kernel of ours stores
//! ([`super::store_sums`]). Both pass through memory in *bands* of outputs and of tokens, so that
//! the memory they take is bounded; each weight is unpacked once.

use half::f16;

use super::dequantize;
use super::matmul::{HalfFormat, Matmul, MatmulShape, PART_ALIGNMENT, Part, SumFormat};
use super::product::Store;
use super::store_sums;
use super::weights::{DeviceWeights, WeightShape};
use super::{CudaError, Device};

/// Most bytes of unpacked weights of a band, and of its sums.
const DENSE_BYTES_MAX: usize = 128 << 20;
const SUMS_BYTES_MAX: usize = 256 << 20;
/// Most tokens of a band: far more than the library needs to be at its best.
const BAND_TOKENS_MAX: usize = 4_096;
/// Bands are multiples of so many outputs or tokens, so that each begins where a part may.
const BAND_STEP: usize = 128;

/// f16 weights `[rows, cols]` as they are, of any shape.
pub struct DenseWeights<B> {
    pub rows: usize,
    pub cols: usize,
    pub values: B,
}

impl<B> DenseWeights<B> {
    /// Copies f16 weights `[rows, cols]` to a device.
    ///
    /// # Errors
    /// There are not so many values, or the device has not so much memory.
    pub fn upload<D: Device<Buffer = B>>(
        device: &mut D,
        values: &[f16],
        rows: usize,
        cols: usize,
    ) -> Result<DenseWeights<B>, CudaError> {
        WeightMatrix::Dense { rows, cols }.check()?;
        if values.len() != rows * cols {
            return Err(CudaError::BufferTooShort {
                kernel: "dense weights",
                name: "values",
                actual: 2 * values.len(),
                needed: 2 * rows * cols,
            });
        }
        let bytes: Vec<u8> = values.iter().flat_map(|w| w.to_le_bytes()).collect();
        Ok(DenseWeights {
            rows,
            cols,
            values: device.upload(&bytes)?,
        })
    }
}

/// The weights of a product on a device.
pub enum Weights<'a, B> {
    Packed(&'a DeviceWeights<B>),
    Dense(&'a DenseWeights<B>),
}

// Not derived: that would ask the same of the buffers.
impl<B> Clone for Weights<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Weights<'_, B> {}

impl<B> Weights<'_, B> {
    pub fn matrix(&self) -> WeightMatrix {
        match self {
            Weights::Packed(weights) => WeightMatrix::Packed(weights.shape),
            Weights::Dense(weights) => WeightMatrix::Dense {
                rows: weights.rows,
                cols: weights.cols,
            },
        }
    }
}

/// What a matrix of weights is, apart from its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightMatrix {
    Packed(WeightShape),
    /// f16.
    Dense {
        rows: usize,
        cols: usize,
    },
}

impl WeightMatrix {
    /// Outputs.
    pub fn rows(&self) -> usize {
        match self {
            WeightMatrix::Packed(shape) => shape.rows,
            WeightMatrix::Dense { rows, .. } => *rows,
        }
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        match self {
            WeightMatrix::Packed(shape) => shape.cols,
            WeightMatrix::Dense { cols, .. } => *cols,
        }
    }

    /// Whether there can be such a matrix on a device.
    ///
    /// # Errors
    /// Names the dimension that is wrong.
    pub fn check(&self) -> Result<(), CudaError> {
        let (rows, cols) = match self {
            WeightMatrix::Packed(shape) => return shape.check(),
            WeightMatrix::Dense { rows, cols } => (*rows, *cols),
        };
        let most = [
            ("rows", rows, crate::MATRIX_ROWS_MAX, "1 to 4194304"),
            ("cols", cols, crate::MATRIX_COLS_MAX, "1 to 262144"),
        ];
        for (name, value, max, rule) in most {
            if value == 0 || value > max {
                return Err(CudaError::Shape {
                    kernel: "dense weights",
                    name,
                    value,
                    rule,
                });
            }
        }
        Ok(())
    }
}

/// The most that a band has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub dense_bytes: usize,
    pub sums_bytes: usize,
    pub tokens: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            dense_bytes: DENSE_BYTES_MAX,
            sums_bytes: SUMS_BYTES_MAX,
            tokens: BAND_TOKENS_MAX,
        }
    }
}

/// How a product is cut into bands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    pub band_rows: usize,
    pub band_tokens: usize,
    /// Where the sums begin in the workspace, behind the unpacked weights.
    pub sums_offset: usize,
    pub workspace_bytes: usize,
}

impl Plan {
    /// Bands of at least 128 outputs and tokens and otherwise within the limits.
    ///
    /// # Errors
    /// There can be no such matrix.
    pub fn new(matrix: &WeightMatrix, tokens: usize, limits: Limits) -> Result<Plan, CudaError> {
        matrix.check()?;
        let band_tokens = band(tokens, limits.tokens);
        let band_rows = (limits.dense_bytes / (2 * matrix.cols()))
            .min(limits.sums_bytes / (4 * band_tokens))
            .min(store_sums::BAND_COLS_MAX);
        let band_rows = band(matrix.rows(), band_rows);
        let dense_bytes = match matrix {
            WeightMatrix::Packed(shape) => 2 * band_rows * shape.cols,
            WeightMatrix::Dense { .. } => 0,
        };
        let sums_offset = dense_bytes.next_multiple_of(PART_ALIGNMENT);
        Ok(Plan {
            band_rows,
            band_tokens,
            sums_offset,
            workspace_bytes: sums_offset + 4 * band_rows * band_tokens,
        })
    }
}

/// All of them, or a multiple of the step.
fn band(count: usize, most: usize) -> usize {
    let most = (most / BAND_STEP * BAND_STEP).max(BAND_STEP);
    count.clamp(1, most)
}

/// The operands of a product.
pub struct Operands<'a, B> {
    pub weights: Weights<'a, B>,
    /// f16 `[tokens, cols]`.
    pub x: &'a B,
    pub tokens: usize,
    /// f32 `[rows]`.
    pub bias: Option<&'a B>,
    /// f16 or f32 `[tokens, rows]`.
    pub out: &'a B,
    pub store: Store,
    pub workspace: &'a B,
}

impl<B> Operands<'_, B> {
    /// Queues the product.
    ///
    /// # Errors
    /// The library is not there or refuses, or a buffer is too short.
    pub fn run<D: Device<Buffer = B>>(&self, plan: &Plan, device: &mut D) -> Result<(), CudaError> {
        let rows = self.weights.matrix().rows();
        for first_row in (0..rows).step_by(plan.band_rows) {
            let band_rows = plan.band_rows.min(rows - first_row);
            if let Weights::Packed(weights) = &self.weights {
                let band = first_row..first_row + band_rows;
                dequantize::run_band(device, weights, band, self.workspace)?;
            }
            for first_token in (0..self.tokens).step_by(plan.band_tokens) {
                let tokens = plan.band_tokens.min(self.tokens - first_token);
                let corner = Corner {
                    first_row,
                    rows: band_rows,
                    first_token,
                    tokens,
                };
                self.multiply(plan, &corner, device)?;
            }
        }
        Ok(())
    }

    /// Some outputs of some tokens.
    fn multiply<D: Device<Buffer = B>>(
        &self,
        plan: &Plan,
        corner: &Corner,
        device: &mut D,
    ) -> Result<(), CudaError> {
        let matrix = self.weights.matrix();
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let weights = match &self.weights {
            Weights::Packed(_) => Part::whole(self.workspace),
            Weights::Dense(weights) => Part {
                buffer: &weights.values,
                offset: 2 * corner.first_row * cols,
            },
        };
        device.matmul(&Matmul {
            shape: MatmulShape {
                format: HalfFormat::F16,
                sums: SumFormat::F32,
                rows: corner.tokens,
                outputs: corner.rows,
                inputs: cols,
            },
            x: Part {
                buffer: self.x,
                offset: 2 * corner.first_token * cols,
            },
            weights,
            out: Part {
                buffer: self.workspace,
                offset: plan.sums_offset,
            },
        })?;
        store_sums::run(
            device,
            &store_sums::Shape {
                tokens: corner.tokens,
                cols: corner.rows,
                out_cols: rows,
                first: corner.first_row,
                store: self.store,
            },
            &store_sums::Operands {
                sums: Part {
                    buffer: self.workspace,
                    offset: plan.sums_offset,
                },
                bias: self.bias,
                out: self.out,
                first_token: corner.first_token,
            },
        )
    }
}

/// What one call of the library computes.
struct Corner {
    first_row: usize,
    rows: usize,
    first_token: usize,
    tokens: usize,
}

#[cfg(test)]
mod tests {
    use super::{Limits, Plan, WeightMatrix};
    use crate::cuda::weights::{Format, WeightShape};

    fn packed(rows: usize, cols: usize) -> WeightMatrix {
        WeightMatrix::Packed(WeightShape {
            format: Format::NibbleAffine,
            rows,
            cols,
            group: 32,
        })
    }

    /// Memory stays bounded, and every band begins where the library may.
    #[test]
    fn bands_are_bounded_and_aligned() {
        for (matrix, tokens, band_rows, band_tokens) in [
            (packed(4096, 4096), 512, 4096, 512),
            (packed(128_256, 4096), 4_096, 16_384, 4_096),
            (packed(3584, 18_944), 100_000, 3_456, 4_096),
            (packed(4_194_304, 262_144), 1 << 20, 256, 4_096),
            (WeightMatrix::Dense { rows: 70, cols: 33 }, 1, 70, 1),
        ] {
            let plan = Plan::new(&matrix, tokens, Limits::default()).expect("a matrix");
            assert_eq!(
                (plan.band_rows, plan.band_tokens),
                (band_rows, band_tokens),
                "{matrix:?}"
            );
            assert!(plan.workspace_bytes <= (128 + 256) << 20, "{plan:?}");
            for (band, all) in [(band_rows, matrix.rows()), (band_tokens, tokens)] {
                let begin = 2 * band * matrix.cols();
                assert!(band == all || begin.is_multiple_of(256), "{plan:?}");
            }
        }
    }

    #[test]
    fn matrices_that_cannot_be_are_refused_by_name() {
        for (matrix, name) in [
            (packed(64, 48), "cols"),
            (WeightMatrix::Dense { rows: 0, cols: 8 }, "rows"),
            (
                WeightMatrix::Dense {
                    rows: 8,
                    cols: 1 << 19,
                },
                "cols",
            ),
        ] {
            let error = Plan::new(&matrix, 1, Limits::default()).expect_err(name);
            let error = error.to_string();
            assert!(error.contains(&format!("take {name} =")), "{error}");
        }
    }
}
