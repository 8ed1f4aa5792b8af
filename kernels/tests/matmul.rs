//! Multiplication: every version against f64 arithmetic on dequantized weights, against each
//! other, and against candle.

mod tensors;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use farthing_kernels::{
    Activations, Dtype, InstructionSet, Keep, KernelError, MATRIX_COLS_MAX, Matrix, Store,
    ThreadPool, dequantize_row, matmul, matmul_group, matmul_with,
};
use proptest::prelude::*;
use tensors::{candle_dtype, random_tensor, random_values};

/// Largest difference that f32 rounding may make, relative to the sum of absolute products.
const ROUNDING: f64 = 1e-6;
/// A weight's scaled quant and its minimum are added to the sum one after the other, and each may
/// be larger than the weight; in the random tensors both together stay below this.
const WEIGHT_PARTS_MAX: f64 = 3.0;
/// Largest difference that 8-bit activations may make: half a step of 1/127 for each product.
const QUANTIZATION: f64 = 0.5 / 127.0 + ROUNDING;

/// Multiplies by every version and compares with f64 arithmetic on the same weights, once with
/// the activations that the int8 blocks stand for, once with the original ones.
fn check(dtype: Dtype, m: usize, n: usize, k: usize, seed: u64) {
    let bytes = random_tensor(dtype, n, k, seed);
    let matrix = Matrix::pack(dtype, &bytes, n, k).expect("a well-formed tensor");
    let mut weights = vec![0.0; n * k];
    dequantize_row(dtype, &bytes, &mut weights).expect("a well-formed tensor");
    let x = random_values(m * k, seed + 1);
    let pool = ThreadPool::new(2);
    let mut activations = Activations::new(Keep::ValuesToo);
    for set in InstructionSet::available() {
        activations.quantize_with(set, &pool, &x, m, k);
        let mut out = vec![f32::NAN; m * n];
        matmul_with(
            set,
            &pool,
            &activations,
            &mut [(&matrix, &mut out)],
            Store::Replace,
        );
        for (row, x) in x.chunks_exact(k).enumerate() {
            let rounded: Vec<f64> = if dtype.block_len() == 1 {
                x.iter().map(|x| f64::from(*x)).collect()
            } else {
                x.chunks(32).flat_map(quantized).collect()
            };
            for (column, weights) in weights.chunks_exact(k).enumerate() {
                let (mut exact, mut bound) = (0.0, 1e-6);
                for (w, x) in weights.iter().zip(&rounded) {
                    let w = f64::from(*w);
                    exact += w * x;
                    bound += (w.abs() + WEIGHT_PARTS_MAX) * x.abs();
                }
                let got = f64::from(out[row * n + column]);
                assert!(
                    (got - exact).abs() <= bound * ROUNDING,
                    "{set:?} {dtype:?} m={m} n={n} k={k} row {row} column {column}: \
                     {got} for {exact}, bound {}",
                    bound * ROUNDING
                );
            }
        }
    }
}

/// What each activation of a block becomes: round(x / d) * d. The quotient is taken in f32 as the
/// kernels take it, so that ties agree.
fn quantized(block: &[f32]) -> impl Iterator<Item = f64> {
    let largest = block.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let inverse = if largest == 0.0 { 0.0 } else { 127.0 / largest };
    let scale = f64::from(largest / 127.0);
    block
        .iter()
        .map(move |x| f64::from((x * inverse).round_ties_even()) * scale)
}

#[test]
fn every_format_and_version_agrees_with_exact_arithmetic_on_odd_shapes() {
    for dtype in Dtype::ALL {
        let wide = dtype.block_len() == 256;
        for (m, n, k) in [
            (1, 1, 32usize),
            (3, 17, 64),
            (1, 192, 576),
            (5, 192, 576),
            (9, 100, 576),
            (2, 33, 1536),
            (17, 48, 256),
            (7, 16, 512),
            (15, 31, 896),
        ] {
            let k = if wide { k.next_multiple_of(256) } else { k };
            check(dtype, m, n, k, (m * n * k) as u64);
        }
    }
}

