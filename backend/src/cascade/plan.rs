//! A way of answering a route: which tiers are asked, and when one is skipped or given up. What
//! comes of it is told on rows whose answers are all known.

use super::calibration::{CascadeCalibration, Known};
use super::policy::{Doubt, Money, Policy, Step};

/// How a route is answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The tiers that are asked, from cheap to dear; never empty.
    pub tiers: Vec<usize>,
    /// A tier that is wrong with this probability by the prompt alone is not asked.
    pub skip_above: f64,
    /// By how large a share of a right answer's worth asking another tier must be better after the
    /// first tokens; never if none.
    pub abort_margin: Option<f64>,
}

/// What came of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Nano-dollars, all tiers together.
    pub cost_nanousd: f64,
    pub is_right: bool,
    /// The tier that answered.
    pub tier: usize,
}

/// A probability that nothing has: no tier is skipped.
pub(super) const NEVER_SKIPPED: f64 = 2.0;

impl Plan {
    /// Asks one tier and nobody else.
    pub fn only(tier: usize) -> Plan {
        Plan {
            tiers: vec![tier],
            skip_above: NEVER_SKIPPED,
            abort_margin: None,
        }
    }

    /// The dearest of its tiers.
    pub fn last(&self) -> usize {
        self.tiers.last().copied().unwrap_or(0)
    }
}

/// What comes of each row.
pub fn run_all(
    calibration: &CascadeCalibration,
    rows: &[Known],
    money: &Money,
    plan: &Plan,
) -> Vec<Outcome> {
    let policy = Policy {
        calibration,
        money,
        plan,
    };
    rows.iter().map(|row| run(&policy, row)).collect()
}

/// Follows the policy on one row, whose answers are all known.
fn run(policy: &Policy<'_>, row: &Known) -> Outcome {
    let early_tokens = policy.calibration.early_tokens as u64;
    let priors: Vec<f64> = row.prior.iter().copied().map(f64::from).collect();
    let mut tier = policy.start(&priors);
    let (mut cost_nanousd, mut earlier) = (0.0, None);
    loop {
        let prompt_tokens = u64::from(row.prompt_tokens[tier]);
        let completion = u64::from(row.completion_tokens[tier]);
        let paid = |tokens| policy.money.cost(tier, prompt_tokens, tokens).0 as f64;
        if tier != policy.plan.last() && completion > early_tokens {
            let p_wrong = f64::from(row.early[tier]);
            if let Some(next) = policy.early(tier, p_wrong, prompt_tokens) {
                cost_nanousd += paid(early_tokens);
                // What there is of the answer is compared with nothing.
                (tier, earlier) = (next, None);
                continue;
            }
        }
        cost_nanousd += paid(completion);
        let p_wrong = f64::from(row.done[tier][earlier.map_or(0, |earlier: usize| earlier + 1)]);
        let dearer: Vec<f64> = row.dearer[tier].iter().copied().map(f64::from).collect();
        let doubt = Doubt {
            p_wrong,
            dearer: &dearer,
        };
        match policy.done(tier, doubt, prompt_tokens) {
            Step::Ask(next) => (tier, earlier) = (next, Some(tier)),
            Step::Keep => {
                return Outcome {
                    cost_nanousd,
                    is_right: row.right[tier],
                    tier,
                };
            }
        }
    }
}
