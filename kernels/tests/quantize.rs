//! Quantization: what is written is read back close to what it was, no worse than candle's, and
//! what a format cannot hold is refused.

mod tensors;

use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};
use farthing_kernels::{Dtype, KernelError, dequantize_row, quantize_row};
use tensors::{Random, candle_dtype};

const COLS: usize = 1_024;
const QUANTIZED: [Dtype; 4] = [Dtype::Q8_0, Dtype::Q4_0, Dtype::Q4_1, Dtype::Q4K];

/// Weights as models have them: nearly normal, some far out, of other sizes from block to block.
fn weights(seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let mut weight = |index: usize| {
        let normal: f32 = (0..6).map(|_| random.value()).sum::<f32>() * 0.02;
        let far = if random.bits().is_multiple_of(97) {
            5.0
        } else {
            1.0
        };
        normal * far * (1.0 + (index / 64 % 4) as f32) + 0.002
    };
    (0..COLS).map(&mut weight).collect()
}

fn there_and_back(dtype: Dtype, values: &[f32]) -> Vec<f32> {
    let mut bytes = vec![0; dtype.row_bytes(values.len()).expect("whole blocks")];
    quantize_row(dtype, values, &mut bytes).expect("finite");
    let mut back = vec![0.0; values.len()];
    dequantize_row(dtype, &bytes, &mut back).expect("whole blocks");
    back
}

fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    let error = |(a, b): (&f32, &f32)| f64::from(a - b) * f64::from(a - b);
    a.iter().zip(b).map(error).sum()
}

#[test]
fn errors_are_no_larger_than_candles() {
    for dtype in QUANTIZED {
        let (mut ours, mut theirs) = (0.0, 0.0);
        for seed in 0..40 {
            let values = weights(seed);
            let tensor = Tensor::from_slice(&values, (1, COLS), &Device::Cpu).expect("a tensor");
            let quantized = QTensor::quantize(&tensor, candle_dtype(dtype)).expect("quantized");
            let back = quantized
                .dequantize(&Device::Cpu)
                .and_then(|t| t.flatten_all());
            let back = back.and_then(|t| t.to_vec1::<f32>()).expect("dequantized");
            ours += squared_error(&values, &there_and_back(dtype, &values));
            theirs += squared_error(&values, &back);
        }
        println!("{dtype:?}: squared error {:.4} of candle's", ours / theirs);
        assert!(
            ours <= theirs * 1.0001,
            "{dtype:?}: {ours} where candle has {theirs}"
        );
    }
}

/// No value is further off than the step of its block allows, up to what the search gives away.
#[test]
fn every_value_is_near() {
    for dtype in QUANTIZED {
        for seed in 0..20 {
            let values = weights(seed);
            let back = there_and_back(dtype, &values);
            let block = dtype.block_len();
            for (values, back) in values.chunks(block).zip(back.chunks(block)) {
                let (low, high) = values.iter().fold((0f32, 0f32), |(low, high), &value| {
                    (low.min(value), high.max(value))
                });
                let step = (high - low) / if dtype == Dtype::Q8_0 { 127.0 } else { 15.0 };
                for (value, back) in values.iter().zip(back) {
                    let off = (value - back).abs();
                    assert!(
                        off <= 2.0 * step,
                        "{dtype:?}, seed {seed}: {value} as {back}"
                    );
                }
            }
        }
    }
}

/// What a format holds exactly stays as it is; so does what is nothing.
#[test]
fn values_of_the_format_are_kept() {
    let mut random = Random::new(3);
    for dtype in [
        Dtype::F32,
        Dtype::F16,
        Dtype::BF16,
        Dtype::Q8_0,
        Dtype::Q4_1,
    ] {
        for _ in 0..20 {
            let d = 1.0 / 64.0;
            let mut quant = |max: u64| (random.bits() % (max + 1)) as f32;
            let mut values: Vec<f32> = (0..32)
                .map(|_| match dtype {
                    Dtype::Q8_0 => (quant(254) - 127.0) * d,
                    _ => quant(15) * d - 0.25,
                })
                .collect();
            // Both ends of the range, without which it cannot be known.
            (values[0], values[1]) = match dtype {
                Dtype::Q8_0 => (127.0 * d, 0.0),
                _ => (-0.25, 15.0 * d - 0.25),
            };
            assert_eq!(there_and_back(dtype, &values), values, "{dtype:?}");
        }
    }
    for dtype in QUANTIZED {
        assert_eq!(there_and_back(dtype, &[0.0; 256]), [0.0; 256], "{dtype:?}");
    }
    for dtype in [Dtype::Q4_0, Dtype::Q4_1, Dtype::Q4K] {
        for constant in [1.0, -1.0] {
            let back = there_and_back(dtype, &[constant; 256]);
            assert!(
                back.iter().all(|x| (x - constant).abs() < 0.01),
                "{dtype:?}: {back:?}"
            );
        }
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    let check = |dtype, values: &[f32], bytes: usize| {
        quantize_row(dtype, values, &mut vec![0; bytes]).expect_err("refused")
    };
    for dtype in QUANTIZED {
        let bytes = dtype.row_bytes(256).expect("whole blocks");
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [0.5; 256];
            values[77] = wrong;
            let error = check(dtype, &values, bytes);
            assert_eq!(error, KernelError::NotFinite { dtype, index: 77 });
        }
        let error = check(dtype, &[f32::MAX; 256], bytes);
        assert!(
            matches!(error, KernelError::NotFinite { .. }),
            "{dtype:?}: {error}"
        );
        let error = check(dtype, &[0.0; 256], bytes - 1);
        assert!(
            matches!(error, KernelError::ByteLength { .. }),
            "{dtype:?}: {error}"
        );
        let error = check(dtype, &[0.0; 31], bytes);
        assert!(
            matches!(error, KernelError::NotBlocks { .. }),
            "{dtype:?}: {error}"
        );
    }
    let error = check(Dtype::F16, &[0.0, 1e6], 4);
    let (dtype, index) = (Dtype::F16, 1);
    assert_eq!(error, KernelError::NotFinite { dtype, index });
    for dtype in [Dtype::Q5_0, Dtype::Q6K] {
        let bytes = dtype.row_bytes(256).expect("whole blocks");
        assert_eq!(
            check(dtype, &[0.0; 256], bytes),
            KernelError::ReadOnly { dtype }
        );
    }
}
