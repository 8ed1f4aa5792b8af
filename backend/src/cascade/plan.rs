//! Which tiers a route is worth. Every list of tiers, every probability from the prompt alone above
//! which the first is skipped, and every readiness to give up early is tried on the rows that the
//! calibration holds, and the best taken. A tier that is of no use to a route is so left out by
//! itself, and where no cascade is surely better than the dearest tier alone, that is asked alone.

use farthing_core::limits::{CASCADE_CONFIDENCE, CASCADE_PLAN_ROWS_MAX, CASCADE_ROWS_MIN};
use farthing_core::money::Nanousd;
use farthing_core::price::Price;

use super::calibration::{CascadeCalibration, Known};
use super::policy::{Doubt, Money, Policy, Step};
use crate::semantic::interval;

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

/// A plan with what it does on the rows it was chosen by.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    pub plan: Plan,
    /// In answers of the dearest tier alone.
    pub cost_share: f64,
    pub accuracy: f64,
    pub accuracy_dearest: f64,
    /// The share of answers that it may lose to the dearest tier, with 95 % confidence.
    pub loss_max: f64,
    /// What a right answer was taken to be worth for it: more than what was configured where the
    /// loss has a limit.
    pub worth: Nanousd,
}

/// What a cascade is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aim {
    pub worth: Worth,
    /// The share of answers that it may lose to its dearest tier.
    pub max_loss: Option<f64>,
}

/// What a right answer is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    Given(Nanousd),
    /// The least with which the cascade is as often right as its dearest tier.
    AsOftenRight,
}

/// Probabilities above which a tier is not asked, of which the best is taken.
const SKIPS: [f64; 8] = [2.0, 0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5];
const ABORTS: [Option<f64>; 4] = [None, Some(0.4), Some(0.2), Some(0.05)];
/// A cascade must be better than the dearest tier alone by so many standard errors of the mean.
const ERRORS_MIN: f64 = 1.0;
/// What a right answer is taken to be worth where the loss has a limit, in the order of trial: each
/// is tried only where the one before has kept to the limit, so that no trial weakens the others.
const WORTHS: [f64; 7] = [64.0, 32.0, 16.0, 8.0, 4.0, 2.0, 1.0];
/// What it is taken to be worth where it is to be as little as possible, in answers of the dearest
/// tier: from a quarter to 49 of them.
const WORTH_FIRST: f64 = 0.25;
const WORTH_RATIO: f64 = 1.5;
const WORTH_STEPS: i32 = 14;
const WORTH_HALVINGS: usize = 6;

impl Plan {
    /// Asks one tier and nobody else.
    pub fn only(tier: usize) -> Plan {
        Plan {
            tiers: vec![tier],
            skip_above: SKIPS[0],
            abort_margin: None,
        }
    }

    /// The dearest of its tiers.
    pub fn last(&self) -> usize {
        self.tiers.last().copied().unwrap_or(0)
    }
}

/// The best plan for these prices; with a limit of what may be lost the best of those that lose no
/// more answers to the dearest tier, which is proven on every other row.
pub fn choose(calibration: &CascadeCalibration, prices: &[Price], aim: Aim) -> Chosen {
    let last = calibration.tiers.len().saturating_sub(1);
    let mut money = Money {
        prices: prices.to_vec(),
        worth: Nanousd::ZERO,
    };
    money.worth = match aim.worth {
        Worth::Given(worth) => worth,
        Worth::AsOftenRight => mean_cost(calibration, &money, last),
    };
    match (aim.max_loss, aim.worth) {
        (Some(max_loss), _) => losing_at_most(calibration, &money, max_loss),
        (None, Worth::AsOftenRight) => as_often_right(calibration, &money),
        (None, Worth::Given(_)) => {
            let plan = best(calibration, &calibration.rows, &money);
            describe(calibration, &calibration.rows, &money, plan)
        }
    }
}

fn losing_at_most(calibration: &CascadeCalibration, money: &Money, max_loss: f64) -> Chosen {
    let apart = |odd: usize| -> Vec<Known> {
        let rows = calibration.rows.iter().enumerate();
        rows.filter(|(at, _)| at % 2 == odd)
            .map(|(_, row)| row.clone())
            .collect()
    };
    let (learned, proving) = (apart(0), apart(1));
    let last = calibration.tiers.len().saturating_sub(1);
    let dearest = scaled(money, WORTHS[0]);
    let mut chosen = describe(calibration, &proving, &dearest, Plan::only(last));
    for factor in WORTHS {
        let dearer = scaled(money, factor);
        let plan = best(calibration, &learned, &dearer);
        let next = describe(calibration, &proving, &dearer, plan);
        if next.loss_max > max_loss {
            break;
        }
        chosen = next;
    }
    chosen
}

/// The cheapest of the plans for many worths that is right as often as the dearest tier.
fn as_often_right(calibration: &CascadeCalibration, dearest_answer: &Money) -> Chosen {
    let rows = &calibration.rows;
    let last = calibration.tiers.len().saturating_sub(1);
    let mut chosen = describe(calibration, rows, dearest_answer, Plan::only(last));
    let mut tried = |factor: f64| {
        let money = scaled(dearest_answer, factor);
        let next = describe(calibration, rows, &money, best(calibration, rows, &money));
        let is_right_enough = next.accuracy >= next.accuracy_dearest;
        if is_right_enough && next.cost_share < chosen.cost_share {
            chosen = next;
        }
        is_right_enough
    };
    let factors = (0..WORTH_STEPS).map(|step| WORTH_FIRST * WORTH_RATIO.powi(step));
    let (mut least, mut found) = (0.0, None);
    for factor in factors {
        match (tried(factor), found) {
            (true, None) => found = Some(factor),
            (false, None) => least = factor,
            _ => {}
        }
    }
    let Some(mut enough) = found else {
        return chosen;
    };
    // Between the last that was too little and the first that was enough there may be a cheaper.
    for _ in 0..WORTH_HALVINGS {
        let middle = (least + enough) / 2.0;
        match tried(middle) {
            true => enough = middle,
            false => least = middle,
        }
    }
    chosen
}

