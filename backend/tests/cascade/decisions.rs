//! What is learned from rows, and which plan it leads to.

use farthing_backend::cascade::calibration::CascadeCalibration;
use farthing_backend::cascade::choose::{Aim, Worth, choose};
use farthing_backend::cascade::fit::{ece, fit, judge};
use farthing_backend::cascade::outcomes::Row;
use farthing_backend::cascade::plan::{self, Plan, run_all};
use farthing_backend::cascade::policy::{Doubt, Money, Policy, Step};
use farthing_core::money::Nanousd;
use farthing_core::price::{Price, Rates};
use proptest::prelude::*;

use super::rows::{Behaviour, rows};

const SMALL: Behaviour = Behaviour {
    model: "small",
    right: 0.6,
    tells: 1.0,
    completion_tokens: 30,
};
const LARGE: Behaviour = Behaviour {
    model: "large",
    right: 0.9,
    tells: 0.3,
    completion_tokens: 30,
};

/// A tier costs so many nano-dollars a token.
fn money(per_token: &[u64], worth: u64) -> Money {
    let price = |nanousd: &u64| {
        let rate = nanousd * 1_000_000;
        Price::flat(Rates::plain(rate, rate))
    };
    Money {
        prices: per_token.iter().map(price).collect(),
        worth: Nanousd(worth),
    }
}

/// A right answer is worth what `money` says.
fn worth(money: &Money) -> Aim {
    Aim {
        worth: Worth::Given(money.worth),
        max_loss: None,
    }
}

#[test]
fn a_small_model_that_knows_when_it_is_right_saves_without_losing() {
    let known = fit(&rows(600, &[SMALL, LARGE], 1)).expect("enough rows");
    assert!(known.measured.ece < 0.05, "{:?}", known.measured);
    let money = money(&[1, 10], 40 * 1_300);
    let chosen = choose(&known, &money.prices, worth(&money));
    assert_eq!(chosen.plan.tiers, [0, 1]);
    // On rows that nothing was learned from.
    let held = rows(2_000, &[SMALL, LARGE], 2);
    let held = judge(&known, &held);
    let cascade = run_all(&known, &held, &money, &chosen.plan);
    let large = run_all(&known, &held, &money, &Plan::only(1));
    let cost = |of: &[plan::Outcome]| of.iter().map(|one| one.cost_nanousd).sum::<f64>();
    let right = |of: &[plan::Outcome]| of.iter().filter(|one| one.is_right).count();
    assert!(cost(&cascade) < 0.7 * cost(&large));
    assert!(right(&cascade) + 20 >= right(&large));
}

#[test]
fn a_useless_small_model_is_left_out() {
    let useless = [
        // Never right, or right by chance without knowing.
        Behaviour {
            right: 0.0,
            ..SMALL
        },
        Behaviour {
            right: 0.3,
            tells: 0.0,
            ..SMALL
        },
    ];
    let dear = money(&[3, 10], 40 * 1_300);
    for small in useless {
        let known = fit(&rows(400, &[small, LARGE], 3)).expect("enough rows");
        // Nor does it keep the file from being read.
        let file = known.encode();
        assert_eq!(CascadeCalibration::decode(&file).as_ref(), Ok(&known));
        let chosen = choose(&known, &dear.prices, worth(&dear));
        assert!(chosen.cost_share <= 1.05, "{small:?}: {chosen:?}");
        let held = judge(&known, &rows(1_000, &[small, LARGE], 4));
        let outcomes = run_all(&known, &held, &dear, &chosen.plan);
        let large = run_all(&known, &held, &dear, &Plan::only(1));
        let cost = |of: &[plan::Outcome]| of.iter().map(|one| one.cost_nanousd).sum::<f64>();
        assert!(
            cost(&outcomes) <= 1.05 * cost(&large),
            "{small:?}: {chosen:?}"
        );
    }
}

