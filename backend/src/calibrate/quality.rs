//! What a router would have done with prompts whose outcome is known.

use super::measure::{apgr, apgr_ci95, cost_share};
use super::rows::Row;

/// The share of the strong model's right answers that [`Quality::cost_share_95`] asks for.
pub(super) const NEARLY_STRONG: f64 = 0.95;

/// What a router says of each row.
#[derive(Debug, Clone)]
pub(super) struct Scores {
    /// The higher, the rather to the strong model.
    pub order: Vec<f64>,
    /// The gain that is expected.
    pub gains: Vec<f64>,
}

/// How good that is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quality {
    pub rows: usize,
    pub weak_accuracy: f64,
    pub strong_accuracy: f64,
    /// With a 95 % interval. `None` where the strong model is no better than the weak one.
    pub apgr: Option<(f64, [f64; 2])>,
    pub apgr_length: Option<f64>,
    /// Right answers where the strong model gets what has a gain above 0, and how many that are.
    pub right: usize,
    pub to_strong: usize,
    /// The least share of prompts for the strong model with which so many answers are right as
    /// 95 % of its own.
    pub cost_share_95: Option<f64>,
    /// The same by the length of the prompt alone.
    pub cost_share_95_length: Option<f64>,
}

// === impl Scores ===

impl Scores {
    /// Those of some neighbouring rows.
    pub(super) fn of(&self, rows: std::ops::Range<usize>) -> Scores {
        Scores {
            order: self.order[rows.clone()].to_vec(),
            gains: self.gains[rows].to_vec(),
        }
    }
}

// === impl Quality ===

impl Quality {
    pub(super) fn of(rows: &[&Row], scores: &Scores) -> Quality {
        let lengths: Vec<f64> = rows.iter().map(|row| row.prompt.len() as f64).collect();
        let share = |right: fn(&Row) -> bool| {
            rows.iter().filter(|row| right(row)).count() as f64 / rows.len().max(1) as f64
        };
        let routed = rows.iter().zip(&scores.gains);
        let right = routed.filter(|(row, gain)| if **gain > 0.0 { row.strong } else { row.weak });
        Quality {
            rows: rows.len(),
            weak_accuracy: share(|row| row.weak),
            strong_accuracy: share(|row| row.strong),
            apgr: apgr(rows, &scores.order).zip(apgr_ci95(rows, &scores.order)),
            apgr_length: apgr(rows, &lengths),
            right: right.count(),
            to_strong: scores.gains.iter().filter(|gain| **gain > 0.0).count(),
            cost_share_95: cost_share(rows, &scores.order, NEARLY_STRONG),
            cost_share_95_length: cost_share(rows, &lengths, NEARLY_STRONG),
        }
    }

    /// The share of right answers of the policy.
    pub(super) fn accuracy(&self) -> f64 {
        self.right as f64 / self.rows.max(1) as f64
    }

    /// The share of prompts that it gives to the strong model.
    pub(super) fn cost_share(&self) -> f64 {
        self.to_strong as f64 / self.rows.max(1) as f64
    }
}
