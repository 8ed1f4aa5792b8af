//! Weights as the kernels read them: tiles in the order of the tensor cores' operands.
//!
//! A matrix of shape `[rows (outputs), cols (inputs)]` is cut into *tiles* of 64 outputs by 32
//! inputs; outputs that the last tiles lack are zero. A tile has four *quarters* of sixteen outputs
//! and two *steps* of sixteen inputs. Lane `l` of a warp holds eight weights of a quarter and a
//! step, with `g = l / 4` and `t = l % 4`:
//!
//! | weight | output of the quarter | input of the step |
//! | --- | --- | --- |
//! | 0, 1 | g | 2t, 2t + 1 |
//! | 2, 3 | g + 8 | 2t, 2t + 1 |
//! | 4, 5 | g | 2t + 8, 2t + 9 |
//! | 6, 7 | g + 8 | 2t + 8, 2t + 9 |
//!
//! which is operand a of `mma.m16n8k16` (PTX ISA, "Matrix Fragments for mma.m16n8k16"). Tiles lie
//! along the inputs first. Where the quants and scales of a lane lie in a tile, [`Format`] says;
//! `weights.cuh` reads what is written here.

mod gptq;
mod pack;
mod unpack;

use super::{CudaError, Device};

pub use gptq::{Checkpoint, Nibbles};
pub use pack::Scale;

/// Outputs of a tile.
pub const TILE_ROWS: usize = 64;
/// Inputs of a tile.
pub const TILE_COLS: usize = 32;
/// Inputs of a step, and outputs of a quarter.
const STEP: usize = 16;

/// How quants and scales lie in memory, and what they stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// 4 bits, w = d*q + m: Q4_1, Q4_K, AWQ, GPTQ with zero points. A tile has 1024 bytes: for each
    /// pair of quarters, for each lane, four words (quarter, step); the nibbles of a word are, from
    /// the lowest, weights 0, 2, 4, 6, 1, 3, 5, 7. Its scales have 256 bytes: for each g, for each
    /// quarter, `d` and `m` of output g and then of output g + 8, as f16.
    NibbleAffine,
    /// 4 bits, w = d*(q - 8): Q4_0, GPTQ without zero points. Quants as above; the scales have 128
    /// bytes, `d` alone.
    NibbleSymmetric,
    /// 8 bits, w = d*(q - 128): Q8_0, Q5_0, INT8. A tile has 2048 bytes: for each quarter, for each
    /// lane, for each step, its weights in order, a byte each. The scales are as above.
    ByteSymmetric,
    /// 8 bits with a scale for each step: Q6_K. Its scales have 256 bytes, step after step.
    ByteHalfGroups,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 4] = [
        Format::NibbleAffine,
        Format::NibbleSymmetric,
        Format::ByteSymmetric,
        Format::ByteHalfGroups,
    ];

    /// Its place in [`Format::ALL`], by which operations name their kernels.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Bytes of a tile's quants.
    pub fn tile_bytes(self) -> usize {
        match self {
            Format::NibbleAffine | Format::NibbleSymmetric => 1024,
            Format::ByteSymmetric | Format::ByteHalfGroups => 2048,
        }
    }

    /// Bytes of the scales that a tile reads.
    pub fn scale_bytes(self) -> usize {
        match self {
            Format::NibbleAffine | Format::ByteHalfGroups => 256,
            Format::NibbleSymmetric | Format::ByteSymmetric => 128,
        }
    }
}

/// The shape of packed weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightShape {
    pub format: Format,
    /// Outputs.
    pub rows: usize,
    /// Inputs, a multiple of 32.
    pub cols: usize,
    /// Inputs that share a scale: 32, 64 or 128 (with [`Format::ByteHalfGroups`] 32, in halves).
    pub group: usize,
}

impl WeightShape {
    /// Tiles along the inputs.
    pub fn tiles(&self) -> usize {
        self.cols / TILE_COLS
    }

    /// Blocks of 64 outputs.
    pub fn row_blocks(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    /// Groups of inputs that share scales.
    pub fn groups(&self) -> usize {
        self.cols.div_ceil(self.group)
    }

    /// Bytes of all quants.
    pub fn quant_bytes(&self) -> usize {
        self.row_blocks() * self.tiles() * self.format.tile_bytes()
    }

    /// Bytes of all scales.
    pub fn scale_bytes(&self) -> usize {
        self.row_blocks() * self.groups() * self.format.scale_bytes()
    }

    /// `log2(group / 32)`, as the kernels take it.
    pub fn group_shift(&self) -> u32 {
        (self.group / TILE_COLS).ilog2()
    }

    /// Whether the kernels take this shape.
    ///
    /// # Errors
    /// Names the dimension that they do not take.
    pub fn check(&self) -> Result<(), CudaError> {
        let shape = |name, value, rule| CudaError::Shape {
            kernel: "packed weights",
            name,
            value,
            rule,
        };
        if self.rows == 0 || self.rows > crate::MATRIX_ROWS_MAX {
            return Err(shape("rows", self.rows, "1 to 4194304"));
        }
        if self.cols == 0
            || self.cols > crate::MATRIX_COLS_MAX
            || !self.cols.is_multiple_of(TILE_COLS)
        {
            return Err(shape("cols", self.cols, "a multiple of 32 up to 262144"));
        }
        let halves = self.format == Format::ByteHalfGroups;
        if !matches!(self.group, 32 | 64 | 128) || (halves && self.group != 32) {
            return Err(shape(
                "group",
                self.group,
                "32, 64 or 128, and 32 where steps have scales of their own",
            ));
        }
        Ok(())
    }
}

/// Weights packed in the memory of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    pub shape: WeightShape,
    pub quants: Vec<u8>,
    pub scales: Vec<u8>,
}

