//! How good an order of prompts is that says which of them the strong model should get.

use super::rows::Row;

/// `PGR = (accuracy - weak) / (strong - weak)` is the share of the gap between the two models that
/// a router closes; this is its area over the share of prompts that go to the strong one, those
/// with the highest scores first. Chance has 0.5. Among prompts of the same score the order is
/// taken to be any. `None` where the strong model is not better.
pub(super) fn apgr(rows: &[&Row], scores: &[f64]) -> Option<f64> {
    let mut ordered: Vec<(f64, f64)> = scores.iter().copied().zip(gains(rows)).collect();
    ordered.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let (mut closed, mut area) = (0.0, 0.0);
    for same in ordered.chunk_by(|(a, _), (b, _)| a == b) {
        let gained: f64 = same.iter().map(|(_, gain)| gain).sum();
        area += same.len() as f64 * (closed + gained / 2.0);
        closed += gained;
    }
    (closed > 0.0).then(|| area / closed / rows.len() as f64)
}

/// 95 % of resamples of the rows, drawn with replacement, lie within these two.
pub(super) fn apgr_ci95(rows: &[&Row], scores: &[f64]) -> Option<[f64; 2]> {
    const RESAMPLES: usize = 400;
    let mut state = SEED;
    let mut values = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let drawn: Vec<usize> = rows
            .iter()
            .map(|_| (next(&mut state) % rows.len() as u64) as usize)
            .collect();
        let sample: Vec<&Row> = drawn.iter().map(|at| rows[*at]).collect();
        let scores: Vec<f64> = drawn.iter().map(|at| scores[*at]).collect();
        values.extend(apgr(&sample, &scores));
    }
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get((share * values.len() as f64) as usize).copied();
    Some([at(0.025)?, at(0.975)?])
}

/// The same numbers in every run.
pub(super) const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64 (Steele, Lea, Flood, 2014).
pub(super) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(SEED);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What each row gains from the strong model: 1, 0 or -1.
fn gains(rows: &[&Row]) -> impl Iterator<Item = f64> {
    rows.iter()
        .map(|row| f64::from(i8::from(row.strong) - i8::from(row.weak)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_order_and_chance() {
        let row = |weak, strong| Row {
            prompt: String::new(),
            weak,
            strong,
        };
        let rows = [
            row(false, true),
            row(true, true),
            row(true, true),
            row(false, false),
        ];
        let rows: Vec<&Row> = rows.iter().collect();
        assert_eq!(apgr(&rows, &[1.0, 0.0, 0.0, 0.0]), Some(0.875));
        assert_eq!(apgr(&rows, &[0.0, 1.0, 1.0, 1.0]), Some(0.125));
        assert_eq!(apgr(&rows, &[0.0; 4]), Some(0.5));
        assert_eq!(apgr(&rows[1..], &[0.0; 3]), None);
    }
}
