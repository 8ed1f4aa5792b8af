//! Bias, rotation and the write into the cache: both orders, both kinds of cache, every head size,
//! with and without a bias; padding, slots beyond the cache and positions beyond the table. What is
//! not to be written keeps its poison.

use super::{Extent, Outcome, relative_error};
use crate::floats::{f32_bytes, worse};
use crate::paged::{f16_bytes, f16_values, shuffled, u32_bytes};
use crate::random::Random;
use farthing_kernels::cuda::kv_layout::{Half, KvBuffers, KvBytes, KvKind, KvLayout};
use farthing_kernels::cuda::rope_kv::{Inputs, NO_SLOT, Operands, Shape, reference, run};
use farthing_kernels::cuda::{CudaError, Device};
use farthing_kernels::{RopeStyle, RopeTable};

const POSITIONS: usize = 300;
const BLOCKS: usize = 5;
/// The rounding of an f16 result.
const TOLERANCE_F16: f64 = 5e-4;
/// Beside that of integers to the nearest: one that is halfway may go either way.
const TOLERANCE_I8: f64 = 2e-3;

/// Rows, heads, key heads, head size, block size.
type Case = (usize, usize, usize, usize, usize);

const SMALL: [Case; 5] = [
    (1, 9, 3, 64, 16),
    (17, 3, 1, 96, 32),
    (3, 28, 4, 128, 16),
    (2, 32, 8, 128, 32),
    // More than fit a block of threads at once.
    (7, 40, 2, 256, 16),
];

const FULL: [Case; 3] = [
    (70, 32, 8, 128, 16),
    (70, 28, 4, 128, 32),
    (70, 64, 64, 128, 16),
];

pub fn check<D: Device>(
    device: &mut D,
    extent: Extent,
    random: &mut Random,
) -> Result<Vec<Outcome>, CudaError> {
    let full: &[Case] = match extent {
        Extent::Small => &[],
        Extent::Full => &FULL,
    };
    let mut outcomes = Vec::new();
    for (number, &(rows, heads, kv_heads, head_dim, block_size)) in
        SMALL.iter().chain(full).enumerate()
    {
        for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
            for kind in [KvKind::F16, KvKind::I8] {
                let cache = KvLayout {
                    kind,
                    blocks: BLOCKS,
                    kv_heads,
                    block_size,
                    head_dim,
                };
                let shape = Shape {
                    rows,
                    heads,
                    style,
                    positions: POSITIONS,
                    cache,
                };
                // Half of the cases have a bias, and not the same half for every combination.
                let with_bias = (number + outcomes.len() / 2).is_multiple_of(2);
                outcomes.extend(compare(device, random, &shape, with_bias.then_some(2.0))?);
            }
        }
    }
    Ok(outcomes)
}

fn compare<D: Device>(
    device: &mut D,
    random: &mut Random,
    shape: &Shape,
    bias_size: Option<f32>,
) -> Result<[Outcome; 2], CudaError> {
    let layout = shape.cache;
    let table = RopeTable::new(layout.head_dim, 1e4, POSITIONS)?;
    let qkv_bytes = f16_bytes(&qkv(random, shape), 1.0);
    let bias: Option<Vec<f32>> = bias_size.map(|size| {
        let values = random.values(shape.width()).into_iter();
        values.map(|x| x * size).collect()
    });
    let (positions, slots) = places(random, shape);
    let q_len = shape.rows * shape.heads * layout.head_dim;
    let mut wanted_q = f16_values(&vec![0xff; 2 * q_len]);
    let mut wanted_cache = KvBytes::filled(layout, 0xff);
    let inputs = Inputs {
        qkv: &f16_values(&qkv_bytes),
        bias: bias.as_deref(),
        positions: &positions,
        slots: &slots,
        table: &table,
    };
    reference(shape, &inputs, &mut wanted_q, &mut wanted_cache);

    let (got_q, got_cache) = run_on(device, shape, &inputs)?;
    let case = |part: &str| {
        let bias = if bias.is_some() { " bias" } else { "" };
        format!(
            "{part} {:?} {:?}{bias} {} rows {}/{}x{}",
            shape.style, layout.kind, shape.rows, shape.heads, layout.kv_heads, layout.head_dim
        )
    };
    let outcome = |part, error, tolerance| Outcome {
        operation: "rope_kv",
        case: case(part),
        error,
        tolerance,
    };
    let tolerance = match layout.kind {
        KvKind::F16 => TOLERANCE_F16,
        KvKind::I8 => TOLERANCE_I8,
    };
    Ok([
        outcome("q", poisoned_error(&got_q, &wanted_q), TOLERANCE_F16),
        outcome("cache", cache_error(&got_cache, &wanted_cache), tolerance),
    ])
}

