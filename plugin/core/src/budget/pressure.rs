//! The shadow price of a budget that runs low: before a budget refuses anybody it makes dear models
//! look dearer, so that requests which gain little from one go to a cheaper one.
//!
//! Primal-dual pacing has a price λ on spending, which rises while more is spent than the budget
//! allows, and routes by `gain - λ * cost`. Here λ follows from the state of the budget alone, so
//! that all workers see the same one and none has to keep it:
//!
//! ```text
//! λ = price * (1 + w) * max(0, share / r - 1)
//! ```
//!
//! with `r` the share of the budget that is left and `w` the share of the window that is left. It
//! is 0 until less than `share` of the budget is left, grows without bound while the rest is spent,
//! and is up to twice as high when much of the window is still to come. A model that costs `c` more
//! is treated as if it cost `(1 + λ) * c` more.

use super::Window;

/// When a budget runs low, and how much that matters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Low {
    /// Of the budget, above 0 and up to 1.
    pub share: f64,
    /// Strength, above 0.
    pub price: f64,
}

/// λ: 0 leaves every choice as it is, infinity leaves only the cheapest.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Pressure(f64);

impl Pressure {
    pub const NONE: Pressure = Pressure(0.0);
    pub const MAX: Pressure = Pressure(f64::INFINITY);

    /// The price while `committed` of `limit` is spent or set aside.
    pub fn of(low: &Low, limit: u64, committed: u64, window: Window, now_unix_s: u64) -> Pressure {
        let left = limit.saturating_sub(committed);
        if left == 0 {
            return Pressure::MAX;
        }
        let left_share = left as f64 / limit as f64;
        let window_share = f64::from(window.remaining_s(now_unix_s)) / f64::from(window.length_s);
        let scarcity = (low.share / left_share - 1.0).max(0.0);
        Pressure(low.price * (1.0 + window_share.min(1.0)) * scarcity)
    }

    pub fn is_none(self) -> bool {
        self.0 <= 0.0
    }

    /// What a gain is worth against a cost that looks `1 + λ` times as high.
    pub fn discount(self, gain: f64) -> f64 {
        gain / (1.0 + self.0)
    }
}
