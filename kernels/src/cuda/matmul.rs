//! Products of dense half-precision matrices, which a library does: cuBLASLt on a card.
//!
//! Our own products are measured against it and checked with it, and it takes what they do not
//! ([`super::dense_product`]).

use super::{CudaError, Device};

/// Where a part of a buffer begins is a multiple of this, as a buffer itself does.
pub const PART_ALIGNMENT: usize = 256;
/// What refuses shapes.
const NAME: &str = "cublaslt";

/// Whether the library is on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    Present,
    Absent,
}

/// A format of sixteen bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HalfFormat {
    F16,
    Bf16,
}

/// The format of what a product leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SumFormat {
    /// That of the operands.
    Half,
    /// As it was added up.
    F32,
}

impl SumFormat {
    /// Bytes of a sum.
    pub fn bytes(self) -> usize {
        match self {
            SumFormat::Half => 2,
            SumFormat::F32 => 4,
        }
    }
}

/// `out[rows, outputs] = x[rows, inputs] * weights[outputs, inputs]^T`, all row-major, with sums in
/// f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MatmulShape {
    pub format: HalfFormat,
    pub sums: SumFormat,
    pub rows: usize,
    pub outputs: usize,
    pub inputs: usize,
}

/// A buffer from a byte on, which is a multiple of [`PART_ALIGNMENT`].
#[derive(Debug)]
pub struct Part<'a, B> {
    pub buffer: &'a B,
    pub offset: usize,
}

impl<'a, B> Part<'a, B> {
    /// All of a buffer.
    pub fn whole(buffer: &'a B) -> Part<'a, B> {
        Part { buffer, offset: 0 }
    }
}

/// One product with its operands.
#[derive(Debug)]
pub struct Matmul<'a, B> {
    pub shape: MatmulShape,
    pub x: Part<'a, B>,
    pub weights: Part<'a, B>,
    pub out: Part<'a, B>,
}

impl<B> Matmul<'_, B> {
    /// The library takes the shape, and the operands are as long as it says.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn check<D: Device<Buffer = B>>(&self, device: &D) -> Result<(), CudaError> {
        let lengths = self.shape.lengths()?;
        let parts = [
            ("x", &self.x),
            ("weights", &self.weights),
            ("out", &self.out),
        ];
        for ((name, part), needed) in parts.into_iter().zip(lengths) {
            if !part.offset.is_multiple_of(PART_ALIGNMENT) {
                return Err(CudaError::Shape {
                    kernel: NAME,
                    name,
                    value: part.offset,
                    rule: "a part begins at a multiple of 256 bytes",
                });
            }
            let actual = device.len(part.buffer).saturating_sub(part.offset);
            if actual < needed {
                return Err(CudaError::BufferTooShort {
                    kernel: NAME,
                    name,
                    actual,
                    needed,
                });
            }
        }
        Ok(())
    }
}

impl MatmulShape {
    /// Bytes of x, of the weights and of the output.
    ///
    /// # Errors
    /// The library does not take the shape.
    pub fn lengths(&self) -> Result<[usize; 3], CudaError> {
        let MatmulShape {
            rows,
            outputs,
            inputs,
            ..
        } = *self;
        let sizes = [("rows", rows), ("outputs", outputs), ("inputs", inputs)];
        for (name, value) in sizes {
            if value == 0 || i32::try_from(value).is_err() {
                return Err(CudaError::Shape {
                    kernel: NAME,
                    name,
                    value,
                    rule: "it is from 1 to 2^31 - 1",
                });
            }
        }
        // Each is below 2^31, so that four times the product of two is below 2^64.
        Ok([
            2 * rows * inputs,
            2 * outputs * inputs,
            self.sums.bytes() * rows * outputs,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::{HalfFormat, MatmulShape, SumFormat};

    #[test]
    fn shapes_beyond_the_library_are_refused_by_name() {
        let good = MatmulShape {
            format: HalfFormat::F16,
            sums: SumFormat::F32,
            rows: 3,
            outputs: 5,
            inputs: 7,
        };
        assert_eq!(good.lengths(), Ok([42, 70, 60]));
        for (shape, name) in [
            (MatmulShape { rows: 0, ..good }, "rows"),
            (
                MatmulShape {
                    outputs: 1 << 31,
                    ..good
                },
                "outputs",
            ),
            (MatmulShape { inputs: 0, ..good }, "inputs"),
        ] {
            let error = shape.lengths().expect_err(name).to_string();
            assert!(error.contains(&format!("take {name} =")), "{error}");
        }
    }
}
