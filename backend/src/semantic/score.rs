//! How likely a cached answer is right, as a level: from what two questions share, and from how
//! well the cache knows the answer.
//!
//! Two ways lead to a high level. A question in the same words, or in nearly the same words and
//! with nearly the same meaning, needs no other witness. One in other words needs several: entries
//! with the same answer around it, and none with another answer near (the answer's margin).

use super::bound::MaxWrong;
use super::conversation::Setting;
use super::signature::Comparison;

/// Levels of scores.
pub const LEVELS: usize = 64;

/// What scores are made of: a calibration that was learned for others is refused.
pub const SCORING: &str = "farthing 2026 semantic score 1";

/// Levels of one unit of log-odds.
const STEPS: f32 = 4.0;

/// The log-odds of level 0.
const LOWEST: f32 = -4.0;

/// A logistic regression on two streams of labelled questions (Banking77, CLINC150 with questions
/// that belong to no label), fitted on half of each.
const BASE: f32 = -4.85;
const PER_COSINE: f32 = -3.35;
const PER_MARGIN: f32 = 3.56;
const PER_VOTE: f32 = 4.98;
const PER_MEAN: f32 = 7.49;

/// How much less a witness counts the farther it is: one to e for each twentieth.
const VOTE_SHARPNESS: f32 = 20.0;

/// Witnesses of an answer whose mean cosine counts; those that are missing count as 0.
const MEAN_OF: usize = 3;

/// How much farther any other answer must be where one question vouches for its answer.
const ALONE_MARGIN: f32 = 0.12;

/// A stranger that is always there, so that the first answers of a cache have somebody to differ
/// from.
const STRANGER: f32 = 0.6;

/// Answers above a threshold are wrong less often than those at it: in the same streams by this
/// much of log-odds.
const ABOVE: f64 = 0.8;

/// How likely a cached answer is right: the log-odds of it in quarters, from -4 up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

/// An entry near a question, as a witness of what its answer is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Witness {
    pub cosine: f32,
    pub comparison: Comparison,
    /// What both stand in.
    pub setting: Setting,
    /// Entries with the same answer have the same.
    pub answer_id: u64,
}

/// The entry whose answer is likeliest right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Best {
    pub level: Level,
    /// Which of the witnesses it is.
    pub witness: usize,
}

// === impl Level ===

impl Level {
    /// Every level, from the lowest.
    pub fn all() -> impl DoubleEndedIterator<Item = Level> + Clone {
        (0..LEVELS as u8).map(Level)
    }

    pub fn of_index(index: usize) -> Option<Level> {
        (index < LEVELS).then_some(Level(index as u8))
    }

    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The level of some log-odds.
    pub fn of_odds(log_odds: f32) -> Level {
        let step = ((log_odds - LOWEST) * STEPS).floor();
        Level(step.clamp(0.0, (LEVELS - 1) as f32) as u8)
    }

    /// From which level on answers were right often enough, together, in the data that this build
    /// was calibrated with.
    pub fn calibrated(max_wrong: MaxWrong) -> Level {
        let wrong = max_wrong.share();
        let odds: f64 = (1.0 - wrong) / wrong;
        Level::of_odds((odds.ln() - ABOVE) as f32)
    }
}

/// The best of the witnesses, which are in the order of their cosines, nearest first. None if the
/// guard lets none pass.
pub fn best(witnesses: &[Witness]) -> Option<Best> {
    let numbered = witnesses.iter().enumerate();
    let fit = numbered.filter(|(_, witness)| witness.comparison.conflict.is_none());
    let scored = fit.map(|(index, witness)| {
        let alone = alone(witness, witnesses);
        let together = together(witness.answer_id, witnesses);
        Best {
            level: Level::of_odds(alone.max(together)),
            witness: index,
        }
    });
    // The nearest of equals: `max_by_key` would take the last.
    scored.rev().max_by_key(|best| best.level)
}

/// Log-odds by the words of the one question, where no other answer is near.
fn alone(witness: &Witness, witnesses: &[Witness]) -> f32 {
    let differs = |other: &&Witness| other.answer_id != witness.answer_id;
    let other = witnesses.iter().find(differs);
    if other.is_some_and(|other| witness.cosine - other.cosine < ALONE_MARGIN) {
        return f32::MIN;
    }
    let apart = witness.comparison.unmatched.iter().sum::<usize>();
    // What two people ask in conversations about the same may differ more in its words.
    if witness.setting == Setting::SameTopic && apart <= 2 && witness.cosine >= 0.88 {
        return 4.25;
    }
    match (apart, witness.cosine) {
        (0, 0.95..) => 4.5,
        (0, 0.80..) => 4.25,
        (0, 0.60..) if witness.comparison.matched >= 2 => 3.75,
        (0, 0.60..) => 2.5,
        (1..=2, 0.95..) => 4.0,
        (1..=2, 0.92..) => 3.75,
        (_, 0.95..) => 3.25,
        (1..=2, 0.85..) => 2.0,
        (_, 0.85..) => 1.0,
        _ => -1.0,
    }
}

/// Log-odds by all witnesses together: how near this answer is, alone and with others that have
/// it, how much nearer than any other answer, and how many of the witnesses speak for it.
fn together(answer_id: u64, witnesses: &[Witness]) -> f32 {
    let (same, different): (Vec<&Witness>, Vec<&Witness>) = witnesses
        .iter()
        .partition(|witness| witness.answer_id == answer_id);
    let nearest = |of: &[&Witness]| of.first().map_or(0.0, |witness| witness.cosine);
    let (ours, others) = (nearest(&same), nearest(&different).max(STRANGER));
    let first = ours.max(others);
    let weight = |cosine: f32| (VOTE_SHARPNESS * (cosine - first)).exp();
    let votes = |of: &[&Witness]| of.iter().map(|witness| weight(witness.cosine)).sum::<f32>();
    let (ayes, noes) = (votes(&same), votes(&different) + weight(STRANGER));
    let vote = ayes / (ayes + noes);
    let near = same.iter().take(MEAN_OF).map(|witness| witness.cosine);
    let mean = near.sum::<f32>() / MEAN_OF as f32;
    let margin = ours - others;
    BASE + PER_COSINE * ours + PER_MARGIN * margin + PER_VOTE * vote + PER_MEAN * mean
}
