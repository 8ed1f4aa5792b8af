//! Which plan a route is worth. Every list of tiers, every probability from the prompt alone above
//! which the first is skipped, and every readiness to give up early is tried on the rows that the
//! calibration holds, and the best taken. A tier that is of no use to a route is so left out by
//! itself, and where no cascade is surely better than the dearest tier alone, that is asked alone.

use std::panic::resume_unwind;
use std::thread;

use farthing_core::limits::{CASCADE_CONFIDENCE, CASCADE_PLAN_ROWS_MAX, CASCADE_ROWS_MIN};
use farthing_core::money::Nanousd;
use farthing_core::price::Price;

use super::calibration::{CascadeCalibration, Known};
use super::plan::{NEVER_SKIPPED, Outcome, Plan, run_all};
use super::policy::Money;
use crate::semantic::interval;

/// A plan with what it does on the rows it was chosen by.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    pub plan: Plan,
    /// In answers of the dearest tier alone.
    pub cost_share: f64,
    pub accuracy: f64,
    pub accuracy_dearest: f64,
    /// The standard error of the difference between the two.
    pub accuracy_error: f64,
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
const SKIPS: [f64; 8] = [NEVER_SKIPPED, 0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5];
const ABORTS: [Option<f64>; 4] = [None, Some(0.4), Some(0.2), Some(0.05)];
/// A plan must save more than the dearest tier alone by so many standard errors of the mean.
const ERRORS_MIN: f64 = 1.0;
/// The same where plans are tried for many worths on the same rows: of hundreds one always looks
/// better than it is.
const ERRORS_OF_MANY_MIN: f64 = 2.0;
/// What a right answer is taken to be worth where the loss has a limit, in the order of trial: each
/// is tried only where the one before has kept to the limit, so that no trial weakens the others.
const WORTHS: [f64; 7] = [64.0, 32.0, 16.0, 8.0, 4.0, 2.0, 1.0];
/// What it is taken to be worth where it is to be as little as possible, in answers of the dearest
/// tier: from a quarter to 49 of them.
const WORTH_FIRST: f64 = 0.25;
const WORTH_RATIO: f64 = 1.5;
const WORTH_STEPS: i32 = 14;
const WORTH_HALVINGS: usize = 6;
/// By how many standard errors it must be right more often than the dearest tier, in the order of
/// trial.
const SURPLUSES: [f64; 4] = [0.0, 0.5, 1.0, 2.0];
/// Parts of the rows of which each is left out once.
const FOLDS: usize = 5;

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
            let plan = best(calibration, &calibration.rows, &money, ERRORS_MIN);
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
        let plan = best(calibration, &learned, &dearer, ERRORS_MIN);
        let next = describe(calibration, &proving, &dearer, plan);
        if next.loss_max > max_loss {
            break;
        }
        chosen = next;
    }
    chosen
}

/// The cheapest of the plans that are right as often as the dearest tier, on the calibration's rows
/// and where it is chosen by some of them and looked at on the others: the best of many plans owes
/// a part of that to chance, the more so the fewer rows there are. Where it is not, it has to be
/// right more often on the rows that it is chosen by.
fn as_often_right(calibration: &CascadeCalibration, dearest_answer: &Money) -> Chosen {
    let rows = &calibration.rows;
    let surplus = SURPLUSES
        .into_iter()
        .find(|surplus| is_held_out_as_often_right(calibration, dearest_answer, *surplus));
    match surplus {
        Some(surplus) => cheapest(calibration, rows, dearest_answer, surplus),
        None => alone(calibration, rows, dearest_answer),
    }
}

