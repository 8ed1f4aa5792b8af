//! The library of dense products, in plain Rust.

use crate::Buffer;
use farthing_kernels::cuda::matmul::{HalfFormat, Matmul, Part, SumFormat};
use half::{bf16, f16};

/// Multiplies operands that are long enough.
pub(crate) fn matmul(product: &Matmul<'_, Buffer>) {
    let shape = product.shape;
    let operand = |part: &Part<'_, Buffer>, count: usize| -> Vec<f32> {
        let bytes = part.buffer.bytes();
        let pairs = bytes[part.offset..][..2 * count].as_chunks::<2>().0;
        let value = |pair: &[u8; 2]| match shape.format {
            HalfFormat::F16 => f16::from_le_bytes(*pair).to_f32(),
            HalfFormat::Bf16 => bf16::from_le_bytes(*pair).to_f32(),
        };
        pairs.iter().map(value).collect()
    };
    let x = operand(&product.x, shape.rows * shape.inputs);
    let weights = operand(&product.weights, shape.outputs * shape.inputs);
    let mut out = Vec::with_capacity(shape.sums.bytes() * shape.rows * shape.outputs);
    for x in x.chunks_exact(shape.inputs) {
        for weights in weights.chunks_exact(shape.inputs) {
            let products = x.iter().zip(weights).map(|(x, w)| x * w);
            let sum: f32 = products.sum();
            match (shape.sums, shape.format) {
                (SumFormat::F32, _) => out.extend(sum.to_le_bytes()),
                (SumFormat::Half, HalfFormat::F16) => out.extend(f16::from_f32(sum).to_le_bytes()),
                (SumFormat::Half, HalfFormat::Bf16) => {
                    out.extend(bf16::from_f32(sum).to_le_bytes());
                }
            }
        }
    }
    product.out.buffer.write(product.out.offset, &out);
}
