//! Logistic regression with an L2 penalty, by Newton's method: few features, so the exact step is
//! cheap, and nothing depends on chance.

/// What a weight is believed to be before any row is seen, and how strongly: a penalty of
/// `strength / 2` times the square of its distance from there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prior {
    pub weight: f64,
    pub strength: f64,
}

/// The objective is convex and smooth: so many steps are far more than it needs.
const STEPS_MAX: usize = 50;
/// A step that changes no weight by more ends the search.
const STEP_MIN: f64 = 1e-10;
/// The bias is not held small, only held at all.
const BIAS: Prior = Prior {
    weight: 0.0,
    strength: 1e-6,
};

/// The bias and the weights of standardised features.
pub(crate) fn fit<const N: usize>(
    rows: &[[f64; N]],
    labels: &[bool],
    priors: &[Prior; N],
) -> (f64, [f64; N]) {
    let (mut bias, mut weights) = (0.0, [0.0; N]);
    for _ in 0..STEPS_MAX {
        let (gradient, hessian) = derivatives(rows, labels, priors, bias, &weights);
        let Some(step) = solve(hessian, gradient) else {
            break;
        };
        let largest = step.iter().fold(0.0_f64, |most, part| most.max(part.abs()));
        bias -= step[0];
        for (weight, part) in weights.iter_mut().zip(&step[1..]) {
            *weight -= part;
        }
        if largest < STEP_MIN {
            break;
        }
    }
    (bias, weights)
}

/// Of the penalised log loss, the bias first; of the second ones the lower triangle.
fn derivatives<const N: usize>(
    rows: &[[f64; N]],
    labels: &[bool],
    priors: &[Prior; N],
    bias: f64,
    weights: &[f64; N],
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let held = std::iter::once((&BIAS, &bias)).chain(priors.iter().zip(weights));
    let mut gradient: Vec<f64> = held
        .map(|(prior, weight)| prior.strength * (weight - prior.weight))
        .collect();
    let mut hessian = vec![vec![0.0; N + 1]; N + 1];
    let strengths = std::iter::once(&BIAS).chain(priors);
    for (at, prior) in strengths.enumerate() {
        hessian[at][at] = prior.strength;
    }
    let mut inputs = vec![1.0; N + 1];
    for (row, label) in rows.iter().zip(labels) {
        inputs[1..].copy_from_slice(row);
        let terms = row.iter().zip(weights).map(|(x, weight)| x * weight);
        let logit = bias + terms.sum::<f64>();
        let p = 1.0 / (1.0 + (-logit).exp());
        let error = p - f64::from(u8::from(*label));
        let curvature = p * (1.0 - p);
        for (i, x) in inputs.iter().enumerate() {
            gradient[i] += error * x;
            for (cell, other) in hessian[i][..=i].iter_mut().zip(&inputs) {
                *cell += curvature * x * other;
            }
        }
    }
    (gradient, hessian)
}

/// Solves `matrix * x = right` for a positive definite matrix whose lower triangle is given, by
/// Cholesky's decomposition. `None` if it is not one.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let width = right.len();
    for i in 0..width {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum();
            let rest = matrix[i][j] - dot;
            matrix[i][j] = match i == j {
                true if rest > 0.0 => rest.sqrt(),
                true => return None,
                false => rest / matrix[j][j],
            };
        }
    }
    for i in 0..width {
        let dot: f64 = (0..i).map(|k| matrix[i][k] * right[k]).sum();
        right[i] = (right[i] - dot) / matrix[i][i];
    }
    for i in (0..width).rev() {
        let dot: f64 = (i + 1..width).map(|k| matrix[k][i] * right[k]).sum();
        right[i] = (right[i] - dot) / matrix[i][i];
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_the_odds_of_a_table() {
        // Of 40 rows with the feature 30 are true, of 40 without it 10: odds of 3 and of 1/3.
        let rows: Vec<[f64; 1]> = (0..80).map(|i| [f64::from(i / 40)]).collect();
        let labels: Vec<bool> = (0..80)
            .map(|i| i % 40 < if i < 40 { 10 } else { 30 })
            .collect();
        let weak = Prior {
            weight: 0.0,
            strength: 1e-9,
        };
        let (bias, [weight]) = fit(&rows, &labels, &[weak]);
        assert!((bias + 3_f64.ln()).abs() < 1e-6, "{bias}");
        assert!((weight - 9_f64.ln()).abs() < 1e-6, "{weight}");
        let sure = Prior {
            weight: 0.5,
            strength: 1e9,
        };
        let (_, [weight]) = fit(&rows, &labels, &[sure]);
        assert!((weight - 0.5).abs() < 1e-6, "{weight}");
    }
}