#[test]
fn unquantized_weights_take_any_width() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for (m, n, k) in [(1, 1, 1), (2, 5, 7), (4, 19, 33), (9, 3, 100)] {
            check(dtype, m, n, k, k as u64);
        }
    }
}

/// A tall matrix over more tasks than threads, and more rows than one task takes.
#[test]
fn large_products_are_split_without_gaps() {
    check(Dtype::Q4_1, 300, 200, 64, 1);
    check(Dtype::Q8_0, 2, 6000, 96, 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_agrees_with_exact_arithmetic(
        dtype in proptest::sample::select(Dtype::ALL.to_vec()),
        m in 1usize..20,
        n in 1usize..70,
        blocks in 1usize..12,
        seed in 0u64..1_000_000,
    ) {
        let k = (blocks * 32).next_multiple_of(dtype.block_len().max(32));
        check(dtype, m, n, k, seed);
    }
}

/// One row alone gives the same bits as among others, whichever version runs.
#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let (m, n, k) = (23, 70, 512);
    let pool = ThreadPool::new(2);
    for dtype in Dtype::ALL {
        let matrix = Matrix::pack(dtype, &random_tensor(dtype, n, k, 3), n, k).expect("packs");
        let x = random_values(m * k, 4);
        for set in InstructionSet::available() {
            let mut activations = Activations::new(Keep::ValuesToo);
            activations.quantize_with(set, &pool, &x, m, k);
            let mut together = vec![0.0; m * n];
            matmul_with(
                set,
                &pool,
                &activations,
                &mut [(&matrix, &mut together)],
                Store::Replace,
            );
            for (x, together) in x.chunks_exact(k).zip(together.chunks_exact(n)) {
                activations.quantize_with(set, &pool, x, 1, k);
                let mut alone = vec![0.0; n];
                matmul_with(
                    set,
                    &pool,
                    &activations,
                    &mut [(&matrix, &mut alone)],
                    Store::Replace,
                );
                assert_eq!(alone, together, "{set:?} {dtype:?}");
            }
        }
    }
}

/// Weights of five bits are held in fewer bytes than the same weights in eight, and give the same
/// bits: sums of integers are exact.
#[test]
fn five_bits_give_what_the_same_quants_in_eight_give() {
    let (m, n, k) = (15, 70, 512);
    let pool = ThreadPool::new(2);
    let five = random_tensor(Dtype::Q5_0, n, k, 21);
    let eight: Vec<u8> = five.chunks_exact(22).flat_map(q5_0_as_q8_0).collect();
    let matrices = [(Dtype::Q5_0, five), (Dtype::Q8_0, eight)]
        .map(|(dtype, bytes)| Matrix::pack(dtype, &bytes, n, k).expect("packs"));
    assert!(matrices[0].bytes() * 3 < matrices[1].bytes() * 2);
    for set in InstructionSet::available() {
        let mut x = Activations::new(Keep::Quants);
        x.quantize_with(set, &pool, &random_values(m * k, 22), m, k);
        let [five, eight] = matrices.each_ref().map(|matrix| {
            let mut out = vec![f32::NAN; m * n];
            let products = &mut [(matrix, out.as_mut_slice())];
            matmul_with(set, &pool, &x, products, Store::Replace);
            out
        });
        assert_eq!(five, eight, "{set:?}");
    }
}

/// GGML's blocks: a scale, 32 fifth bits and 16 bytes of nibbles; a scale and 32 signed bytes.
fn q5_0_as_q8_0(block: &[u8]) -> Vec<u8> {
    let fifths = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    let quant = |index: usize| {
        let byte = block[6 + index % 16];
        let nibble = if index < 16 { byte & 0x0f } else { byte >> 4 };
        let fifth = (fifths >> index & 1) as u8;
        (nibble | fifth << 4).wrapping_sub(16)
    };
    block[..2]
        .iter()
        .copied()
        .chain((0..32).map(quant))
        .collect()
}

