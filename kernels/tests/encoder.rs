//! What encoders are made of: products, attention, GELU and layer normalisation in f32, against f64
//! arithmetic, on every instruction set.

mod tensors;

use farthing_kernels::{
    Activation, InstructionSet, Linear, SelfAttention, ThreadPool, gelu, layer_norm,
};
use tensors::random_values;

/// Asserts that every element is within `tolerance`, relative for numbers above 1.
fn check(name: &str, got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let bound = tolerance * expected.abs().max(1.0);
        let difference = (f64::from(*got) - expected).abs();
        assert!(difference <= bound, "{name} {index}: {got} for {expected}");
    }
}

/// x times the share of the normal distribution below x, by the series of erf around 0, or by
/// the continued fraction of erfc.
fn gelu_in_f64(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let erf = if z < 3.0 {
        let (mut term, mut sum) = (z, z);
        for n in 1..200 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let fraction = (1..60)
            .rev()
            .fold(z, |rest, n| z + f64::from(n) / 2.0 / rest);
        1.0 - (-z * z).exp() / fraction / std::f64::consts::PI.sqrt()
    };
    x * (1.0 + erf.copysign(x)) / 2.0
}

#[test]
fn gelu_has_the_stated_error() {
    let x: Vec<f32> = (-120_000..=120_000)
        .map(|step| step as f32 * 1e-4)
        .collect();
    let expected: Vec<f64> = x.iter().map(|x| gelu_in_f64(f64::from(*x))).collect();
    let mut got = x;
    gelu(&mut got);
    check("gelu", &got, &expected, 1e-6);
    let mut edges = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -1e30];
    gelu(&mut edges);
    assert_eq!((edges[0], edges[3]), (f32::INFINITY, 0.0));
    assert!(edges[2].is_nan());
}

#[test]
fn layer_norm_normalises_each_row() {
    for width in [1, 7, 16, 384, 1_000] {
        let (weight, bias) = (random_values(width, 2), random_values(width, 3));
        let x = random_values(3 * width, 1);
        let mut expected = Vec::new();
        for row in x.chunks_exact(width) {
            let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
            let apart = row.iter().map(|x| (f64::from(*x) - mean).powi(2));
            let scale = 1.0 / (apart.sum::<f64>() / width as f64 + 1e-5).sqrt();
            let terms = row.iter().zip(&weight).zip(&bias);
            expected.extend(terms.map(|((x, weight), bias)| {
                (f64::from(*x) - mean) * scale * f64::from(*weight) + f64::from(*bias)
            }));
        }
        let mut got = x;
        layer_norm(&mut got, &weight, &bias, 1e-5);
        check("layer_norm", &got, &expected, 1e-5);
    }
}

#[test]
fn linear_is_the_product_and_the_bias() {
    let pool = ThreadPool::new(2);
    for (outputs, inputs) in [(1, 1), (16, 5), (50, 33), (384, 96)] {
        let weights = random_values(outputs * inputs, 4);
        let bias = random_values(outputs, 5);
        let linear = Linear::pack(&weights, inputs, bias.clone()).expect("it packs");
        assert_eq!((linear.outputs(), linear.inputs()), (outputs, inputs));
        for rows in [0, 1, 2, 5, 6, 7, 8, 9, 13, 32] {
            let x = random_values(rows * inputs, 6);
            let mut expected = Vec::new();
            for row in x.chunks_exact(inputs) {
                for (weights, bias) in weights.chunks_exact(inputs).zip(&bias) {
                    let terms = row.iter().zip(weights);
                    let terms = terms.map(|(x, weight)| f64::from(*x) * f64::from(*weight));
                    expected.push(terms.sum::<f64>() + f64::from(*bias));
                }
            }
            for set in InstructionSet::available() {
                let name = format!("{set:?} [{rows}, {inputs}] x [{outputs}]");
                let mut out = vec![f32::NAN; rows * outputs];
                linear.apply_with(set, &pool, &x, Activation::Identity, &mut out);
                check(&name, &out, &expected, 1e-4);
                linear.apply_with(set, &pool, &x, Activation::Gelu, &mut out);
                let after: Vec<f64> = expected.iter().map(|x| gelu_in_f64(*x)).collect();
                check(&name, &out, &after, 1e-4);
                // A row alone has the same bits.
                if let Some(last) = x.chunks_exact(inputs).last() {
                    let mut alone = vec![f32::NAN; outputs];
                    linear.apply_with(set, &pool, last, Activation::Gelu, &mut alone);
                    assert_eq!(alone, out[out.len() - outputs..], "{name}");
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for (weights, inputs, outputs) in [(0, 0, 1), (0, 1, 0), (5, 2, 3), (7, 2, 3)] {
        let packed = Linear::pack(&vec![0.0; weights], inputs, vec![0.0; outputs]);
        assert!(packed.is_err(), "{weights} {inputs} {outputs}");
    }
}

/// Attention of one head of one text in f64.
fn attend_in_f64(of: &SelfAttention<'_>, text: std::ops::Range<usize>, head: usize) -> Vec<f64> {
    let vector = |token: usize, part: usize| {
        let at = ((token * 3 + part) * of.heads + head) * of.head_dim;
        of.query_key_value[at..at + of.head_dim]
            .iter()
            .map(|x| f64::from(*x))
    };
    let mut out = Vec::new();
    for query in text.clone() {
        let score = |key: usize| {
            vector(query, 0)
                .zip(vector(key, 1))
                .map(|(q, k)| q * k)
                .sum()
        };
        let scores: Vec<f64> = text.clone().map(score).collect();
        let largest = scores.iter().copied().fold(f64::MIN, f64::max);
        let scale = 1.0 / (of.head_dim as f64).sqrt();
        let weights: Vec<f64> = (scores.iter())
            .map(|score| ((score - largest) * scale).exp())
            .collect();
        let total: f64 = weights.iter().sum();
        let mut mixed = vec![0.0; of.head_dim];
        for (token, weight) in text.clone().zip(&weights) {
            for (sum, value) in mixed.iter_mut().zip(vector(token, 2)) {
                *sum += weight / total * value;
            }
        }
        out.extend(mixed);
    }
    out
}

#[test]
fn every_token_sees_its_own_text() {
    let pool = ThreadPool::new(2);
    for (heads, head_dim) in [(1, 1), (2, 7), (3, 16), (2, 32), (1, 80)] {
        for lengths in [vec![1], vec![5, 1, 17], vec![33, 16, 40]] {
            let tokens: usize = lengths.iter().sum();
            let query_key_value = random_values(tokens * 3 * heads * head_dim, 7);
            let attention = SelfAttention {
                query_key_value: &query_key_value,
                lengths: &lengths,
                heads,
                head_dim,
            };
            for set in InstructionSet::available() {
                let mut out = vec![f32::NAN; tokens * heads * head_dim];
                attention.attend_with(set, &pool, &mut out);
                let mut first = 0;
                for length in &lengths {
                    for head in 0..heads {
                        let got: Vec<f32> = (first..first + length)
                            .flat_map(|token| {
                                let at = (token * heads + head) * head_dim;
                                out[at..at + head_dim].to_vec()
                            })
                            .collect();
                        let expected = attend_in_f64(&attention, first..first + length, head);
                        let name = format!("{set:?} {heads}x{head_dim} {lengths:?}");
                        check(&name, &got, &expected, 1e-4);
                    }
                    first += length;
                }
            }
        }
    }
}
