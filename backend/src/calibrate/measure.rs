//! How good an order of prompts is that says which of them the strong model should get.

use super::rows::Row;

/// `PGR = (accuracy - weak) / (strong - weak)` is the share of the gap between the two models that
/// a router closes; this is its area over the share of prompts that go to the strong one, those
/// with the highest scores first. Chance has 0.5. Among prompts of the same score the order is
/// taken to be any. `None` where the strong model is not better.
pub(super) fn apgr(rows: &[&Row], scores: &[f64]) -> Option<f64> {
    let steps = steps(rows, scores);
    let area: f64 = steps
        .windows(2)
        .map(|two| (two[1].0 - two[0].0) * (two[0].1 + two[1].1) / 2.0)
        .sum();
    let closed = steps.last().map_or(0.0, |(_, gained)| *gained);
    (closed > 0.0).then(|| area / closed / rows.len() as f64)
}

/// How many prompts are with the strong model, and how many more answers are right for it, after
/// each group of prompts with the same score.
fn steps(rows: &[&Row], scores: &[f64]) -> Vec<(f64, f64)> {
    let mut ordered: Vec<(f64, f64)> = scores.iter().copied().zip(gains(rows)).collect();
    ordered.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let mut steps = vec![(0.0, 0.0)];
    let (mut sent, mut gained) = (0.0, 0.0);
    for same in ordered.chunk_by(|(a, _), (b, _)| a == b) {
        sent += same.len() as f64;
        gained += same.iter().map(|(_, gain)| gain).sum::<f64>();
        steps.push((sent, gained));
    }
    steps
}

/// Shares of prompts with the strong model, and of the gap that is then closed, `points` of them.
pub(super) fn recovered(rows: &[&Row], scores: &[f64], points: usize) -> Vec<(f64, f64)> {
    let steps = steps(rows, scores);
    let (all, closed) = steps.last().copied().unwrap_or_default();
    let share = |of: f64, whole: f64| if whole > 0.0 { of / whole } else { 0.0 };
    let point = |point: usize| {
        let sent = all * point as f64 / points as f64;
        (share(sent, all), share(gained_at(&steps, sent), closed))
    };
    (0..=points).map(point).collect()
}

/// More right answers when so many prompts are with the strong model.
fn gained_at(steps: &[(f64, f64)], sent: f64) -> f64 {
    let after = steps.partition_point(|(reached, _)| *reached < sent).max(1);
    match (steps.get(after - 1), steps.get(after)) {
        (Some((x, y)), Some((next_x, next_y))) => y + (next_y - y) * (sent - x) / (next_x - x),
        (Some((_, y)), None) => *y,
        (None, _) => 0.0,
    }
}

/// The least share of prompts that the strong model must get for this share of its own right
/// answers; `None` if no share is enough.
pub(super) fn cost_share(rows: &[&Row], scores: &[f64], quality: f64) -> Option<f64> {
    let count = |right: fn(&Row) -> bool| rows.iter().filter(|row| right(row)).count() as f64;
    let missing = quality * count(|row| row.strong) - count(|row| row.weak);
    if missing <= 0.0 {
        return Some(0.0);
    }
    let steps = steps(rows, scores);
    steps.windows(2).find_map(|two| {
        let [(x, y), (next_x, next_y)] = [two[0], two[1]];
        let sent = x + (next_x - x) * (missing - y) / (next_y - y);
        (next_y >= missing).then(|| sent / rows.len() as f64)
    })
}

/// By how much stated probabilities are off, on average: in ten classes of them, the mean that is
/// stated less the share that came true.
pub(super) fn ece(stated: &[f64], came_true: &[bool]) -> f64 {
    const CLASSES: usize = 10;
    let mut off = [0.0; CLASSES];
    for (stated, came_true) in stated.iter().zip(came_true) {
        let class = ((stated * CLASSES as f64) as usize).min(CLASSES - 1);
        off[class] += stated - f64::from(u8::from(*came_true));
    }
    off.iter().map(|off: &f64| off.abs()).sum::<f64>() / stated.len().max(1) as f64
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
        assert_eq!(cost_share(&rows, &[1.0, 0.0, 0.0, 0.0], 1.0), Some(0.25));
        assert_eq!(cost_share(&rows, &[0.0; 4], 1.0), Some(1.0));
        assert_eq!(cost_share(&rows, &[0.0; 4], 0.5), Some(0.0));
        let middle = recovered(&rows, &[1.0, 0.0, 0.0, 0.0], 8);
        assert_eq!((middle[1], middle[4]), ((0.125, 0.5), (0.5, 1.0)));
    }

    #[test]
    fn what_is_stated_and_comes_true_as_often_is_not_off() {
        let stated = [0.25, 0.25, 0.25, 0.25, 0.95, 0.95];
        let came_true = [true, false, false, false, true, false];
        assert!((ece(&stated, &came_true) - 0.9 / 6.0).abs() < 1e-9);
    }
}
