//! cuBLASLt as a second opinion: every family of our products beside the library's product of the
//! same weights, unpacked on the host, over all outputs of all tokens; and the library itself
//! beside the reference, over some.

use farthing_kernels::cuda::matmul::{HalfFormat, Matmul, MatmulShape, Part, SumFormat};
use farthing_kernels::cuda::product::{Family, Store, reference};
use farthing_kernels::cuda::weights::WeightShape;
use farthing_kernels::cuda::{
    CudaError, Device, Properties, gemm_hopper, gemm_large, gemm_small, gemv,
};
use half::f16;

use super::product::{Case, F32_TOLERANCE, describe, random_weights, shapes};
use super::{Extent, Outcome, relative_error};
use crate::floats::f32_values;
use crate::random::Random;

/// Both add the same products in an order of their own.
const TOLERANCE: f64 = 2.0 * F32_TOLERANCE;
/// Multiplications of the reference that the library is held against.
const PRODUCTS_MAX: usize = 5_000_000;

pub fn check<D: Device>(
    device: &mut D,
    extent: Extent,
    random: &mut Random,
) -> Result<Vec<Outcome>, CudaError> {
    let mut sizes = vec![(100, 96)];
    if extent == Extent::Full {
        sizes.extend([(576, 1536), (4096, 4096)]);
    }
    let families = families(device.properties());
    let mut outcomes = Vec::new();
    for shape in shapes(&sizes) {
        let packed = random_weights(shape, random)?;
        let dense = packed.unpack();
        for tokens in distinct_tokens(&families) {
            let x: Vec<f16> = (0..tokens * shape.cols)
                .map(|_| f16::from_f32(random.value()))
                .collect();
            let theirs = by_library(device, &shape, &dense, &x)?;
            outcomes.push(beside_reference(&shape, &dense, &x, &theirs));
            for (family, _) in families.iter().filter(|(_, taken)| *taken == tokens) {
                let case = Case {
                    family,
                    shape,
                    tokens,
                    store: Store::F32,
                    bias: false,
                };
                let start = vec![0xff; 4 * tokens * shape.rows];
                let ours = case.outputs(&packed, device, &x, &[0.0], &start)?;
                let kernel = family.kernels[shape.format.index()];
                outcomes.push(outcome(&shape, tokens, kernel, &ours, &theirs));
            }
        }
    }
    Ok(outcomes)
}

/// Every family that serves on such a card or could, with so many tokens.
fn families(properties: &Properties) -> Vec<(&'static Family, usize)> {
    let mut families: Vec<(&'static Family, usize)> = vec![
        (&gemv::GEMV, 1),
        (&gemm_small::GEMM_8, 8),
        (&gemm_small::GEMM_16, 16),
        (&gemm_small::GEMM_32, 32),
        (&gemm_small::GEMM_64, 64),
        (&gemm_large::LARGE, 65),
        (&gemm_large::LARGE, 300),
    ];
    if properties.capability == (9, 0) {
        families.extend([
            (&gemm_hopper::HOPPER_64, 64),
            (&gemm_hopper::HOPPER_128, 300),
        ]);
    }
    families
}

fn distinct_tokens(families: &[(&Family, usize)]) -> Vec<usize> {
    let mut tokens: Vec<usize> = families.iter().map(|(_, tokens)| *tokens).collect();
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

/// f32 `[tokens, rows]`.
fn by_library<D: Device>(
    device: &mut D,
    shape: &WeightShape,
    dense: &[f16],
    x: &[f16],
) -> Result<Vec<f32>, CudaError> {
    let tokens = x.len() / shape.cols;
    let bytes = |values: &[f16]| -> Vec<u8> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        bytes.collect()
    };
    let (weights, x) = (device.upload(&bytes(dense))?, device.upload(&bytes(x))?);
    let out = device.filled(4 * tokens * shape.rows, 0xff)?;
    device.matmul(&Matmul {
        shape: MatmulShape {
            format: HalfFormat::F16,
            sums: SumFormat::F32,
            rows: tokens,
            outputs: shape.rows,
            inputs: shape.cols,
        },
        x: Part::whole(&x),
        weights: Part::whole(&weights),
        out: Part::whole(&out),
    })?;
    Ok(f32_values(&device.download(&out)?))
}

fn beside_reference(shape: &WeightShape, dense: &[f16], x: &[f16], theirs: &[f32]) -> Outcome {
    let tokens = x.len() / shape.cols;
    let compared = (PRODUCTS_MAX / (shape.rows * shape.cols)).clamp(1, tokens);
    let expected = reference(dense, &x[..compared * shape.cols], shape.cols, None);
    Outcome {
        tolerance: F32_TOLERANCE,
        ..outcome(
            shape,
            tokens,
            "the reference",
            &expected,
            &theirs[..expected.len()],
        )
    }
}

fn outcome(
    shape: &WeightShape,
    tokens: usize,
    name: &str,
    ours: &[f32],
    theirs: &[f32],
) -> Outcome {
    Outcome {
        operation: "cublaslt",
        case: format!("{}, {tokens} tokens, beside {name}", describe(shape)),
        error: relative_error(ours, theirs),
        tolerance: TOLERANCE,
    }
}

#[cfg(test)]
mod tests {
    use super::{distinct_tokens, families, outcome};
    use farthing_kernels::cuda::Properties;
    use farthing_kernels::cuda::weights::{Format, WeightShape};

    fn card(capability: (u32, u32)) -> Properties {
        Properties {
            name: "a card".to_string(),
            capability,
            multiprocessors: 108,
            shared_bytes_max: 163 << 10,
            l2_bytes: 40 << 20,
        }
    }

    #[test]
    fn families_take_their_tokens_and_hopper_has_more() {
        for (capability, count) in [((8, 0), 7), ((9, 0), 9), ((10, 0), 7)] {
            let families = families(&card(capability));
            assert_eq!(families.len(), count, "{capability:?}");
            let taken =
                |(family, tokens): &(&'static super::Family, usize)| *tokens <= family.tokens_max;
            assert!(families.iter().all(taken));
            assert_eq!(distinct_tokens(&families), [1, 8, 16, 32, 64, 65, 300]);
        }
    }

    /// One wrong output of many is seen, and so is one that is no number.
    #[test]
    fn a_wrong_output_fails() {
        let shape = WeightShape {
            format: Format::NibbleAffine,
            rows: 64,
            cols: 64,
            group: 32,
        };
        let right: Vec<f32> = (0..64 * 300)
            .map(|index| (index % 7) as f32 - 3.0)
            .collect();
        assert!(outcome(&shape, 300, "ours", &right, &right).passed());
        for wrong in [f32::NAN, 5.0] {
            let mut ours = right.clone();
            ours[12_345] = wrong;
            assert!(!outcome(&shape, 300, "ours", &ours, &right).passed());
        }
    }
}
