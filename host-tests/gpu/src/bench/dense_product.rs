//! Products that a library does, unpacking included, at the matrices of one model: what the road
//! costs where our kernels do not take a product, and whether it is ever the faster one. Where
//! there is no library nothing is timed.

use farthing_kernels::cuda::CudaError;
use farthing_kernels::cuda::dense_product::{Limits, Operands, Plan, WeightMatrix, Weights};
use farthing_kernels::cuda::matmul::Library;
use farthing_kernels::cuda::product::Store;
use farthing_kernels::cuda::weights::{Format, WeightShape};

use super::product::random_weights;
use super::{Bound, Timing};
use crate::random::Random;
use crate::stopwatch::{Stopwatch, bf16_bytes};

/// Matrices of Llama-3-8B with 4 bits: outputs and inputs.
const MATRICES: [(&str, usize, usize); 3] = [
    ("Llama-3-8B o", 4096, 4096),
    ("Llama-3-8B gate_up", 28_672, 4096),
    ("Llama-3-8B down", 4096, 14_336),
];
/// Tokens of a prompt.
const TOKENS: [usize; 2] = [1024, 4096];

/// Times every matrix at every number of tokens.
///
/// # Errors
/// The device fails.
pub fn bench<D: Stopwatch>(device: &mut D) -> Result<Vec<Timing>, CudaError> {
    if device.library() == Library::Absent {
        return Ok(Vec::new());
    }
    let mut random = Random::new(0);
    let mut timings = Vec::new();
    for (name, rows, cols) in MATRICES {
        let shape = WeightShape {
            format: Format::NibbleAffine,
            rows,
            cols,
            group: 32,
        };
        let weights = random_weights(device, &mut random, shape)?;
        for tokens in TOKENS {
            let plan = Plan::new(&WeightMatrix::Packed(shape), tokens, Limits::default())?;
            // bf16 from -1 to 1 are small f16, which are as good.
            let x = device.upload(&bf16_bytes(&mut random, tokens * cols))?;
            let out = device.filled(2 * tokens * rows, 0xff)?;
            let workspace = device.filled(plan.workspace_bytes, 0)?;
            let time_us = device.time_us(weights.len(), &mut |device, copy| {
                let operands = Operands {
                    weights: Weights::Packed(&weights[copy]),
                    x: &x,
                    tokens,
                    bias: None,
                    out: &out,
                    store: Store::F16,
                    workspace: &workspace,
                };
                operands.run(&plan, device)
            })?;
            let weight_bytes = shape.quant_bytes() + shape.scale_bytes();
            timings.push(Timing {
                operation: "dense_product",
                shape: format!("{name} {:?}", shape.format),
                rows: tokens,
                time_us,
                bytes: (weight_bytes + 2 * tokens * (rows + cols)) as f64,
                operations: 2.0 * (tokens * rows * cols) as f64,
                bound: Bound::Arithmetic,
                target: None,
                peer_us: device.peer_matmul_us(tokens, rows, cols)?,
            });
        }
    }
    Ok(timings)
}