/// The device's queries and cache.
fn run_on<D: Device>(
    device: &mut D,
    shape: &Shape,
    inputs: &Inputs<'_>,
) -> Result<(Vec<f32>, KvBytes), CudaError> {
    let layout = shape.cache;
    let q_bytes = 2 * shape.rows * shape.heads * layout.head_dim;
    let qkv = device.upload(&f16_bytes(inputs.qkv, 1.0))?;
    let bias = device.upload(&f32_bytes(inputs.bias.unwrap_or_default()))?;
    let positions = device.upload(&u32_bytes(inputs.positions))?;
    let slots = device.upload(&u32_bytes(inputs.slots))?;
    let cosines = device.upload(&f32_bytes(inputs.table.cosines()))?;
    let sines = device.upload(&f32_bytes(inputs.table.sines()))?;
    let q_out = device.filled(q_bytes, 0xff)?;
    let keys = device.filled(layout.bytes(), 0xff)?;
    let values = device.filled(layout.bytes(), 0xff)?;
    let key_scales = device.filled(layout.scale_bytes(), 0xff)?;
    let value_scales = device.filled(layout.scale_bytes(), 0xff)?;
    let operands = Operands {
        qkv: &qkv,
        bias: inputs.bias.is_some().then_some(&bias),
        positions: &positions,
        slots: &slots,
        cosines: &cosines,
        sines: &sines,
        q_out: &q_out,
        cache: KvBuffers {
            keys: &keys,
            values: &values,
            scales: (layout.kind == KvKind::I8).then_some((&key_scales, &value_scales)),
        },
    };
    run(device, shape, &operands)?;
    let cache = KvBytes {
        layout,
        keys: device.download(&keys)?,
        values: device.download(&values)?,
        key_scales: device.download(&key_scales)?,
        value_scales: device.download(&value_scales)?,
    };
    Ok((f16_values(&device.download(&q_out)?), cache))
}

/// Random values; the last row's last value head is zeros.
fn qkv(random: &mut Random, shape: &Shape) -> Vec<f32> {
    let mut qkv = random.values(shape.rows * shape.width());
    qkv.iter_mut().for_each(|x| *x *= 4.0);
    let zeros = qkv.len() - shape.cache.head_dim;
    qkv[zeros..].fill(0.0);
    qkv
}

/// Positions and slots. Of many rows some have places that are not there.
fn places(random: &mut Random, shape: &Shape) -> (Vec<u32>, Vec<u32>) {
    let slots_len = BLOCKS * shape.cache.block_size;
    let mut positions: Vec<u32> = (0..shape.rows)
        .map(|_| random.below(POSITIONS) as u32)
        .collect();
    let mut slots = shuffled(random, slots_len);
    slots.truncate(shape.rows);
    if shape.rows > 1 {
        positions[0] = POSITIONS as u32 - 1;
        slots[1] = NO_SLOT;
    }
    if shape.rows > 6 {
        positions[2] = POSITIONS as u32;
        positions[3] = u32::MAX;
        slots[4] = slots_len as u32;
        positions[5] = 0;
    }
    (positions, slots)
}

/// The relative error where both are numbers; not a number if only one is, anywhere.
fn poisoned_error(got: &[f32], wanted: &[f32]) -> f64 {
    let pairs = || got.iter().zip(wanted);
    if pairs().any(|(got, wanted)| got.is_nan() != wanted.is_nan()) {
        return f64::NAN;
    }
    let numbers =
        |values: &[f32]| -> Vec<f32> { values.iter().copied().filter(|x| !x.is_nan()).collect() };
    relative_error(&numbers(got), &numbers(wanted))
}

/// As attention would see them.
fn cache_error(got: &KvBytes, wanted: &KvBytes) -> f64 {
    let layout = got.layout;
    let mut error = 0.0;
    for half in [Half::Keys, Half::Values] {
        let all = |cache: &KvBytes| -> Vec<f32> {
            let slots = 0..layout.blocks * layout.block_size;
            let heads = slots.flat_map(|slot| (0..layout.kv_heads).map(move |head| (slot, head)));
            heads
                .flat_map(|(slot, head)| cache.read(half, slot, head))
                .collect()
        };
        error = worse(poisoned_error(&all(got), &all(wanted)), error);
    }
    error
}
