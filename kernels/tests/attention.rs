//! Paged attention: every version against f64 arithmetic over keys and values laid out plainly.

mod tensors;

use farthing_kernels::{
    AttentionRow, InstructionSet, KernelError, KvCache, KvDtype, Operands, ThreadPool,
    paged_attention, paged_attention_with,
};
use proptest::prelude::*;
use tensors::{Random, random_values};

/// Largest absolute difference for values below 5 in size. A score of 128 products in f32 is off by
/// some 1e-5 at worst, and twice that, times the value, is how far the answer moves. What a wrong
/// scale, head or slot does is a hundred times as much.
const TOLERANCE: f64 = 1e-4;

/// Heads and pages of a cache.
#[derive(Debug, Clone, Copy)]
struct Shape {
    dtype: KvDtype,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    block_size: usize,
}

const SMOLLM2: Shape = Shape {
    dtype: KvDtype::F16,
    heads: 9,
    kv_heads: 3,
    head_dim: 64,
    block_size: 16,
};
const QWEN2: Shape = Shape {
    dtype: KvDtype::F16,
    heads: 14,
    kv_heads: 2,
    head_dim: 64,
    block_size: 32,
};
const WIDE: Shape = Shape {
    dtype: KvDtype::F16,
    heads: 4,
    kv_heads: 4,
    head_dim: 128,
    block_size: 7,
};
const NARROW: Shape = Shape {
    dtype: KvDtype::F16,
    heads: 2,
    kv_heads: 1,
    head_dim: 8,
    block_size: 1,
};
const UNEVEN: Shape = Shape {
    dtype: KvDtype::F16,
    heads: 6,
    kv_heads: 2,
    head_dim: 40,
    block_size: 5,
};

/// A sequence of some tokens, of which the last few are queries.
#[derive(Debug, Clone)]
struct Sequence {
    tokens: usize,
    queries: usize,
}

/// A cache with shuffled blocks, filled, and what it holds in plain order.
struct Filled {
    cache: KvCache,
    tables: Vec<Vec<u32>>,
    /// Per sequence `[tokens, kv_heads, head_dim]`, rounded to f16.
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
}

const LAYERS: usize = 2;
const LAYER: usize = 1;
/// 1 / sqrt(64); with the random keys here some weights are near 0 and some near 1.
const SCALE: f32 = 0.125;