/// The residual stream: what is there stays, and the product comes on top.
#[test]
fn a_product_can_be_added() {
    let (m, n, k) = (11, 70, 96);
    let pool = ThreadPool::new(2);
    let bytes = random_tensor(Dtype::Q4_1, n, k, 11);
    let matrix = Matrix::pack(Dtype::Q4_1, &bytes, n, k).expect("packs");
    let mut x = Activations::new(Keep::Quants);
    x.quantize(&pool, &random_values(m * k, 12), m, k);
    let before = random_values(m * n, 13);
    let (mut product, mut sum) = (vec![f32::NAN; m * n], before.clone());
    matmul(&pool, &matrix, &x, &mut product, Store::Replace);
    matmul(&pool, &matrix, &x, &mut sum, Store::Add);
    let expected: Vec<f32> = before.iter().zip(&product).map(|(a, b)| a + b).collect();
    assert_eq!(sum, expected);
}

/// Rows that are made on the way are quantized as if they had been there.
#[test]
fn rows_can_be_made_while_they_are_quantized() {
    let (n, k) = (33, 80);
    let pool = ThreadPool::new(3);
    let bytes = random_tensor(Dtype::F16, n, k, 14);
    let matrix = Matrix::pack(Dtype::F16, &bytes, n, k).expect("packs");
    for m in [1, 2, 7, 8, 23, 300] {
        let rows = random_values(m * k, 15);
        let product = |x: &Activations| {
            let mut out = vec![f32::NAN; m * n];
            matmul(&pool, &matrix, x, &mut out, Store::Replace);
            out
        };
        let mut x = Activations::new(Keep::ValuesToo);
        x.quantize(&pool, &rows, m, k);
        let given = product(&x);
        x.make(&pool, m, k, &|row, values| {
            values.copy_from_slice(&rows[row * k..][..k]);
        });
        assert_eq!(product(&x), given, "{m} rows");
    }
}

#[test]
fn a_group_of_products_equals_its_members() {
    let (m, k) = (3, 64);
    let pool = ThreadPool::new(2);
    let mut x = Activations::new(Keep::ValuesToo);
    x.quantize(&pool, &random_values(m * k, 5), m, k);
    let sizes = [20, 1, 48];
    let matrices: Vec<Matrix> = sizes
        .iter()
        .map(|&n| {
            let bytes = random_tensor(Dtype::Q8_0, n, k, n as u64);
            Matrix::pack(Dtype::Q8_0, &bytes, n, k).expect("packs")
        })
        .collect();
    let mut apart: Vec<Vec<f32>> = sizes.iter().map(|n| vec![0.0; m * n]).collect();
    let mut together = apart.clone();
    for (matrix, out) in matrices.iter().zip(&mut apart) {
        matmul(&pool, matrix, &x, out, Store::Replace);
    }
    let outs = together.iter_mut().map(Vec::as_mut_slice);
    let mut group: Vec<(&Matrix, &mut [f32])> = matrices.iter().zip(outs).collect();
    matmul_group(&pool, &x, &mut group);
    assert_eq!(apart, together);
}

/// candle quantizes activations in blocks of 32 or 256, so both are within quantization error of
/// the exact product and of each other.
#[test]
fn products_agree_with_candle() {
    let pool = ThreadPool::new(2);
    for dtype in Dtype::ALL {
        for (m, n, k) in [(1, 192, 576usize), (4, 33, 1536), (9, 64, 512)] {
            let k = k.next_multiple_of(dtype.block_len());
            let bytes = random_tensor(dtype, n, k, 6);
            let x = random_values(m * k, 7);
            let matrix = Matrix::pack(dtype, &bytes, n, k).expect("packs");
            let mut activations = Activations::new(Keep::ValuesToo);
            activations.quantize(&pool, &x, m, k);
            let mut ours = vec![0.0; m * n];
            matmul(&pool, &matrix, &activations, &mut ours, Store::Replace);
            let theirs = candle_product(dtype, &bytes, &x, (m, n, k));
            let mut weights = vec![0.0; n * k];
            dequantize_row(dtype, &bytes, &mut weights).expect("well-formed");
            for (index, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                let weights = &weights[index % n * k..][..k];
                let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
                let total: f64 = weights.iter().map(|w| f64::from(w.abs())).sum();
                let bound = 2.0 * QUANTIZATION * f64::from(largest) * total;
                let difference = f64::from((ours - theirs).abs());
                assert!(
                    difference <= bound,
                    "{dtype:?} {ours} {theirs}, bound {bound}"
                );
            }
        }
    }
}