#[test]
fn a_limit_of_what_may_be_lost_holds_or_leaves_the_dearest_alone() {
    // The large model is always right, so that every wrong answer that is kept is lost.
    let (small, large) = (
        Behaviour {
            tells: 0.6,
            ..SMALL
        },
        Behaviour {
            right: 1.0,
            ..LARGE
        },
    );
    let known = fit(&rows(1_200, &[small, large], 5)).expect("enough rows");
    let money = money(&[1, 10], 4 * 1_300);
    let losing = |share| Aim {
        max_loss: Some(share),
        ..worth(&money)
    };
    let loose = choose(&known, &money.prices, losing(0.2));
    assert!(loose.loss_max <= 0.2 && loose.cost_share < 1.0, "{loose:?}");
    let strict = choose(&known, &money.prices, losing(0.000_1));
    assert!(strict.loss_max <= 0.000_1, "{strict:?}");
    assert!((strict.cost_share - 1.0).abs() < 1e-9, "{strict:?}");
}

#[test]
fn without_a_worth_it_is_as_often_right_as_the_dearest_for_less() {
    let aim = Aim {
        worth: Worth::AsOftenRight,
        max_loss: None,
    };
    let right = |of: &[plan::Outcome]| of.iter().filter(|one| one.is_right).count();
    for seed in 20..23 {
        let known = fit(&rows(800, &[SMALL, LARGE], seed)).expect("enough rows");
        let money = money(&[1, 10], 0);
        let chosen = choose(&known, &money.prices, aim);
        assert!(chosen.accuracy >= chosen.accuracy_dearest, "{chosen:?}");
        assert!(chosen.cost_share < 0.75, "{chosen:?}");
        let held = judge(&known, &rows(4_000, &[SMALL, LARGE], seed + 10));
        let own = Money {
            worth: chosen.worth,
            ..money
        };
        let cascade = run_all(&known, &held, &own, &chosen.plan);
        let large = run_all(&known, &held, &own, &Plan::only(1));
        // A point, as of 4,000.
        assert!(right(&cascade) + 40 >= right(&large), "seed {seed}");
    }
    // Nothing is as often right as a dearest model that always is.
    let never = Behaviour {
        right: 0.0,
        ..SMALL
    };
    let always = Behaviour {
        right: 1.0,
        ..LARGE
    };
    let known = fit(&rows(400, &[never, always], 30)).expect("enough rows");
    let chosen = choose(&known, &money(&[1, 10], 0).prices, aim);
    assert_eq!(chosen.plan.tiers, [1], "{chosen:?}");
}

/// The best of many plans on few rows owes that to chance.
#[test]
fn what_chance_recommends_on_few_rows_is_not_done() {
    let small = Behaviour {
        right: 0.15,
        tells: 0.3,
        ..SMALL
    };
    let large = Behaviour {
        right: 0.45,
        ..LARGE
    };
    let aim = Aim {
        worth: Worth::AsOftenRight,
        max_loss: None,
    };
    let money = money(&[27, 100], 0);
    let right = |of: &[plan::Outcome]| of.iter().filter(|one| one.is_right).count();
    let losing = (40..60).filter(|seed| {
        let known = fit(&rows(80, &[small, large], *seed)).expect("enough rows");
        let chosen = choose(&known, &money.prices, aim);
        let held = judge(&known, &rows(1_000, &[small, large], seed + 100));
        let own = Money {
            worth: chosen.worth,
            ..money.clone()
        };
        let cascade = run_all(&known, &held, &own, &chosen.plan);
        let dearest = run_all(&known, &held, &own, &Plan::only(1));
        // Three points of 1,000 answers.
        println!(
            "seed {seed}: {} of {}, {chosen:?}",
            right(&cascade),
            right(&dearest)
        );
        right(&cascade) + 30 < right(&dearest)
    });
    assert_eq!(losing.count(), 0);
}

#[test]
fn the_dearer_model_is_not_bought_where_the_cheaper_is_better() {
    let better = Behaviour {
        right: 0.95,
        ..SMALL
    };
    let worse = Behaviour {
        right: 0.5,
        ..LARGE
    };
    let known = fit(&rows(400, &[better, worse], 6)).expect("enough rows");
    let dear = money(&[1, 10], 40 * 1_300);
    let chosen = choose(&known, &dear.prices, worth(&dear));
    assert_eq!(chosen.plan.tiers[0], 0, "{chosen:?}");
    assert!(chosen.cost_share < 0.2, "{chosen:?}");
}

