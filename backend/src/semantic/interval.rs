//! Exact bounds on a share of which a sample is known (Clopper, Pearson, "The use of confidence or
//! fiducial limits illustrated in the case of the binomial", Biometrika 26, 1934).

/// Halvings of an interval: more than a double can tell apart.
const HALVINGS: u32 = 60;

/// The share above which so few of the sample would be rarer than `1 - confidence`: one-sided.
/// 1 of an empty sample.
pub fn upper(hits: u64, sample: u64, confidence: f64) -> f64 {
    if hits >= sample {
        return 1.0;
    }
    bisect(|share| at_most(hits, sample, share) > 1.0 - confidence)
}

/// The share below which so many of the sample would be rarer than `1 - confidence`: one-sided.
pub fn lower(hits: u64, sample: u64, confidence: f64) -> f64 {
    match hits.min(sample).checked_sub(1) {
        None => 0.0,
        Some(fewer) => bisect(|share| 1.0 - at_most(fewer, sample, share) < 1.0 - confidence),
    }
}

/// Whether [`upper`] is at most `share`, in one evaluation.
pub fn proves(hits: u64, sample: u64, share: f64, confidence: f64) -> bool {
    hits < sample && at_most(hits, sample, share) <= 1.0 - confidence
}

/// Two-sided, 95 %.
pub fn ci95(hits: u64, sample: u64) -> [f64; 2] {
    [lower(hits, sample, 0.975), upper(hits, sample, 0.975)]
}

/// Samples without a single hit that prove a share below `share`.
pub fn sample_for(share: f64, confidence: f64) -> u64 {
    ((1.0 - confidence).ln() / (1.0 - share).ln()).ceil() as u64
}

/// Where `is_below`, which holds up to some share, stops to hold.
fn bisect(is_below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if is_below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// The probability of at most `hits` of `sample` at this share: the binomial distribution, its
/// terms one from the other in logarithms, which do not vanish.
fn at_most(hits: u64, sample: u64, share: f64) -> f64 {
    let odds = share.ln() - (-share).ln_1p();
    let mut term = sample as f64 * (-share).ln_1p();
    let mut sum = term.exp();
    for hit in 0..hits.min(sample) {
        term += ((sample - hit) as f64 / (hit + 1) as f64).ln() + odds;
        sum += term.exp();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of R's `binom.test`, and the rule of three.
    #[test]
    fn published_bounds() {
        let close = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 5e-5, "{found} is not {expected}");
        };
        let [low, high] = ci95(7, 20);
        close(low, 0.15391);
        close(high, 0.59219);
        let [low, high] = ci95(682, 925);
        close(low, 0.70768);
        close(high, 0.76541);
        close(upper(0, 300, 0.95), 0.009936);
        close(lower(0, 300, 0.95), 0.0);
        close(upper(20, 20, 0.95), 1.0);
        close(lower(20, 20, 0.975), 0.83157);
        close(upper(0, 0, 0.95), 1.0);
    }

    #[test]
    fn a_clean_sample_of_this_size_proves_the_share() {
        for share in [0.001, 0.004, 0.01, 0.05] {
            let sample = sample_for(share, 0.95);
            assert!(upper(0, sample, 0.95) <= share);
            assert!(upper(0, sample - 1, 0.95) > share);
        }
    }
}
