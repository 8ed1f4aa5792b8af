//! Products of packed weights, by every family of kernels, and weights unpacked on the device.

use farthing_kernels::cuda::product::{Family, Operands, Store, reference};
use farthing_kernels::cuda::weights::{Format, Packed, Scale, TILE_COLS, WeightShape};
use farthing_kernels::cuda::{
    CudaError, Device, dequantize, gemm_hopper, gemm_large, gemm_small, gemv,
};
use half::f16;

use super::{Extent, Outcome, relative_error};
use crate::random::Random;

/// Sums of the same f16 products in another order, in f32: the longest here have 4,096, in 256
/// additions one after the other that each round by up to 6e-8, mostly against each other.
pub(super) const F32_TOLERANCE: f64 = 5e-6;
/// Those rounded to f16, which alone may be 2^-11 of an output.
pub(super) const F16_TOLERANCE: f64 = 5e-4;

/// Multiplications that the reference of one case does at most.
const PRODUCTS_MAX: usize = 50_000_000;

/// One product to check.
pub(super) struct Case<'a> {
    pub(super) family: &'a Family,
    pub(super) shape: WeightShape,
    pub(super) tokens: usize,
    pub(super) store: Store,
    pub(super) bias: bool,
}

/// [`gemv`].
///
/// # Errors
/// The device fails.
pub fn gemv<D: Device>(
    device: &mut D,
    extent: Extent,
    random: &mut Random,
) -> Result<Vec<Outcome>, CudaError> {
    check("gemv", &[(&gemv::GEMV, &[1])], device, extent, random)
}

/// [`gemm_small`].
///
/// # Errors
/// The device fails.
pub fn gemm_small<D: Device>(
    device: &mut D,
    extent: Extent,
    random: &mut Random,
) -> Result<Vec<Outcome>, CudaError> {
    let families: [(&Family, &[usize]); 4] = [
        (&gemm_small::GEMM_8, &[1, 5, 8]),
        (&gemm_small::GEMM_16, &[9, 16]),
        (&gemm_small::GEMM_32, &[17, 32]),
        (&gemm_small::GEMM_64, &[33, 64]),
    ];
    check("gemm_small", &families, device, extent, random)
}

/// [`gemm_large`].
///
/// # Errors
/// The device fails.
pub fn gemm_large<D: Device>(
    device: &mut D,
    extent: Extent,
    random: &mut Random,
) -> Result<Vec<Outcome>, CudaError> {
    let tokens: &[usize] = &[65, 300];
    check(
        "gemm_large",
        &[(&gemm_large::LARGE, tokens)],
        device,
        extent,
        random,
    )
}

/// [`gemm_hopper`], if the device is one.
///
/// # Errors
/// The device fails.
pub fn gemm_hopper<D: Device>(
    device: &mut D,
    extent: Extent,
    random: &mut Random,
) -> Result<Vec<Outcome>, CudaError> {
    if device.properties().capability != (9, 0) {
        return Ok(Vec::new());
    }
    let families: [(&Family, &[usize]); 2] = [
        (&gemm_hopper::HOPPER_64, &[3, 64]),
        (&gemm_hopper::HOPPER_128, &[65, 128, 300]),
    ];
    check("gemm_hopper", &families, device, extent, random)
}

/// Weights unpacked on the device, bit for bit.
///
/// # Errors
/// The device fails.
pub fn dequantize<D: Device>(
    device: &mut D,
    _extent: Extent,
    random: &mut Random,
) -> Result<Vec<Outcome>, CudaError> {
    let mut outcomes = Vec::new();
    for shape in shapes(&[(1, 32), (130, 96), (192, 576)]) {
        let weights = random_weights(shape, random)?;
        let on_device = weights.upload(device)?;
        let out = device.filled(2 * shape.rows * shape.cols, 0xff)?;
        dequantize::run(device, &on_device, &out)?;
        let got = halves(&device.download(&out)?);
        let exact: Vec<f32> = weights.unpack().iter().map(|w| w.to_f32()).collect();
        let unlike = got.iter().zip(&exact).filter(|(got, exact)| got != exact);
        outcomes.push(Outcome {
            operation: "dequantize",
            case: describe(&shape),
            error: unlike.count() as f64,
            tolerance: 0.0,
        });
    }
    Ok(outcomes)
}

/// Odd shapes in every format, and groups of more than 32 inputs in one.
pub(super) fn shapes(sizes: &[(usize, usize)]) -> Vec<WeightShape> {
    let mut shapes = Vec::new();
    for &(rows, cols) in sizes {
        for format in Format::ALL {
            let group = TILE_COLS;
            shapes.push(WeightShape {
                format,
                rows,
                cols,
                group,
            });
        }
    }
    for (rows, cols, group) in [(70, 192, 64), (128, 384, 128)] {
        let format = Format::NibbleAffine;
        shapes.push(WeightShape {
            format,
            rows,
            cols,
            group,
        });
    }
    shapes
}

pub(super) fn describe(shape: &WeightShape) -> String {
    let WeightShape {
        format,
        rows,
        cols,
        group,
    } = shape;
    format!("{rows} x {cols} {format:?} group {group}")
}

