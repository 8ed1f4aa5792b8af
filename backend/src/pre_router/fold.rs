//! Training with some rows left out, many times over the same rows.
//!
//! Each head is found by steps of a fixed curvature, the upper bound of the true one (Boehning and
//! Lindsay, "Monotonicity of quadratic-approximation algorithms", 1988): the matrix is the same for
//! all heads and all steps, and leaving rows out takes their part off it.

use super::head::Head;

/// What a weight is held by: `strength / 2` times its square. `C = 0.05` in the usual notation.
const STRENGTH: f64 = 20.0;
/// The bias is not held small, only held at all.
const BIAS_STRENGTH: f64 = 1e-6;
/// Steps. Each takes off `4 p (1 - p)` of what is left, and little is where the bias is right.
const STEPS: usize = 20;

/// Rows of numbers, each with a 1 before it for the bias.
pub(super) struct Design {
    width: usize,
    numbers: Vec<f64>,
    /// The products of all columns, the lower triangle of it.
    products: Vec<f64>,
}

// === impl Design ===

impl Design {
    pub(super) fn new(rows: &[Vec<f32>]) -> Design {
        let width = rows.first().map_or(0, Vec::len) + 1;
        let wide = rows
            .iter()
            .flat_map(|row| std::iter::once(1.0).chain(row.iter().map(|x| f64::from(*x))));
        let numbers: Vec<f64> = wide.collect();
        let products = products(numbers.chunks_exact(width), width);
        Design {
            width,
            numbers,
            products,
        }
    }

    fn row(&self, at: usize) -> &[f64] {
        &self.numbers[at * self.width..][..self.width]
    }

    /// A head for each list of labels, from all rows but those for which `left_out` holds. `None`
    /// if the rows are degenerate.
    pub(super) fn fit(
        &self,
        labels: &[&[bool]],
        left_out: &dyn Fn(usize) -> bool,
    ) -> Option<Vec<Head>> {
        let rows = self.numbers.len() / self.width;
        let (out, kept): (Vec<usize>, Vec<usize>) = (0..rows).partition(|at| left_out(*at));
        let off = products(out.iter().map(|at| self.row(*at)), self.width);
        let curvature = self.products.iter().zip(off);
        let mut curvature: Vec<f64> = curvature.map(|(all, out)| (all - out) / 4.0).collect();
        for at in 0..self.width {
            curvature[at * self.width + at] += strength(at);
        }
        let factor = cholesky(curvature, self.width)?;
        let head = |labels: &&[bool]| self.fit_head(&factor, labels, &kept);
        Some(labels.iter().map(head).collect())
    }

    fn fit_head(&self, factor: &[f64], labels: &[bool], kept: &[usize]) -> Head {
        let mut weights = vec![0.0; self.width];
        weights[0] = log_odds(kept.iter().filter(|at| labels[**at]).count(), kept.len());
        for _ in 0..STEPS {
            let mut gradient: Vec<f64> = weights
                .iter()
                .enumerate()
                .map(|(at, weight)| strength(at) * weight)
                .collect();
            for at in kept {
                let row = self.row(*at);
                let p = 1.0 / (1.0 + (-dot(&weights, row)).exp());
                let error = p - f64::from(u8::from(labels[*at]));
                for (sum, x) in gradient.iter_mut().zip(row) {
                    *sum += error * x;
                }
            }
            solve(factor, &mut gradient);
            for (weight, step) in weights.iter_mut().zip(&gradient) {
                *weight -= step;
            }
        }
        let mut weights = weights.into_iter().map(|weight| weight as f32);
        Head {
            bias: weights.next().unwrap_or_default(),
            weights: weights.collect(),
        }
    }
}

/// Of a share, half a row away from none and all.
fn log_odds(hits: usize, sample: usize) -> f64 {
    let (hits, misses) = (hits as f64 + 0.5, (sample - hits) as f64 + 0.5);
    (hits / misses).ln()
}

fn strength(column: usize) -> f64 {
    if column == 0 { BIAS_STRENGTH } else { STRENGTH }
}

/// Summed in eight lanes, which the compiler keeps side by side.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, rest_of_a), (b, rest_of_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest = rest_of_a.iter().zip(rest_of_b).map(|(a, b)| a * b);
    sums.into_iter().chain(rest).sum()
}

/// The sum over rows of what each makes with itself, the lower triangle of it.
fn products<'a>(rows: impl Iterator<Item = &'a [f64]>, width: usize) -> Vec<f64> {
    let mut sums = vec![0.0; width * width];
    for row in rows {
        for (at, x) in row.iter().enumerate().filter(|(_, x)| **x != 0.0) {
            let line = &mut sums[at * width..][..at + 1];
            for (sum, other) in line.iter_mut().zip(row) {
                *sum += x * other;
            }
        }
    }
    sums
}

/// Cholesky's decomposition of a positive definite matrix whose lower triangle is given.
fn cholesky(mut matrix: Vec<f64>, width: usize) -> Option<Vec<f64>> {
    for i in 0..width {
        for j in 0..=i {
            let (before, line) = matrix.split_at_mut(i * width);
            let other = if j == i {
                &line[..j]
            } else {
                &before[j * width..][..j]
            };
            let rest = line[j] - dot(&line[..j], other);
            line[j] = match i == j {
                true if rest > 0.0 => rest.sqrt(),
                true => return None,
                false => rest / before[j * width + j],
            };
        }
    }
    Some(matrix)
}

/// Replaces the right side of an equation by its solution.
fn solve(factor: &[f64], right: &mut [f64]) {
    let width = right.len();
    for i in 0..width {
        let line = &factor[i * width..][..width];
        right[i] = (right[i] - dot(&line[..i], &right[..i])) / line[i];
    }
    for i in (0..width).rev() {
        let line = &factor[i * width..][..width];
        right[i] /= line[i];
        let solved = right[i];
        for (left, factor) in right[..i].iter_mut().zip(line) {
            *left -= factor * solved;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_the_odds_and_leaves_rows_out() {
        // Of 4,000 rows with the feature 3,000 are true, of 4,000 without it 1,000; then as many
        // of which all are true, which are left out.
        let rows: Vec<Vec<f32>> = (0..16_000)
            .map(|at| vec![(at / 4_000 % 2) as f32])
            .collect();
        let limit = |at: usize| {
            if (at / 4_000).is_multiple_of(2) {
                1_000
            } else {
                3_000
            }
        };
        let labels: Vec<bool> = (0..16_000)
            .map(|at| at >= 8_000 || at % 4_000 < limit(at))
            .collect();
        let design = Design::new(&rows);
        let heads = design.fit(&[&labels], &|at| at >= 8_000).expect("a head");
        let [head] = heads.as_slice() else {
            unreachable!("one head for one list of labels");
        };
        for (x, expected) in [(0.0, 0.25), (1.0, 0.75)] {
            let p = head.probability(&[x]);
            // Weights are held small, so that neither is quite reached.
            assert!((p - expected).abs() < 2e-2, "{p} for {expected}");
        }
    }
}
