//! What the card itself can do: the two numbers that everything is measured against.

use farthing_gpu_tests::random::Random;
use farthing_gpu_tests::stopwatch::{Stopwatch, bf16_bytes};
use farthing_kernels::cuda::{Card, CudaError, Device, copy};
use serde::{Deserialize, Serialize};

/// Far more than a cache holds.
const COPY_BYTES: usize = 1 << 30;
/// Copies of one timing.
const COPIES: usize = 4;
/// The edge of a product that fills any card.
const MATMUL_EDGE: usize = 8_192;

/// Rates of a card.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Of a large copy on the device, bytes read and bytes written, in 10^9 a second.
    pub copy_gb_s: f64,
    /// Of a large dense bf16 product by cuBLASLt, in 10^12 operations a second; none without it.
    pub matmul_tflop_s: Option<f64>,
}

impl Limits {
    /// Measures both on random data: zeros can be faster than what is served.
    pub fn measure(card: &mut Card) -> Result<Limits, CudaError> {
        let from = card.upload(&bf16_bytes(&mut Random::new(0), COPY_BYTES / 2))?;
        let to = card.filled(COPY_BYTES, 0xff)?;
        // The driver's copy, or ours where that is faster.
        let driver_us = card.time_us(COPIES, &mut |card, _| card.copy(&from, &to))?;
        let kernel_us = card.time_us(COPIES, &mut |card, _| {
            copy::run(card, &from, &to, COPY_BYTES)
        })?;
        let copy_us = driver_us.min(kernel_us);
        drop((from, to));
        let edge = MATMUL_EDGE;
        let matmul_us = card.peer_matmul_us(edge, edge, edge)?;
        if matmul_us.is_none() {
            eprintln!("no rate of dense products: libcublasLt is not on this machine");
        }
        let operations = 2.0 * (edge as f64).powi(3);
        Ok(Limits {
            copy_gb_s: 2.0 * COPY_BYTES as f64 / copy_us / 1e3,
            matmul_tflop_s: matmul_us.map(|us| operations / us / 1e6),
        })
    }
}