fn check<D: Device>(
    operation: &'static str,
    families: &[(&Family, &[usize])],
    device: &mut D,
    extent: Extent,
    random: &mut Random,
) -> Result<Vec<Outcome>, CudaError> {
    let mut sizes = vec![(1, 32), (100, 96), (192, 576)];
    if extent == Extent::Full {
        sizes.extend([(576, 1536), (960, 576), (1024, 4096)]);
    }
    let mut shapes = shapes(&sizes);
    if extent == Extent::Full {
        shapes.push(WeightShape {
            format: Format::NibbleAffine,
            rows: 4096,
            cols: 4096,
            group: 32,
        });
    }
    let mut outcomes = Vec::new();
    for (index, shape) in shapes.into_iter().enumerate() {
        let weights = random_weights(shape, random)?;
        let dense = weights.unpack();
        for &(family, tokens) in families {
            for &tokens in tokens {
                let case = Case {
                    family,
                    shape,
                    tokens,
                    store: [Store::F32, Store::F16, Store::Add][(index + tokens) % 3],
                    bias: index % 2 == 0,
                };
                outcomes.push(case.run(operation, (&weights, &dense), device, random)?);
            }
        }
    }
    Ok(outcomes)
}

impl Case<'_> {
    fn run<D: Device>(
        &self,
        operation: &'static str,
        (weights, dense): (&Packed, &[f16]),
        device: &mut D,
        random: &mut Random,
    ) -> Result<Outcome, CudaError> {
        let WeightShape { rows, cols, .. } = self.shape;
        let x: Vec<f16> = (0..self.tokens * cols)
            .map(|_| f16::from_f32(random.value()))
            .collect();
        let bias = random.values(rows);
        let before = random.values(self.tokens * rows);
        // On large shapes a few tokens are compared: the reference is slow, and all take one path.
        let compared = (PRODUCTS_MAX / (rows * cols)).clamp(1, self.tokens);
        let first = random.below(self.tokens - compared + 1);
        let range = first * rows..(first + compared) * rows;
        let some_bias = self.bias.then_some(bias.as_slice());
        let mut expected = reference(
            dense,
            &x[first * cols..][..compared * cols],
            cols,
            some_bias,
        );
        let start = match self.store {
            Store::Add => {
                for (expected, before) in expected.iter_mut().zip(&before[range.clone()]) {
                    *expected += before;
                }
                before.iter().flat_map(|v| v.to_le_bytes()).collect()
            }
            _ => vec![0xff; self.tokens * rows * self.store.output_bytes()],
        };
        let got = self.outputs(weights, device, &x, &bias, &start)?;
        Ok(Outcome {
            operation,
            case: format!(
                "{}, {} tokens, {:?}, kernel {}",
                describe(&self.shape),
                self.tokens,
                self.store,
                self.family.kernels[self.shape.format.index()]
            ),
            error: if got.iter().all(|v| v.is_finite()) {
                relative_error(&got[range], &expected)
            } else {
                f64::NAN
            },
            tolerance: match self.store {
                Store::F16 => F16_TOLERANCE,
                Store::F32 | Store::Add => F32_TOLERANCE,
            },
        })
    }

    /// Multiplies twice over the same workspace and counters, as an engine does.
    pub(super) fn outputs<D: Device>(
        &self,
        weights: &Packed,
        device: &mut D,
        x: &[f16],
        bias: &[f32],
        start: &[u8],
    ) -> Result<Vec<f32>, CudaError> {
        let plan = self
            .family
            .plan(&self.shape, self.tokens, device.properties())?;
        let weights = weights.upload(device)?;
        let x_bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        let bias_bytes: Vec<u8> = bias.iter().flat_map(|v| v.to_le_bytes()).collect();
        let (x, bias) = (device.upload(&x_bytes)?, device.upload(&bias_bytes)?);
        let workspace = device.filled(plan.workspace_bytes, 0xff)?;
        let counters = device.filled(plan.counter_bytes, 0)?;
        let mut bytes = Vec::new();
        for _ in 0..2 {
            let out = device.upload(start)?;
            let operands = Operands {
                weights: &weights,
                x: &x,
                tokens: self.tokens,
                bias: self.bias.then_some(&bias),
                out: &out,
                store: self.store,
                workspace: &workspace,
                counters: &counters,
            };
            operands.run_with(self.family, device)?;
            bytes = device.download(&out)?;
        }
        Ok(match self.store {
            Store::F16 => halves(&bytes),
            Store::F32 | Store::Add => {
                let words = bytes.chunks_exact(4);
                words
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                    .collect()
            }
        })
    }
}

pub(super) fn halves(bytes: &[u8]) -> Vec<f32> {
    let pairs = bytes.chunks_exact(2);
    pairs
        .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
        .collect()
}

/// Weights of about one: random quants, scales of either sign.
pub fn random_weights(shape: WeightShape, random: &mut Random) -> Result<Packed, CudaError> {
    let mut packed = Packed::zeroed(shape)?;
    let (most, d) = match shape.format {
        Format::NibbleAffine | Format::NibbleSymmetric => (16, 0.1),
        Format::ByteSymmetric | Format::ByteHalfGroups => (256, 0.01),
    };
    let group = match shape.format {
        Format::ByteHalfGroups => TILE_COLS / 2,
        _ => shape.group,
    };
    let mut quants = vec![0; group];
    for row in 0..shape.rows {
        for col in (0..shape.cols).step_by(group) {
            quants.fill_with(|| random.below(most) as u8);
            let scale = Scale {
                d: f16::from_f32(random.value() * d),
                m: f16::from_f32(random.value()),
            };
            packed.write_group(row, col, &quants, scale);
        }
    }
    Ok(packed)
}