impl Packed {
    /// Weights of a shape with quants and scales of zero.
    ///
    /// # Errors
    /// The kernels do not take the shape.
    pub fn zeroed(shape: WeightShape) -> Result<Packed, CudaError> {
        shape.check()?;
        Ok(Packed {
            shape,
            quants: vec![0; shape.quant_bytes()],
            scales: vec![0; shape.scale_bytes()],
        })
    }

    /// Copies the weights to a device.
    ///
    /// # Errors
    /// The device has not so much memory.
    pub fn upload<D: Device>(&self, device: &mut D) -> Result<DeviceWeights<D::Buffer>, CudaError> {
        Ok(DeviceWeights {
            shape: self.shape,
            quants: device.upload(&self.quants)?,
            scales: device.upload(&self.scales)?,
        })
    }
}

/// Weights in the memory of a device.
pub struct DeviceWeights<B> {
    pub shape: WeightShape,
    pub quants: B,
    pub scales: B,
}

/// Where one weight lies: its lane's share, and its number in it (see the table above).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Row block and tile along the inputs.
    tile: usize,
    quarter: usize,
    step: usize,
    lane: usize,
    weight: usize,
}

impl Place {
    fn of(shape: &WeightShape, row: usize, col: usize) -> Place {
        let (in_quarter, in_step) = (row % STEP, col % STEP);
        Place {
            tile: row / TILE_ROWS * shape.tiles() + col / TILE_COLS,
            quarter: row % TILE_ROWS / STEP,
            step: col % TILE_COLS / STEP,
            lane: in_quarter % 8 * 4 + in_step % 8 / 2,
            weight: in_step % 2 + in_quarter / 8 * 2 + in_step / 8 * 4,
        }
    }

    /// The byte of the quants and the bits in it to shift by.
    fn quant(&self, format: Format) -> (usize, u32) {
        let tile = self.tile * format.tile_bytes();
        match format {
            Format::NibbleAffine | Format::NibbleSymmetric => {
                let share = self.quarter / 2 * 512 + self.lane * 16;
                let word = share + (self.quarter % 2 * 2 + self.step) * 4;
                let nibble = self.weight / 2 + self.weight % 2 * 4;
                (tile + word + nibble / 2, nibble as u32 % 2 * 4)
            }
            Format::ByteSymmetric | Format::ByteHalfGroups => {
                let share = self.quarter * 512 + self.lane * 16;
                (tile + share + self.step * 8 + self.weight, 0)
            }
        }
    }

    /// The first byte of the weight's `d`, behind which `m` lies if the format has one.
    fn scale(&self, shape: &WeightShape) -> usize {
        let (row_block, tile) = (self.tile / shape.tiles(), self.tile % shape.tiles());
        let group = row_block * shape.groups() + tile * TILE_COLS / shape.group;
        let output = (self.lane / 4 * 4 + self.quarter) * 2 + self.weight / 2 % 2;
        let block = group * shape.format.scale_bytes();
        match shape.format {
            Format::NibbleAffine => block + output * 4,
            Format::NibbleSymmetric | Format::ByteSymmetric => block + output * 2,
            Format::ByteHalfGroups => block + self.step * 128 + output * 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, Place, WeightShape};
    use std::collections::HashSet;

    /// Every weight has a place of its own, and together they fill the quants.
    #[test]
    fn places_are_a_permutation() {
        for format in Format::ALL {
            let shape = WeightShape {
                format,
                rows: 128,
                cols: 96,
                group: 32,
            };
            let mut places = HashSet::new();
            let mut scales = HashSet::new();
            for row in 0..shape.rows {
                for col in 0..shape.cols {
                    let place = Place::of(&shape, row, col);
                    assert!(places.insert(place.quant(format)), "{format:?} {row} {col}");
                    scales.insert(place.scale(&shape));
                }
            }
            let bits = if format.tile_bytes() == 1024 { 4 } else { 8 };
            assert_eq!(places.len() * bits / 8, shape.quant_bytes());
            let parts = if format == Format::NibbleAffine { 2 } else { 1 };
            assert_eq!(scales.len() * parts * 2, shape.scale_bytes());
            assert!(places.iter().all(|(byte, _)| *byte < shape.quant_bytes()));
            assert!(scales.iter().all(|byte| *byte < shape.scale_bytes()));
        }
    }

    #[test]
    fn shapes_that_no_kernel_takes_are_refused_by_name() {
        let good = WeightShape {
            format: Format::NibbleAffine,
            rows: 1,
            cols: 128,
            group: 128,
        };
        assert!(good.check().is_ok());
        let halves = Format::ByteHalfGroups;
        for (shape, name) in [
            (WeightShape { rows: 0, ..good }, "rows"),
            (
                WeightShape {
                    rows: 1 << 23,
                    ..good
                },
                "rows",
            ),
            (WeightShape { cols: 0, ..good }, "cols"),
            (WeightShape { cols: 48, ..good }, "cols"),
            (
                WeightShape {
                    cols: 1 << 19,
                    ..good
                },
                "cols",
            ),
            (WeightShape { group: 16, ..good }, "group"),
            (WeightShape { group: 256, ..good }, "group"),
            (
                WeightShape {
                    format: halves,
                    ..good
                },
                "group",
            ),
        ] {
            let error = shape.check().expect_err(name).to_string();
            assert!(error.contains(&format!("take {name} =")), "{error}");
        }
    }
}