fn candle_product(
    dtype: Dtype,
    bytes: &[u8],
    x: &[f32],
    (m, n, k): (usize, usize, usize),
) -> Vec<f32> {
    let storage = candle_core::quantized::QStorage::from_data(
        std::borrow::Cow::Borrowed(bytes),
        &Device::Cpu,
        candle_dtype(dtype),
    );
    let tensor = QTensor::new(storage.expect("candle reads the format"), (n, k)).expect("shape");
    let product = QMatMul::from_qtensor(tensor).expect("candle multiplies the format");
    let x = Tensor::from_slice(x, (m, k), &Device::Cpu).expect("shape");
    let out = product
        .forward(&x)
        .and_then(|out| out.flatten_all()?.to_vec1());
    out.expect("candle multiplies these shapes")
}

/// A malformed tensor is an error before anything is allocated.
#[test]
fn malformed_tensors_are_refused() {
    let refused = |dtype, bytes: &[u8], n, k| {
        Matrix::pack(dtype, bytes, n, k)
            .err()
            .expect("a malformed tensor is refused")
    };
    let bytes = vec![0; 4 * 20];
    let length = |expected, actual| KernelError::ByteLength { expected, actual };
    assert_eq!(refused(Dtype::Q4_1, &bytes[..79], 2, 64), length(80, 79));
    assert_eq!(refused(Dtype::Q4_1, &bytes, 3, 64), length(120, 80));
    assert_eq!(
        refused(Dtype::Q8_0, &[], 1 << 22, 1 << 18),
        length(34 << 35, 0)
    );
    for (n, k) in [
        (0, 32),
        (1, 0),
        (usize::MAX, 32),
        (1, MATRIX_COLS_MAX + 32),
        (1, usize::MAX),
    ] {
        let error = refused(Dtype::Q4_1, &bytes, n, k);
        assert!(
            matches!(error, KernelError::Dimension { .. }),
            "{n} x {k}: {error}"
        );
    }
    for (dtype, k) in [(Dtype::Q4_0, 33), (Dtype::Q4K, 32), (Dtype::Q6K, 288)] {
        let error = refused(dtype, &bytes, 1, k);
        assert!(
            matches!(error, KernelError::NotBlocks { .. }),
            "{dtype:?} {k}: {error}"
        );
    }
}

/// An undefined activation is not silently dropped.
#[test]
fn undefined_activations_reach_the_output() {
    let pool = ThreadPool::new(1);
    for dtype in Dtype::ALL {
        let (n, k) = (16, 256);
        let matrix = Matrix::pack(dtype, &random_tensor(dtype, n, k, 8), n, k).expect("packs");
        for poison in [f32::NAN, f32::INFINITY] {
            let mut x = random_values(k, 9);
            x[100] = poison;
            for set in InstructionSet::available() {
                let mut activations = Activations::new(Keep::ValuesToo);
                activations.quantize_with(set, &pool, &x, 1, k);
                let mut out = vec![0.0; n];
                matmul_with(
                    set,
                    &pool,
                    &activations,
                    &mut [(&matrix, &mut out)],
                    Store::Replace,
                );
                assert!(
                    out.iter().all(|y| !y.is_finite()),
                    "{set:?} {dtype:?} {out:?}"
                );
            }
        }
    }
}