#[test]
fn a_cached_answer_is_taken_where_its_risk_costs_less_than_asking() {
    let known = fit(&rows(400, &[SMALL, LARGE], 7)).expect("enough rows");
    let money = money(&[10, 100], 400_000);
    let plan = Plan::only(1);
    let policy = Policy {
        calibration: &known,
        money: &money,
        plan: &plan,
    };
    let takes = |p| policy.takes_cached(p, &[0.5, 0.1], 100);
    // Asking costs 13,000 and a tenth of 400,000; at most 0.1325 of wrong answers are worth that.
    assert!(takes(0.13) && !takes(0.14));
}

#[test]
fn files_are_read_back_and_others_refused() {
    let known = fit(&rows(80, &[SMALL, LARGE], 8)).expect("enough rows");
    let file = known.encode();
    assert_eq!(CascadeCalibration::decode(&file).as_ref(), Ok(&known));
    let refused = |file: &[u8]| CascadeCalibration::decode(file).expect_err("no calibration");
    assert!(refused(b"").contains("damaged"));
    let mut other_version = file.clone();
    other_version[3] = b'0';
    assert!(refused(&other_version).contains("version"));
    for at in (0..file.len()).step_by(97) {
        let mut damaged = file.clone();
        damaged[at] ^= 0x40;
        assert!(CascadeCalibration::decode(&damaged).is_err(), "byte {at}");
    }
    let mut few = known.clone();
    few.rows.truncate(59);
    assert!(refused(&few.encode()).contains("has 59 rows; 60 are needed"));
    let mut odd = known.clone();
    odd.rows[5].right.pop();
    assert!(refused(&odd.encode()).contains("other lengths"));
    let mut renamed = known;
    renamed.features[0] = "luck".to_owned();
    assert!(refused(&renamed.encode()).contains("other features"));
}

#[test]
fn too_little_to_learn_from_is_refused_with_what_is_needed() {
    let error = |rows: &[Row]| fit(rows).expect_err("too little").to_string();
    assert!(error(&rows(59, &[SMALL, LARGE], 9)).contains("59 rows are too few: 60 are needed"));
    assert!(error(&rows(80, &[SMALL], 9)).contains("2 to 6 are needed"));
    let mut uneven = rows(80, &[SMALL, LARGE], 9);
    uneven[40].tiers.pop();
    assert!(error(&uneven).contains("row 41 lacks"));
}

#[test]
fn calibration_error_is_zero_for_the_truth_and_large_for_lies() {
    let truth: Vec<(f64, bool)> = (0..1_000).map(|at| (0.25, at % 4 == 0)).collect();
    assert!(ece(&truth) < 1e-9);
    let lies: Vec<(f64, bool)> = (0..1_000).map(|at| (0.25, at % 4 != 0)).collect();
    assert!((ece(&lies) - 0.5).abs() < 1e-9);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the prices, the worth and the answers are: a tier is followed by a dearer one only,
    /// the last tier's answer is kept, and no answer is given up that is surely right.
    #[test]
    fn steps_lead_upward(
        small in 1_u64..1_000,
        large in 1_u64..1_000,
        worth in 1_u64..10_000_000,
        p in 0.0001_f64..0.9999,
        prompt in 0_u64..10_000,
    ) {
        let known = fit(&rows(80, &[SMALL, SMALL, LARGE], 10)).expect("enough rows");
        let money = money(&[small, small, large], worth);
        let plan = Plan { tiers: vec![0, 1, 2], ..Plan::only(0) };
        let policy = Policy { calibration: &known, money: &money, plan: &plan };
        for tier in 0..3 {
            match policy.done(tier, Doubt::alone(p), prompt) {
                Step::Keep => {}
                Step::Ask(next) => prop_assert!(next > tier && next < 3),
            }
        }
        prop_assert_eq!(policy.done(2, Doubt::alone(p), prompt), Step::Keep);
        if worth < 100 * small.min(large) {
            prop_assert_eq!(policy.done(0, Doubt::alone(0.0001), prompt.max(100)), Step::Keep);
        }
    }
}
