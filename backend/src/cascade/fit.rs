//! Learns a calibration from rows that all tiers have answered.

use farthing_core::limits::{CASCADE_ROWS_MIN, CASCADE_TIERS_MAX, CASCADE_TIERS_MIN};
use farthing_core::route;

use super::calibration::{CascadeCalibration, Dearer, Known, Measured, Tier, log_odds};
use super::classes::Classes;
use super::head::{self, Head};
use super::isotonic::Isotonic;
use super::outcomes::{Row, TierAnswer};
use super::signals::{FEATURE_NAMES, FEATURES, Judged, OUTLOOK, features, outlook};
use crate::error::BackendError;
use crate::labelled;

/// Tokens after which an answer is judged for the first time.
pub const EARLY_TOKENS: usize = 16;

/// What is known of one tier's answers, row by row.
struct Learned {
    tier: Tier,
    wrong: Vec<bool>,
    done: Vec<Vec<f64>>,
    early: Vec<f64>,
    prior: Vec<f64>,
    /// Of each dearer tier.
    dearer: Vec<Vec<f64>>,
}

/// Learns from all rows.
///
/// # Errors
/// Too few rows or tiers, or rows that not all tiers have answered.
pub fn fit(rows: &[Row]) -> Result<CascadeCalibration, BackendError> {
    let refused = |problem: String| Err(BackendError::Cascade(problem));
    let tiers = rows.first().map_or(0, |row| row.tiers.len());
    if rows.len() < CASCADE_ROWS_MIN {
        let have = rows.len();
        return refused(format!(
            "{have} rows are too few: {CASCADE_ROWS_MIN} are needed"
        ));
    }
    if !(CASCADE_TIERS_MIN..=CASCADE_TIERS_MAX).contains(&tiers) {
        let allowed = format!("{CASCADE_TIERS_MIN} to {CASCADE_TIERS_MAX}");
        return refused(format!("{tiers} tiers have answered; {allowed} are needed"));
    }
    if let Some(at) = rows.iter().position(|row| row.tiers.len() != tiers) {
        return refused(format!("row {} lacks the answers of some tiers", at + 1));
    }
    let prompts: Vec<[f64; route::FEATURES]> = rows
        .iter()
        .map(|row| route::features(question(row).as_bytes()))
        .collect();
    let answers = rows.iter().flat_map(|row| &row.tiers);
    let classes = Classes::learn(answers.map(|answer| answer.text.as_str()));
    let mut learned: Vec<Learned> = (0..tiers)
        .map(|tier| learn(rows, tier, &prompts, &classes))
        .collect();
    for tier in 0..tiers {
        let outlooks: Vec<[f64; OUTLOOK]> = rows
            .iter()
            .zip(&prompts)
            .map(|(row, prompt)| outlook(&whole(row, &row.tiers[tier], None, &classes), prompt))
            .collect();
        let by: Vec<f64> = learned[tier].done[0].iter().map(|p| log_odds(*p)).collect();
        let dearer = learned[tier + 1..].iter().map(|dearer| {
            let (by_all, own) = head::fit(&outlooks, &dearer.wrong);
            let by_doubt = Isotonic::fit(&by, &dearer.wrong);
            (Dearer { by_doubt, by_all }, own)
        });
        (learned[tier].tier.dearer, learned[tier].dearer) = dearer.unzip();
    }
    let known = |at: usize| known(&rows[at], &learned, at);
    let known: Vec<Known> = (0..rows.len()).map(known).collect();
    let share = |learned: &Learned| {
        let right = learned.wrong.iter().filter(|wrong| !**wrong).count();
        right as f64 / rows.len() as f64
    };
    let judged = learned.iter().flat_map(|learned| {
        let pairs = learned.done[0]
            .iter()
            .copied()
            .zip(learned.wrong.iter().copied());
        pairs.collect::<Vec<_>>()
    });
    let measured = Measured {
        rows: rows.len() as u64,
        accuracy: learned.iter().map(share).collect(),
        ece: ece(&judged.collect::<Vec<_>>()),
        judge: None,
    };
    Ok(CascadeCalibration {
        features: FEATURE_NAMES.map(str::to_owned).to_vec(),
        prompt_features: route::FEATURE_NAMES.map(str::to_owned).to_vec(),
        early_tokens: EARLY_TOKENS,
        classes,
        tiers: learned.into_iter().map(|learned| learned.tier).collect(),
        rows: known,
        measured,
    })
}

/// What is known of rows that a calibration has not been learned from.
pub fn judge(calibration: &CascadeCalibration, rows: &[Row]) -> Vec<Known> {
    let classes = &calibration.classes;
    let judge = |row: &Row| {
        let prompt = route::features(question(row).as_bytes());
        let tiers = || calibration.tiers.iter().zip(&row.tiers).enumerate();
        let done = |(at, (tier, answer)): (usize, (&Tier, &TierAnswer))| {
            let heads = tier.done.iter().enumerate();
            let earlier = |head: usize| head.checked_sub(1).and_then(|at| row.tiers.get(at));
            let after = heads.map(|(index, head)| {
                let earlier = earlier(index).map(|earlier| earlier.text.as_str());
                head.p_wrong(&whole(row, answer, earlier, classes)) as f32
            });
            after.take(at + 1).collect()
        };
        Known {
            right: row
                .tiers
                .iter()
                .map(|answer| row.is_right(answer))
                .collect(),
            prompt_tokens: counts(row, |answer| answer.prompt_tokens),
            completion_tokens: counts(row, |answer| answer.completion_tokens),
            done: tiers().map(done).collect(),
            early: tiers()
                .map(|(_, (tier, answer))| tier.early.p_wrong(&first(row, answer, classes)) as f32)
                .collect(),
            prior: tiers()
                .map(|(_, (tier, _))| tier.prior.p_wrong(&prompt) as f32)
                .collect(),
            dearer: tiers()
                .map(|(_, (tier, answer))| {
                    let outlook = outlook(&whole(row, answer, None, classes), &prompt);
                    let p_wrong = |dearer: &Dearer| dearer.by_all.p_wrong(&outlook) as f32;
                    tier.dearer.iter().map(p_wrong).collect()
                })
                .collect(),
        }
    };
    rows.iter().map(judge).collect()
}

