//! Dequantization is candle's, bit for bit, for every format and any bytes.

mod tensors;

use std::borrow::Cow;

use candle_core::Device;
use candle_core::quantized::{QStorage, QTensor};
use farthing_kernels::{Dtype, KernelError, dequantize_row};
use tensors::{Random, candle_dtype, random_tensor};

/// Compares bits, so that signed zeros and infinities count; undefined values need only agree in
/// being undefined.
fn check(dtype: Dtype, bytes: &[u8], elements: usize) {
    let mut ours = vec![0.0; elements];
    dequantize_row(dtype, bytes, &mut ours).expect("whole blocks");
    let theirs = QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, candle_dtype(dtype))
        .and_then(|storage| QTensor::new(storage, elements))
        .and_then(|tensor| tensor.dequantize(&Device::Cpu)?.to_vec1::<f32>())
        .expect("candle reads the format");
    for (index, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let equal = ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan());
        assert!(equal, "{dtype:?} element {index}: {ours} for {theirs}");
    }
}

#[test]
fn every_format_equals_candle() {
    for dtype in Dtype::ALL {
        for seed in 0..20 {
            check(dtype, &random_tensor(dtype, 3, 512, seed), 3 * 512);
        }
    }
}

#[test]
fn arbitrary_bytes_equal_candle() {
    let mut random = Random::new(1);
    for dtype in Dtype::ALL {
        for _ in 0..50 {
            let blocks = 512 / dtype.block_len();
            let bytes: Vec<u8> = (0..blocks * dtype.block_bytes())
                .map(|_| random.bits() as u8)
                .collect();
            check(dtype, &bytes, 512);
        }
    }
}

#[test]
fn wrong_lengths_are_refused() {
    let mut out = [0.0; 64];
    let error = dequantize_row(Dtype::Q8_0, &[0; 67], &mut out);
    assert_eq!(
        error,
        Err(KernelError::ByteLength {
            expected: 68,
            actual: 67
        })
    );
    let error = dequantize_row(Dtype::Q8_0, &[0; 68], &mut out[..63]);
    let (dtype, cols, block_len) = (Dtype::Q8_0, 63, 32);
    assert_eq!(
        error,
        Err(KernelError::NotBlocks {
            dtype,
            cols,
            block_len
        })
    );
}

#[test]
fn ggml_ids_name_the_formats() {
    for (id, dtype) in [
        (0, Some(Dtype::F32)),
        (1, Some(Dtype::F16)),
        (2, Some(Dtype::Q4_0)),
        (3, Some(Dtype::Q4_1)),
        (6, Some(Dtype::Q5_0)),
        (7, None),
        (8, Some(Dtype::Q8_0)),
        (12, Some(Dtype::Q4K)),
        (14, Some(Dtype::Q6K)),
        (30, Some(Dtype::BF16)),
        (u32::MAX, None),
    ] {
        assert_eq!(Dtype::from_ggml(id), dtype, "type {id}");
    }
}
