//! Products that a library does: packed weights unpacked for it, dense weights of shapes that no
//! packed format has, in one band and in many, and by the road that the device itself chooses.

use farthing_kernels::cuda::dense_product::{DenseWeights, Limits, Operands, Plan, Weights};
use farthing_kernels::cuda::product::{Store, reference};
use farthing_kernels::cuda::{CudaError, Device, multiply};
use half::f16;

use super::product::{F16_TOLERANCE, F32_TOLERANCE, describe, halves, random_weights, shapes};
use super::{Extent, Outcome, relative_error};
use crate::floats::{f32_bytes, f32_values};
use crate::random::Random;

/// Bands of 128 outputs and 128 tokens.
const NARROW: Limits = Limits {
    dense_bytes: 0,
    sums_bytes: 0,
    tokens: 0,
};

/// Who cuts the product.
#[derive(Debug, Clone, Copy)]
enum Road {
    Library(Limits),
    /// What [`multiply`] finds.
    Found,
}

/// One product to check.
struct Case<'a, B> {
    name: String,
    weights: Weights<'a, B>,
    /// The same, `[rows, cols]`.
    values: &'a [f16],
    tokens: usize,
    store: Store,
    bias: bool,
    road: Road,
}

pub fn check<D: Device>(
    device: &mut D,
    extent: Extent,
    random: &mut Random,
) -> Result<Vec<Outcome>, CudaError> {
    let mut sizes = vec![(1, 32), (100, 96), (300, 96)];
    if extent == Extent::Full {
        sizes.extend([(960, 576), (576, 1536)]);
    }
    let mut outcomes = Vec::new();
    for (index, shape) in shapes(&sizes).into_iter().enumerate() {
        let packed = random_weights(shape, random)?;
        let values = packed.unpack();
        let weights = packed.upload(device)?;
        for (tokens, road) in [
            (1, Road::Library(Limits::default())),
            (200, Road::Library(NARROW)),
            (5, Road::Found),
        ] {
            let case = Case {
                name: describe(&shape),
                weights: Weights::Packed(&weights),
                values: &values,
                tokens,
                store: STORES[(index + tokens) % 3],
                bias: index % 2 == 0,
                road,
            };
            outcomes.push(case.run(device, random)?);
        }
    }
    for (index, (rows, cols)) in [(70, 48), (33, 17), (300, 40)].into_iter().enumerate() {
        let values: Vec<f16> = (0..rows * cols)
            .map(|_| f16::from_f32(random.value()))
            .collect();
        let weights = DenseWeights::upload(device, &values, rows, cols)?;
        for (tokens, road) in [
            (1, Road::Found),
            (65, Road::Found),
            (200, Road::Library(NARROW)),
        ] {
            let case = Case {
                name: format!("{rows} x {cols} dense"),
                weights: Weights::Dense(&weights),
                values: &values,
                tokens,
                store: STORES[(index + tokens) % 3],
                bias: index % 2 == 0,
                road,
            };
            outcomes.push(case.run(device, random)?);
        }
    }
    Ok(outcomes)
}

const STORES: [Store; 3] = [Store::F32, Store::F16, Store::Add];

impl<B> Case<'_, B> {
    fn run<D: Device<Buffer = B>>(
        &self,
        device: &mut D,
        random: &mut Random,
    ) -> Result<Outcome, CudaError> {
        let matrix = self.weights.matrix();
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let x: Vec<f16> = (0..self.tokens * cols)
            .map(|_| f16::from_f32(random.value()))
            .collect();
        let bias = random.values(rows);
        let before = random.values(self.tokens * rows);
        let some_bias = self.bias.then_some(bias.as_slice());
        let mut expected = reference(self.values, &x, cols, some_bias);
        let mut start = vec![0xff; self.tokens * rows * self.store.output_bytes()];
        if self.store == Store::Add {
            for (expected, before) in expected.iter_mut().zip(&before) {
                *expected += before;
            }
            start = f32_bytes(&before);
        }
        let bytes = self.outputs(device, &x, &bias, &start)?;
        let (got, tolerance) = match self.store {
            Store::F16 => (halves(&bytes), F16_TOLERANCE),
            Store::F32 | Store::Add => (f32_values(&bytes), F32_TOLERANCE),
        };
        Ok(Outcome {
            operation: "dense_product",
            case: format!(
                "{}, {} tokens, {:?}, {:?}",
                self.name, self.tokens, self.store, self.road
            ),
            error: relative_error(&got, &expected),
            tolerance,
        })
    }

    fn outputs<D: Device<Buffer = B>>(
        &self,
        device: &mut D,
        x: &[f16],
        bias: &[f32],
        start: &[u8],
    ) -> Result<Vec<u8>, CudaError> {
        let x_bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        let (x, bias) = (device.upload(&x_bytes)?, device.upload(&f32_bytes(bias))?);
        let out = device.upload(start)?;
        let (weights, tokens, store) = (self.weights, self.tokens, self.store);
        let bias = self.bias.then_some(&bias);
        match self.road {
            Road::Library(limits) => {
                let plan = Plan::new(&weights.matrix(), tokens, limits)?;
                let workspace = device.filled(plan.workspace_bytes, 0xff)?;
                let operands = Operands {
                    weights,
                    x: &x,
                    tokens,
                    bias,
                    out: &out,
                    store,
                    workspace: &workspace,
                };
                operands.run(&plan, device)?;
            }
            Road::Found => {
                let library = device.library();
                let found =
                    multiply::Road::find(&weights.matrix(), tokens, device.properties(), || {
                        library
                    })?;
                let workspace = device.filled(found.workspace_bytes(), 0xff)?;
                let counters = device.filled(found.counter_bytes(), 0)?;
                let operands = multiply::Operands {
                    weights,
                    x: &x,
                    tokens,
                    bias,
                    out: &out,
                    store,
                    workspace: &workspace,
                    counters: &counters,
                };
                operands.run(device)?;
            }
        }
        device.download(&out)
    }
}