/// Whether plans that are chosen by four fifths of the rows are right as often as the dearest tier
/// on the last fifth, all five together.
fn is_held_out_as_often_right(
    calibration: &CascadeCalibration,
    dearest_answer: &Money,
    surplus: f64,
) -> bool {
    let dearest = Plan::only(calibration.tiers.len().saturating_sub(1));
    let more_often = |fold: usize| {
        let (mut proving, mut choosing) = (Vec::new(), Vec::new());
        for (at, row) in calibration.rows.iter().enumerate() {
            let rows = match at % FOLDS == fold {
                true => &mut proving,
                false => &mut choosing,
            };
            rows.push(row.clone());
        }
        let chosen = cheapest(calibration, &choosing, dearest_answer, surplus);
        let money = Money {
            worth: chosen.worth,
            ..dearest_answer.clone()
        };
        let right = |plan: &Plan| {
            let outcomes = run_all(calibration, &proving, &money, plan);
            outcomes.iter().filter(|outcome| outcome.is_right).count() as i64
        };
        right(&chosen.plan) - right(&dearest)
    };
    // With many tiers choosing takes seconds, which a start waits for.
    let more_often = &more_often;
    let all: i64 = thread::scope(|scope| {
        let folds: Vec<_> = (0..FOLDS)
            .map(|fold| scope.spawn(move || more_often(fold)))
            .collect();
        let each = folds.into_iter().map(|fold| match fold.join() {
            Ok(more) => more,
            Err(panic) => resume_unwind(panic),
        });
        each.sum()
    });
    all >= 0
}

/// The dearest tier alone.
fn alone(calibration: &CascadeCalibration, rows: &[Known], money: &Money) -> Chosen {
    let last = calibration.tiers.len().saturating_sub(1);
    describe(calibration, rows, money, Plan::only(last))
}

/// The cheapest of the plans for many worths that is right as often as the dearest tier on these
/// rows, and by `surplus` standard errors more often.
fn cheapest(
    calibration: &CascadeCalibration,
    rows: &[Known],
    dearest_answer: &Money,
    surplus: f64,
) -> Chosen {
    let mut chosen = alone(calibration, rows, dearest_answer);
    let mut tried = |factor: f64| {
        let money = scaled(dearest_answer, factor);
        let plan = best(calibration, rows, &money, ERRORS_OF_MANY_MIN);
        let next = describe(calibration, rows, &money, plan);
        let more = next.accuracy - next.accuracy_dearest;
        let is_right_enough = more >= surplus * next.accuracy_error;
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
        accuracy_error: accuracy_error(&own, &other),
        loss_max: loss_max(&own, &other),
        plan,
        worth: money.worth,
    }
}

/// The standard error of the share of rows that one has right and the other has not.
fn accuracy_error(own: &[Outcome], dearest: &[Outcome]) -> f64 {
    let pairs = own.iter().zip(dearest);
    let more: Vec<f64> = pairs
        .map(|(own, other)| f64::from(own.is_right) - f64::from(other.is_right))
        .collect();
    standard_error(&more)
}

/// The standard error of the mean.
fn standard_error(of: &[f64]) -> f64 {
    let count = of.len().max(1) as f64;
    let mean = of.iter().sum::<f64>() / count;
    let variance = of.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / count;
    (variance / count).sqrt()
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

/// The plan whose cost and risk together are least, by [`CASCADE_PLAN_ROWS_MAX`] rows at most; the
/// dearest tier alone, if it does not save so many standard errors.
fn best(calibration: &CascadeCalibration, rows: &[Known], money: &Money, errors_min: f64) -> Plan {
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
                let saved = saving(&by_dearest, &spent(&plan), ERRORS_MIN);
                if saved > found.0 {
                    found = (saved, plan);
                }
            }
        }
    }
    match saving(&by_dearest, &spent(&found.1), errors_min) > 0.0 {
        true => found.1,
        false => Plan::only(tiers.saturating_sub(1)),
    }
}

/// What one saves over the other for each row, less so many standard errors of that.
fn saving(dearest: &[f64], own: &[f64], errors: f64) -> f64 {
    let saved: Vec<f64> = dearest.iter().zip(own).map(|(a, b)| a - b).collect();
    let mean = saved.iter().sum::<f64>() / saved.len().max(1) as f64;
    mean - errors * standard_error(&saved)
}

/// All ascending lists of tiers.
fn lists(tiers: usize) -> impl Iterator<Item = Vec<usize>> {
    (1_u32..1 << tiers).map(move |set| (0..tiers).filter(|tier| set >> tier & 1 == 1).collect())
}
