//! RMSNorm, rotary embedding, SwiGLU, sums and the exponential, against f64 arithmetic.

mod tensors;

use farthing_kernels::{
    KernelError, ROPE_POSITIONS_MAX, RopeStyle, RopeTable, add, add_bias, exp, rms_norm, rope,
    swiglu,
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

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

#[test]
fn exp_has_the_stated_error() {
    let mut x = -87.3f32;
    while x < 88.3 {
        let expected = f64::from(x).exp();
        let error = (f64::from(exp(x)) - expected).abs() / expected;
        assert!(error < 3e-7, "exp({x}) = {}, off by {error}", exp(x));
        x += 0.000_37;
    }
    assert_eq!(exp(0.0), 1.0);
    assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    assert_eq!(exp(-88.0), 0.0);
    assert!(exp(f32::INFINITY) > 2e38 && exp(f32::INFINITY).is_finite());
    assert!(exp(f32::NAN).is_nan());
}

#[test]
fn rms_norm_normalises_each_row() {
    let eps = 1e-5;
    for width in [1, 7, 16, 576, 896] {
        let (x, weight) = (random_values(3 * width, 1), random_values(width, 2));
        let mut out = vec![f32::NAN; x.len()];
        rms_norm(&x, &weight, eps, &mut out);
        let mut expected = Vec::new();
        for row in wide(&x).chunks_exact(width) {
            let mean = row.iter().map(|x| x * x).sum::<f64>() / width as f64;
            let scale = 1.0 / (mean + f64::from(eps)).sqrt();
            expected.extend(
                row.iter()
                    .zip(wide(&weight))
                    .map(|(x, weight)| x * scale * weight),
            );
        }
        check("rms_norm", &out, &expected, 1e-6);
    }
}

#[test]
fn swiglu_is_silu_of_the_gate_times_up() {
    let up = random_values(1537, 3);
    let mut gate: Vec<f32> = random_values(1537, 4).iter().map(|x| x * 8.0).collect();
    (gate[0], gate[1], gate[2]) = (-200.0, 200.0, 0.0);
    let silu = |x: f64| x / (1.0 + (-x).exp());
    let expected: Vec<f64> = wide(&gate)
        .iter()
        .zip(wide(&up))
        .map(|(gate, up)| silu(*gate) * up)
        .collect();
    let mut out = vec![f32::NAN; gate.len()];
    swiglu(&gate, &up, &mut out);
    check("swiglu", &out, &expected, 1e-6);
}

#[test]
fn rope_turns_pairs_by_their_angle() {
    let positions = 5000;
    for (head_dim, base) in [(2, 1e4f32), (64, 1e5), (128, 1e6)] {
        let table = RopeTable::new(head_dim, base, positions).expect("a small table");
        let pairs = head_dim / 2;
        for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
            for position in [0, 1, 100, positions - 1] {
                let mut x = random_values(3 * head_dim, position as u64);
                let before = wide(&x);
                let mut expected = before.clone();
                for head in (0..expected.len()).step_by(head_dim) {
                    for pair in 0..pairs {
                        let (i, j) = match style {
                            RopeStyle::Interleaved => (head + 2 * pair, head + 2 * pair + 1),
                            RopeStyle::Halves => (head + pair, head + pair + pairs),
                        };
                        let exponent = -2.0 * pair as f64 / head_dim as f64;
                        let angle = position as f64 * f64::from(base).powf(exponent);
                        let (sin, cos) = angle.sin_cos();
                        expected[i] = before[i] * cos - before[j] * sin;
                        expected[j] = before[i] * sin + before[j] * cos;
                    }
                }
                rope(&mut x, head_dim, position, &table, style);
                check(&format!("{style:?} at {position}"), &x, &expected, 1e-6);
            }
        }
    }
}

#[test]
fn impossible_rope_tables_are_refused() {
    for (head_dim, positions) in [
        (0, 10),
        (63, 10),
        (1 << 20, 10),
        (64, 0),
        (64, ROPE_POSITIONS_MAX + 1),
    ] {
        let error = RopeTable::new(head_dim, 1e4, positions).err();
        assert!(
            matches!(error, Some(KernelError::Dimension { .. })),
            "{head_dim} {positions}"
        );
    }
}

#[test]
fn sums_are_added_in_place() {
    let mut x = [1.0, 2.0, 3.0, 4.0];
    add(&mut x, &[0.5, 0.5, -1.0, 0.0]);
    assert_eq!(x, [1.5, 2.5, 2.0, 4.0]);
    add_bias(&mut x, &[10.0, 20.0]);
    assert_eq!(x, [11.5, 22.5, 12.0, 24.0]);
}