fn fill(shape: Shape, sequences: &[Sequence], seed: u64) -> Filled {
    let width = shape.kv_heads * shape.head_dim;
    let blocks: usize = sequences
        .iter()
        .map(|s| s.tokens.div_ceil(shape.block_size))
        .sum();
    let mut cache = KvCache::new(
        shape.dtype,
        LAYERS,
        blocks,
        shape.block_size,
        shape.kv_heads,
        shape.head_dim,
    )
    .expect("a small cache");
    let pool = ThreadPool::new(2);
    let mut free: Vec<u32> = (0..blocks as u32).collect();
    let mut random = Random::new(seed);
    for index in (1..blocks).rev() {
        free.swap(index, random.bits() as usize % (index + 1));
    }
    let (mut tables, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for sequence in sequences {
        let table = free.split_off(free.len() - sequence.tokens.div_ceil(shape.block_size));
        let rounded = |seed| -> Vec<f32> {
            let values = random_values(sequence.tokens * width, seed);
            stored(&values, shape)
        };
        let (key, value) = (rounded(random.bits()), rounded(random.bits()));
        let rows: Vec<AttentionRow<'_>> = (1..=key.len() / width)
            .map(|context| AttentionRow {
                block_table: &table,
                context,
            })
            .collect();
        cache.write(&pool, LAYER, &rows, &key, &value);
        tables.push(table);
        keys.push(key);
        values.push(value);
    }
    Filled {
        cache,
        tables,
        keys,
        values,
    }
}

/// What a cache makes of keys or values `[tokens, kv_heads, head_dim]`.
fn stored(values: &[f32], shape: Shape) -> Vec<f32> {
    let int8 = |vector: &[f32]| -> Vec<f32> {
        let scale = vector
            .iter()
            .fold(0.0f32, |largest, x| largest.max(x.abs()))
            / 127.0;
        let quant = |x: &f32| (x / scale).round_ties_even();
        vector.iter().map(|x| quant(x) * scale).collect()
    };
    match shape.dtype {
        KvDtype::F16 => values
            .iter()
            .map(|x| half::f16::from_f32(*x).to_f32())
            .collect(),
        KvDtype::Int8 => values.chunks_exact(shape.head_dim).flat_map(int8).collect(),
    }
}

/// The same shape with int8 keys and values.
fn int8(shape: Shape) -> Shape {
    Shape {
        dtype: KvDtype::Int8,
        ..shape
    }
}

/// Softmax attention of one query head, straight from the formula.
fn expected(query: &[f32], key: &[&[f32]], value: &[&[f32]]) -> Vec<f64> {
    let dot = |key: &&[f32]| -> f64 {
        query
            .iter()
            .zip(*key)
            .map(|(q, k)| f64::from(q * SCALE) * f64::from(*k))
            .sum()
    };
    let scores: Vec<f64> = key.iter().map(dot).collect();
    let largest = scores
        .iter()
        .fold(f64::NEG_INFINITY, |largest, score| largest.max(*score));
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut out = vec![0.0; query.len()];
    for (weight, value) in weights.iter().zip(value) {
        for (out, value) in out.iter_mut().zip(*value) {
            *out += weight / total * f64::from(*value);
        }
    }
    out
}

/// A sequence's tokens up to `context` in one key head.
fn of_head(plain: &[f32], shape: Shape, kv_head: usize, context: usize) -> Vec<&[f32]> {
    let tokens = plain
        .chunks_exact(shape.kv_heads * shape.head_dim)
        .take(context);
    let start = kv_head * shape.head_dim;
    tokens
        .map(|token| &token[start..start + shape.head_dim])
        .collect()
}

/// Attends with every version and compares with the formula, and each row alone with the batch.
fn check(shape: Shape, sequences: &[Sequence], seed: u64) {
    let filled = fill(shape, sequences, seed);
    let mut rows = Vec::new();
    let mut origins = Vec::new();
    for (index, sequence) in sequences.iter().enumerate() {
        for context in sequence.tokens - sequence.queries + 1..=sequence.tokens {
            rows.push(AttentionRow {
                block_table: &filled.tables[index],
                context,
            });
            origins.push((index, context));
        }
    }
    let (heads, head_dim, width) = (shape.heads, shape.head_dim, shape.heads * shape.head_dim);
    let queries = random_values(rows.len() * width, seed + 1);
    let expected: Vec<f64> = queries
        .chunks_exact(head_dim)
        .enumerate()
        .flat_map(|(index, query)| {
            let (sequence, context) = origins[index / heads];
            let kv_head = index % heads / (heads / shape.kv_heads);
            let key = of_head(&filled.keys[sequence], shape, kv_head, context);
            let value = of_head(&filled.values[sequence], shape, kv_head, context);
            expected(query, &key, &value)
        })
        .collect();
    let pool = ThreadPool::new(2);
    let (cache, layer, scale) = (&filled.cache, LAYER, SCALE);
    for set in InstructionSet::available() {
        let mut out = vec![f32::NAN; queries.len()];
        let (queries, rows) = (queries.as_slice(), rows.as_slice());
        let operands = Operands {
            cache,
            layer,
            queries,
            rows,
            heads,
            scale,
        };
        paged_attention_with(set, &pool, &operands, &mut out);
        for (index, (got, wanted)) in out.iter().zip(&expected).enumerate() {
            let difference = (f64::from(*got) - wanted).abs();
            assert!(
                difference < TOLERANCE,
                "{set:?} {shape:?} {index}: {got} for {wanted}"
            );
        }
        for (index, row) in rows.iter().enumerate().step_by(3) {
            let of = index * width..(index + 1) * width;
            let (queries, rows) = (&queries[of.clone()], std::slice::from_ref(row));
            let mut alone = vec![0.0; width];
            let operands = Operands {
                cache,
                layer,
                queries,
                rows,
                heads,
                scale,
            };
            paged_attention_with(set, &pool, &operands, &mut alone);
            assert_eq!(alone, out[of], "{set:?} {shape:?} row {index}");
        }
    }
}

/// Attention in the cache's second layer, by a pool of `threads`.
fn attend(filled: &Filled, rows: &[AttentionRow<'_>], queries: &[f32], threads: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; queries.len()];
    let pool = ThreadPool::new(threads);
    let (cache, heads) = (
        &filled.cache,
        queries.len() / rows.len() / filled.cache.head_dim(),
    );
    paged_attention(&pool, cache, LAYER, queries, rows, heads, SCALE, &mut out);
    out
}

/// A context is shared among threads in pieces when there are few sequences, and the pieces are
/// folded the same way when one thread does all, so the bits of a row are the same.
#[test]
fn a_row_does_not_depend_on_who_attends_to_which_part() {
    for shape in [SMOLLM2, QWEN2, UNEVEN, int8(QWEN2)] {
        let sequences = [sequence(1_500, 21), sequence(257, 2), sequence(256, 1)];
        let filled = fill(shape, &sequences, 7);
        let width = shape.heads * shape.head_dim;
        let rows: Vec<AttentionRow<'_>> = sequences
            .iter()
            .zip(&filled.tables)
            .flat_map(|(sequence, block_table)| {
                let contexts = sequence.tokens - sequence.queries + 1..=sequence.tokens;
                contexts.map(move |context| AttentionRow {
                    block_table,
                    context,
                })
            })
            .collect();
        let queries = random_values(rows.len() * width, 8);
        let expected = attend(&filled, &rows, &queries, 1);
        for threads in [2, 3, 7] {
            assert_eq!(
                attend(&filled, &rows, &queries, threads),
                expected,
                "{shape:?} {threads}"
            );
        }
        for (index, row) in rows.iter().enumerate() {
            let of = index * width..(index + 1) * width;
            let (row, queries) = (std::slice::from_ref(row), &queries[of.clone()]);
            for threads in [1, 2, 5] {
                let alone = attend(&filled, row, queries, threads);
                assert_eq!(
                    alone,
                    expected[of.clone()],
                    "{shape:?} row {index} {threads}"
                );
            }
        }
    }
}

fn sequence(tokens: usize, queries: usize) -> Sequence {
    Sequence { tokens, queries }
}

#[test]
fn every_shape_agrees_with_the_formula() {
    let shapes = [SMOLLM2, QWEN2, WIDE, NARROW, UNEVEN];
    for shape in shapes.into_iter().chain(shapes.map(int8)) {
        check(shape, &[sequence(1, 1)], 1);
        check(shape, &[sequence(33, 33)], 2);
        check(
            shape,
            &[
                sequence(100, 1),
                sequence(31, 31),
                sequence(65, 2),
                sequence(7, 1),
            ],
            3,
        );
    }
    check(SMOLLM2, &[sequence(700, 9), sequence(300, 1)], 4);
    check(QWEN2, &[sequence(1_100, 1)], 5);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_batch_agrees_with_the_formula(
        shape in proptest::sample::select(vec![
            SMOLLM2, QWEN2, WIDE, NARROW, UNEVEN, int8(SMOLLM2), int8(UNEVEN),
        ]),
        sizes in proptest::collection::vec((1usize..90, 1usize..90), 1..4),
        seed in 0u64..1_000_000,
    ) {
        let sequences: Vec<Sequence> =
            sizes.iter().map(|&(a, b)| sequence(a.max(b), a.min(b))).collect();
        check(shape, &sequences, seed);
    }
}

/// What a page held before, even an infinity, does not leak into a sequence that has not yet
/// reached those slots.
#[test]
fn slots_beyond_the_context_are_not_read() {
    for shape in [SMOLLM2, int8(SMOLLM2)] {
        check_stale_slots(shape);
    }
}

fn check_stale_slots(shape: Shape) {
    let mut filled = fill(shape, &[sequence(16, 1)], 5);
    let width = shape.kv_heads * shape.head_dim;
    let pool = ThreadPool::new(1);
    let queries = random_values(shape.heads * shape.head_dim, 6);
    let attend = |filled: &Filled| {
        let rows = [AttentionRow {
            block_table: &filled.tables[0],
            context: 10,
        }];
        let mut out = vec![0.0; queries.len()];
        let (cache, heads) = (&filled.cache, shape.heads);
        paged_attention(&pool, cache, LAYER, &queries, &rows, heads, SCALE, &mut out);
        out
    };
    let before = attend(&filled);
    let stale = vec![f32::INFINITY; width];
    for context in 11..=16 {
        let row = AttentionRow {
            block_table: &filled.tables[0],
            context,
        };
        filled
            .cache
            .write(&ThreadPool::new(1), LAYER, &[row], &stale, &stale);
    }
    assert_eq!(attend(&filled), before);
}

#[test]
fn int8_takes_half_the_memory_and_a_scale_a_vector() {
    let bytes = |dtype| {
        let cache = KvCache::new(dtype, 2, 10, 16, 3, 64).expect("a small cache");
        cache.bytes()
    };
    let vectors = 2 * 2 * 10 * 16 * 3;
    assert_eq!(bytes(KvDtype::F16), vectors * 64 * 2);
    assert_eq!(bytes(KvDtype::Int8), vectors * (64 + 4));
}

#[test]
fn caches_of_impossible_size_are_refused() {
    for (layers, blocks, block_size, kv_heads, head_dim) in [
        (0, 1, 1, 1, 64),
        (1, 0, 16, 1, 64),
        (1, 1, 16, 1, 0),
        (1, 1, 16, 1, 63),
        (1, 1, 16, 1, 1024),
        (1, usize::MAX, 16, 1, 64),
        (512, 1 << 18, 16, 8, 128),
        (usize::MAX, usize::MAX, usize::MAX, usize::MAX, 64),
    ] {
        let error =
            KvCache::new(KvDtype::F16, layers, blocks, block_size, kv_heads, head_dim).err();
        assert!(
            matches!(error, Some(KernelError::Dimension { .. })),
            "{error:?}"
        );
    }
}