/// The mean distance between probability and share of what was wrong, over 15 equal parts of the
/// scale, each weighted by what falls into it (Naeini et al. 2015).
pub fn ece(judged: &[(f64, bool)]) -> f64 {
    const PARTS: usize = 15;
    let mut parts = [(0.0, 0.0, 0.0); PARTS];
    for (p, wrong) in judged {
        let part = ((p * PARTS as f64) as usize).min(PARTS - 1);
        parts[part].0 += 1.0;
        parts[part].1 += p;
        parts[part].2 += f64::from(u8::from(*wrong));
    }
    let distances = parts.iter().map(|(_, p, wrong)| (p - wrong).abs());
    distances.sum::<f64>() / judged.len().max(1) as f64
}

/// The last thing that was said by a user.
fn question(row: &Row) -> String {
    let messages = labelled::messages(&row.prompt).unwrap_or_default();
    messages
        .last()
        .map_or(String::new(), |last| last.content.clone())
}

fn learn(
    rows: &[Row],
    tier: usize,
    prompts: &[[f64; route::FEATURES]],
    classes: &Classes,
) -> Learned {
    let answers: Vec<&TierAnswer> = rows.iter().map(|row| &row.tiers[tier]).collect();
    let wrong: Vec<bool> = rows
        .iter()
        .zip(&answers)
        .map(|(row, answer)| !row.is_right(answer))
        .collect();
    let after = |earlier: Option<usize>| -> (Head, Vec<f64>) {
        let features = rows.iter().zip(&answers).map(|(row, answer)| {
            let earlier = earlier.map(|earlier| row.tiers[earlier].text.as_str());
            whole(row, answer, earlier, classes)
        });
        head::fit(&features.collect::<Vec<_>>(), &wrong)
    };
    let heads = std::iter::once(None).chain((0..tier).map(Some)).map(after);
    let (heads, done) = heads.unzip();
    let firsts: Vec<[f64; FEATURES]> = rows
        .iter()
        .zip(&answers)
        .map(|(row, answer)| first(row, answer, classes))
        .collect();
    let (early_head, early) = head::fit(&firsts, &wrong);
    let (prior_head, prior) = head::fit(prompts, &wrong);
    let completion: f64 = answers
        .iter()
        .map(|answer| answer.completion_tokens as f64)
        .sum();
    let tier = Tier {
        model: answers
            .first()
            .map_or(String::new(), |answer| answer.model.clone()),
        done: heads,
        early: early_head,
        prior: prior_head,
        dearer: Vec::new(),
        completion_tokens: completion / rows.len().max(1) as f64,
    };
    Learned {
        tier,
        wrong,
        done,
        early,
        prior,
        dearer: Vec::new(),
    }
}

fn known(row: &Row, learned: &[Learned], at: usize) -> Known {
    let each = |value: &dyn Fn(&Learned) -> f64| -> Vec<f32> {
        learned
            .iter()
            .map(|learned| value(learned) as f32)
            .collect()
    };
    Known {
        right: learned.iter().map(|learned| !learned.wrong[at]).collect(),
        prompt_tokens: counts(row, |answer| answer.prompt_tokens),
        completion_tokens: counts(row, |answer| answer.completion_tokens),
        done: learned
            .iter()
            .map(|learned| learned.done.iter().map(|done| done[at] as f32).collect())
            .collect(),
        early: each(&|learned| learned.early[at]),
        prior: each(&|learned| learned.prior[at]),
        dearer: learned
            .iter()
            .map(|learned| learned.dearer.iter().map(|own| own[at] as f32).collect())
            .collect(),
    }
}

/// The features of a whole answer.
fn whole(
    row: &Row,
    answer: &TierAnswer,
    earlier: Option<&str>,
    classes: &Classes,
) -> [f64; FEATURES] {
    features(&Judged {
        prompt_bytes: row.prompt_bytes(),
        text: &answer.text,
        tokens: &answer.tokens,
        is_complete: answer.is_complete,
        earlier,
        classes,
    })
}

/// Those of its first tokens.
fn first(row: &Row, answer: &TierAnswer, classes: &Classes) -> [f64; FEATURES] {
    let tokens = answer.tokens.get(..EARLY_TOKENS).unwrap_or(&answer.tokens);
    let end = tokens.last().map_or(0, |token| token.end());
    features(&Judged {
        prompt_bytes: row.prompt_bytes(),
        text: answer.text.get(..end).unwrap_or(&answer.text),
        tokens,
        is_complete: answer.is_complete && tokens.len() == answer.tokens.len(),
        earlier: None,
        classes,
    })
}

/// Tokens of each tier's answer; a number that no answer has counts as the largest.
fn counts(row: &Row, tokens: fn(&TierAnswer) -> u64) -> Vec<u32> {
    let each = row.tiers.iter().map(tokens);
    each.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX))
        .collect()
}
