//! Products of packed weights at the matrices of three models.
//!
//! Up to 64 tokens memory is the limit, the weights' bytes as they are packed; with more tokens the
//! peer is cuBLASLt with bf16 weights. Weights rotate among copies that do not fit in the cache.

use std::collections::HashMap;

use farthing_kernels::cuda::product::{Family, Operands, Store};
use farthing_kernels::cuda::weights::{DeviceWeights, Format, WeightShape};
use farthing_kernels::cuda::{CudaError, gemm_hopper, gemm_small};

use super::{Bound, Timing};
use crate::random::Random;
use crate::stopwatch::{Stopwatch, bf16_bytes, copies};

/// A matrix of a model: outputs and inputs, and whether it is the 8-bit head.
type Matrix = (&'static str, usize, usize, Format);

const AFFINE: Format = Format::NibbleAffine;
const BYTES: Format = Format::ByteSymmetric;

/// The matrices of Llama-3-8B, Qwen2.5-7B and SmolLM2-135M, and other formats at one of them.
const MATRICES: [Matrix; 18] = [
    ("Llama-3-8B qkv", 6144, 4096, AFFINE),
    ("Llama-3-8B o", 4096, 4096, AFFINE),
    ("Llama-3-8B gate_up", 28_672, 4096, AFFINE),
    ("Llama-3-8B down", 4096, 14_336, AFFINE),
    ("Llama-3-8B head", 128_256, 4096, BYTES),
    ("Llama-3-8B gate_up", 28_672, 4096, Format::NibbleSymmetric),
    ("Llama-3-8B gate_up", 28_672, 4096, BYTES),
    ("Llama-3-8B gate_up", 28_672, 4096, Format::ByteHalfGroups),
    ("Qwen2.5-7B qkv", 4608, 3584, AFFINE),
    ("Qwen2.5-7B o", 3584, 3584, AFFINE),
    ("Qwen2.5-7B gate_up", 37_888, 3584, AFFINE),
    ("Qwen2.5-7B down", 3584, 18_944, AFFINE),
    ("Qwen2.5-7B head", 152_064, 3584, BYTES),
    ("SmolLM2 qkv", 960, 576, AFFINE),
    ("SmolLM2 o", 576, 576, AFFINE),
    ("SmolLM2 gate_up", 3072, 576, AFFINE),
    ("SmolLM2 down", 576, 1536, AFFINE),
    ("SmolLM2 head", 49_152, 576, BYTES),
];

/// Tokens of a decode step, and of a prompt.
const TOKENS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const PROMPT_TOKENS: [usize; 2] = [1024, 4096];
/// Where cuBLASLt is timed too: it reads the same bytes whatever the tokens, up to some number.
const PEER_TOKENS: [usize; 7] = [1, 16, 64, 128, 256, 1024, 4096];
/// Below so many bytes the launch is longer than the product: no share of a limit is asked for.
const TARGET_BYTES_MIN: usize = 8 << 20;
/// Heads multiply the last token of each sequence, never a prompt.
const HEAD_ROWS_MIN: usize = 40_000;
/// Random bytes that weights are tiled with.
const TILE_BYTES: usize = 1 << 20;

/// Times every matrix at every number of tokens.
///
/// # Errors
/// The device fails.
pub fn bench<D: Stopwatch>(device: &mut D) -> Result<Vec<Timing>, CudaError> {
    let mut random = Random::new(0);
    let mut timings = Vec::new();
    // The peer's weights are bf16 whatever ours are, so each shape is timed once.
    let mut peers = HashMap::new();
    for (name, rows, cols, format) in MATRICES {
        let shape = WeightShape {
            format,
            rows,
            cols,
            group: 32,
        };
        let bytes = shape.quant_bytes() + shape.scale_bytes();
        let weights = random_weights(device, &mut random, shape)?;
        let prompts = rows < HEAD_ROWS_MIN && bytes >= TARGET_BYTES_MIN && format == AFFINE;
        let more: &[usize] = if prompts { &PROMPT_TOKENS } else { &[] };
        for &tokens in TOKENS.iter().chain(more) {
            let family = Family::for_tokens(tokens, device.properties());
            let mut timing = time(device, &mut random, &weights, name, tokens, family)?;
            if PEER_TOKENS.contains(&tokens) {
                timing.peer_us = match peers.get(&(tokens, rows, cols)) {
                    Some(time_us) => *time_us,
                    None => device.peer_matmul_us(tokens, rows, cols)?,
                };
                peers.insert((tokens, rows, cols), timing.peer_us);
            }
            timings.push(timing);
            // The other kernels that take so many tokens, to choose between them.
            if (2..=32).contains(&tokens) && device.properties().capability == (9, 0) {
                let family = match tokens {
                    17.. => &gemm_small::GEMM_32,
                    _ => &gemm_hopper::HOPPER_64,
                };
                let timing = time(device, &mut random, &weights, name, tokens, family)?;
                // Only what serves has a target.
                timings.push(Timing {
                    target: None,
                    ..timing
                });
            }
        }
    }
    Ok(timings)
}

fn time<D: Stopwatch>(
    device: &mut D,
    random: &mut Random,
    weights: &[DeviceWeights<D::Buffer>],
    name: &str,
    tokens: usize,
    family: &Family,
) -> Result<Timing, CudaError> {
    let shape = weights[0].shape;
    let plan = family.plan(&shape, tokens, device.properties())?;
    // bf16 from -1 to 1 are small f16, which are as good.
    let x = device.upload(&bf16_bytes(random, tokens * shape.cols))?;
    let out = device.filled(2 * tokens * shape.rows, 0xff)?;
    let workspace = device.filled(plan.workspace_bytes, 0)?;
    let counters = device.filled(plan.counter_bytes, 0)?;
    let time_us = device.time_us(weights.len(), &mut |device, copy| {
        let operands = Operands {
            weights: &weights[copy],
            x: &x,
            tokens,
            bias: None,
            out: &out,
            store: Store::F16,
            workspace: &workspace,
            counters: &counters,
        };
        operands.run_with(family, device)
    })?;
    let weight_bytes = shape.quant_bytes() + shape.scale_bytes();
    let target = match tokens {
        0..=16 => 0.80,
        17..=32 => 0.65,
        33..=64 => 0.50,
        _ => 0.60,
    };
    Ok(Timing {
        operation: plan.launch.kernel,
        shape: format!("{name} {:?}", shape.format),
        rows: tokens,
        time_us,
        bytes: (weight_bytes + 2 * tokens * (shape.rows + shape.cols)) as f64,
        operations: 2.0 * (tokens * shape.rows * shape.cols) as f64,
        bound: if tokens <= 64 {
            Bound::Memory
        } else {
            Bound::Arithmetic
        },
        target: (weight_bytes >= TARGET_BYTES_MIN).then_some(target),
        peer_us: None,
    })
}

/// Copies of weights of random quants; scales are small f16 of either sign.
pub(super) fn random_weights<D: Stopwatch>(
    device: &mut D,
    random: &mut Random,
    shape: WeightShape,
) -> Result<Vec<DeviceWeights<D::Buffer>>, CudaError> {
    let tile: Vec<u8> = (0..TILE_BYTES / 8)
        .flat_map(|_| random.bits().to_le_bytes())
        .collect();
    // The exponents of 0x2000 to 0x2fff are those of 0.0078 to 0.125.
    let scale_tile: Vec<u8> = tile
        .chunks_exact(2)
        .flat_map(|bytes| [bytes[0], bytes[1] & 0x8f | 0x20])
        .collect();
    let tiled = |tile: &[u8], len: usize| {
        let mut bytes = tile.repeat(len.div_ceil(tile.len()));
        bytes.truncate(len);
        bytes
    };
    let quants = tiled(&tile, shape.quant_bytes());
    let scales = tiled(&scale_tile, shape.scale_bytes());
    (0..copies(device, quants.len() + scales.len()))
        .map(|_| {
            Ok(DeviceWeights {
                shape,
                quants: device.upload(&quants)?,
                scales: device.upload(&scales)?,
            })
        })
        .collect()
}