/// What an answer of a tier costs, on average.
fn mean_cost(calibration: &CascadeCalibration, money: &Money, tier: usize) -> Nanousd {
    let rows = &calibration.rows;
    let costs = run_all(calibration, rows, money, &Plan::only(tier));
    let total: f64 = costs.iter().map(|outcome| outcome.cost_nanousd).sum();
    // A free model's answers are compared by whether they are right.
    Nanousd((total / rows.len().max(1) as f64).max(1.0) as u64)
}

/// The same prices, with another worth of a right answer.
pub fn scaled(money: &Money, factor: f64) -> Money {
    let worth = (money.worth.0 as f64 * factor).min(i64::MAX as f64);
    Money {
        prices: money.prices.clone(),
        worth: Nanousd(worth as u64),
    }
}

fn describe(calibration: &CascadeCalibration, rows: &[Known], money: &Money, plan: Plan) -> Chosen {
    let dearest = Plan::only(calibration.tiers.len().saturating_sub(1));
    let (own, other) = (
        run_all(calibration, rows, money, &plan),
        run_all(calibration, rows, money, &dearest),
    );
    let share = |of: &[Outcome]| {
        of.iter().filter(|outcome| outcome.is_right).count() as f64 / of.len().max(1) as f64
    };
    let total = |of: &[Outcome]| of.iter().map(|outcome| outcome.cost_nanousd).sum::<f64>();
    Chosen {
        cost_share: total(&own) / total(&other).max(f64::MIN_POSITIVE),
        accuracy: share(&own),
        accuracy_dearest: share(&other),
        loss_max: loss_max(&own, &other),
        plan,
        worth: money.worth,
    }
}

/// With 95 % confidence the cascade loses no larger share of answers than this: what it loses at
/// most, less what it wins at least.
fn loss_max(own: &[Outcome], dearest: &[Outcome]) -> f64 {
    let count = |lost: bool| {
        let pairs = own.iter().zip(dearest);
        pairs
            .filter(|(own, other)| own.is_right != lost && other.is_right == lost)
            .count() as u64
    };
    // Each bound may fail half as often.
    let confidence = 1.0 - (1.0 - CASCADE_CONFIDENCE) / 2.0;
    let rows = own.len() as u64;
    let (lost, won) = (count(true), count(false));
    if lost == 0 && won == 0 && own.iter().zip(dearest).all(|(a, b)| a.tier == b.tier) {
        // It is the dearest tier.
        return 0.0;
    }
    interval::upper(lost, rows, confidence) - interval::lower(won, rows, confidence)
}

/// The plan whose cost and risk together are least, by [`CASCADE_PLAN_ROWS_MAX`] rows at most.
fn best(calibration: &CascadeCalibration, rows: &[Known], money: &Money) -> Plan {
    let step = rows.len().div_ceil(CASCADE_PLAN_ROWS_MAX).max(1);
    let some: Vec<Known> = rows.iter().step_by(step).cloned().collect();
    let rows = some.as_slice();
    let tiers = calibration.tiers.len();
    let dearest = Plan::only(tiers.saturating_sub(1));
    if rows.len() < CASCADE_ROWS_MIN / 2 {
        return dearest;
    }
    let spent = |plan: &Plan| -> Vec<f64> {
        run_all(calibration, rows, money, plan)
            .iter()
            .map(|outcome| {
                let wrong = f64::from(u8::from(!outcome.is_right));
                outcome.cost_nanousd + money.risk(wrong)
            })
            .collect()
    };
    let by_dearest = spent(&dearest);
    let mut found = (0.0, dearest);
    for list in lists(tiers) {
        let single = list.len() == 1;
        for (index, skip_above) in SKIPS.into_iter().enumerate() {
            for abort_margin in ABORTS {
                if single && (index > 0 || abort_margin.is_some()) {
                    continue;
                }
                let plan = Plan {
                    tiers: list.clone(),
                    skip_above,
                    abort_margin,
                };
                let saved = sure_saving(&by_dearest, &spent(&plan));
                if saved > found.0 {
                    found = (saved, plan);
                }
            }
        }
    }
    found.1
}

/// What one saves over the other for each row, less what chance may have added.
fn sure_saving(dearest: &[f64], own: &[f64]) -> f64 {
    let count = own.len().max(1) as f64;
    let saved: Vec<f64> = dearest.iter().zip(own).map(|(a, b)| a - b).collect();
    let mean = saved.iter().sum::<f64>() / count;
    let variance = saved.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / count;
    mean - ERRORS_MIN * (variance / count).sqrt()
}

/// All ascending lists of tiers.
fn lists(tiers: usize) -> impl Iterator<Item = Vec<usize>> {
    (1_u32..1 << tiers).map(move |set| (0..tiers).filter(|tier| set >> tier & 1 == 1).collect())
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
