//! What is computed over a row of logits, against plain loops in f64.

mod tensors;

use farthing_kernels::{LOGITS_PER_BLOCK, Softmax, block_maxima, exp_weights};
use tensors::random_values;

/// Lengths around every block and chunk, and that of a real vocabulary.
const LENGTHS: [usize; 12] = [1, 2, 15, 16, 17, 63, 64, 65, 255, 257, 1_000, 49_152];

/// Logits from about -30 to 30.
fn logits(len: usize, seed: u64) -> Vec<f32> {
    let values = random_values(len, seed);
    values.iter().map(|x| x * 30.0).collect()
}

#[track_caller]
fn check_near(name: &str, got: f64, expected: f64, tolerance: f64) {
    let bound = tolerance * expected.abs().max(1.0);
    assert!(
        (got - expected).abs() <= bound,
        "{name}: {got} for {expected}"
    );
}

fn largest(x: &[f32]) -> f32 {
    let known = x.iter().copied().filter(|x| !x.is_nan());
    known.fold(f32::NEG_INFINITY, f32::max)
}

#[test]
fn each_block_has_its_largest() {
    for len in LENGTHS {
        for seed in 0..5 {
            let mut x = logits(len, seed);
            x[len / 2] = f32::NAN;
            x[(seed as usize * 7_919) % len] = f32::INFINITY;
            x[len - 1] = f32::NEG_INFINITY;
            let mut maxima = vec![f32::NAN; len.div_ceil(LOGITS_PER_BLOCK)];
            block_maxima(&x, &mut maxima);
            let expected: Vec<f32> = x.chunks(LOGITS_PER_BLOCK).map(largest).collect();
            assert_eq!(maxima, expected, "{len} {seed}");
        }
    }
    let mut maxima = [0.0; 2];
    block_maxima(&[f32::NAN; 300], &mut maxima);
    assert_eq!(maxima, [f32::NEG_INFINITY; 2]);
}

#[test]
fn entropy_margin_and_log_probabilities_are_those_of_the_softmax() {
    for len in LENGTHS {
        for (seed, scale) in [(1, 0.01), (2, 0.1), (3, 1.0), (4, 10.0)] {
            let mut x: Vec<f32> = logits(len, seed).iter().map(|x| x * scale).collect();
            if len > 20 {
                x[3] = f32::NEG_INFINITY;
                x[17] = f32::NAN;
            }
            let known = x.iter().filter(|x| !x.is_nan()).map(|&x| f64::from(x));
            let mut known: Vec<f64> = known.collect();
            known.sort_by(|a, b| b.total_cmp(a));
            let sum: f64 = known.iter().map(|x| (x - known[0]).exp()).sum();
            let probability = |x: f64| (x - known[0]).exp() / sum;
            let entropy: f64 = known
                .iter()
                .map(|&x| probability(x))
                .filter(|p| *p > 0.0)
                .map(|p| -p * p.ln())
                .sum();
            let second = known.get(1).copied().map_or(0.0, probability);
            let softmax = Softmax::of(&x).expect("finite");
            let name = format!("{len} {seed}");
            check_near(&name, softmax.entropy_nats().into(), entropy, 2e-5);
            check_near(&name, softmax.margin().into(), 1.0 / sum - second, 1e-5);
            let logprob = softmax.log_probability(known[0] as f32);
            check_near(&name, logprob.into(), -sum.ln(), 1e-5);
        }
    }
}

#[test]
fn an_even_and_a_certain_distribution() {
    let even = Softmax::of(&[2.5; 1_000]).expect("finite");
    check_near("even", even.entropy_nats().into(), 1_000f64.ln(), 1e-6);
    assert_eq!(even.margin(), 0.0);
    let mut x = [0.0; 1_000];
    x[700] = 200.0;
    let certain = Softmax::of(&x).expect("finite");
    assert_eq!((certain.entropy_nats(), certain.margin()), (0.0, 1.0));
    let one = Softmax::of(&[f32::NAN, -3.0, f32::NEG_INFINITY]).expect("one is possible");
    assert_eq!((one.entropy_nats(), one.margin()), (0.0, 1.0));
    for none in [
        &[][..],
        &[f32::NAN],
        &[f32::NEG_INFINITY; 40],
        &[0.0, f32::INFINITY],
    ] {
        assert_eq!(Softmax::of(none), None, "{none:?}");
    }
}

#[test]
fn weights_and_their_sums_are_exponentials() {
    for len in LENGTHS {
        for (seed, temperature, least) in [(1, 1.0, 0.0), (2, 0.3, 0.01), (3, 1.9, 0.0)] {
            let mut x = logits(len, seed);
            x[len / 3] = f32::NAN;
            let max = largest(&x);
            if max == f32::NEG_INFINITY {
                continue;
            }
            let mut weights = vec![f32::NAN; len];
            let mut sums = vec![f64::NAN; len.div_ceil(LOGITS_PER_BLOCK)];
            exp_weights(&x, max, temperature, least, &mut weights, &mut sums);
            for (index, (&weight, &x)) in weights.iter().zip(&x).enumerate() {
                let expected = (f64::from(x - max) / f64::from(temperature)).exp();
                let impossible = x.is_nan() || expected < f64::from(least);
                let expected = if impossible { 0.0 } else { expected };
                let error = (f64::from(weight) - expected).abs();
                // What is hardly a normal number may be zero.
                let bound = expected * 2e-5 + 1.3e-38;
                assert!(error <= bound, "{len} {index}: {weight} for {expected}");
            }
            for (weights, sum) in weights.chunks(LOGITS_PER_BLOCK).zip(sums) {
                let expected: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
                check_near("sum", sum, expected, 1e-6);
            }
        }
    }
}
