//! A judge in the place of labels: a model is shown a prompt, the dearest tier's answer and another
//! one, and says whether that one is right. The dearest tier's own answers are taken as right.
//! Where some rows have labels, the judge is measured on them, and refused if it takes too many
//! wrong answers for right; where none have, what is learned is true only if the judge is.

use std::path::Path;

use farthing_core::limits::{
    CASCADE_SIDE_BY_SIDE, JUDGE_CONTROL_ROWS, JUDGE_FALSE_RIGHT_MAX, JUDGE_LABELLED_ROWS_MIN,
};
use serde::{Deserialize, Serialize};

use super::outcomes::Row;
use crate::error::BackendError;
use crate::labelled;
use crate::semantic::interval;
use crate::yes_no::YesNoModel;

/// How sure a judge has to be where nothing says which threshold is best.
const SURE: f64 = 0.5;

/// The thresholds that are tried.
const SURE_STEPS: u32 = 100;

/// What a judge is shown.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub prompt: &'a str,
    /// The dearest tier's answer.
    pub reference: &'a str,
    pub answer: &'a str,
}

/// Somebody who tells whether an answer is right.
pub trait Judge {
    /// The probability that each answer is right; none where nothing can be said.
    ///
    /// # Errors
    /// The model fails.
    fn sure(&mut self, questions: &[Question<'_>]) -> Result<Vec<Option<f32>>, BackendError>;
}

/// Who judged, and how well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    pub model: String,
    /// Rows that had no label.
    pub rows: u64,
    /// How sure it had to be.
    pub threshold: f64,
    /// None where too few rows have labels: what is learned is then relative to the judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_labels: Option<OnLabels>,
}

/// What a judge says of answers whose truth is known, by rows that its threshold was not chosen on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnLabels {
    /// Rows with a label, and those on which the dearest tier is right, which is the reference.
    pub rows: u64,
    pub reference_right: u64,
    /// Answers, and those of which it says what the label says.
    pub answers: u64,
    pub agreed: u64,
    /// Wrong answers, and those that it takes for right.
    pub wrong: u64,
    pub false_right: u64,
}

impl OnLabels {
    /// The share of wrong answers that it takes for right, with its exact bounds (Clopper-Pearson,
    /// 95 %); none where no answer is wrong.
    pub fn false_right_share(&self) -> Option<(f64, [f64; 2])> {
        let share = (self.wrong > 0).then(|| self.false_right as f64 / self.wrong as f64)?;
        Some((share, interval::ci95(self.false_right, self.wrong)))
    }

    /// Tells what it does at a threshold.
    fn of(judgements: &[&Judgement], threshold: f64) -> OnLabels {
        let mut sums = OnLabels::default();
        for judgement in judgements {
            let Some(is_right) = judgement.is_right else {
                continue;
            };
            let says_right = judgement.sure >= threshold;
            sums.answers += 1;
            sums.agreed += u64::from(says_right == is_right);
            sums.wrong += u64::from(!is_right);
            sums.false_right += u64::from(says_right && !is_right);
        }
        sums
    }

    /// How well right and wrong are told apart: the share of right answers found, less that of
    /// wrong ones taken for right.
    fn skill(&self) -> f64 {
        let right = self.answers - self.wrong;
        let found = right - (self.answers - self.agreed - self.false_right);
        let share = |of: u64, all: u64| of as f64 / all.max(1) as f64;
        share(found, right) - share(self.false_right, self.wrong)
    }
}

/// One answer and what is thought of it.
struct Judgement {
    row: usize,
    tier: usize,
    sure: f64,
    /// The label's word, where there is one.
    is_right: Option<bool>,
}

/// Judges the answers of all rows without a label.
///
/// # Errors
/// Rows without answers, a judge that fails, or one that takes more wrong answers for right than is
/// allowed.
pub fn judge(
    rows: &mut [Row],
    (name, judge): (&str, &mut dyn Judge),
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Judged, BackendError> {
    let judgements = ask(rows, judge, progress)?;
    let labelled = rows.iter().filter(|row| row.is_labelled());
    let labelled_rows = labelled.clone().count();
    let (threshold, on_labels) = if labelled_rows >= JUDGE_LABELLED_ROWS_MIN {
        let reference_right = labelled
            .filter(|row| row.tiers.last().is_some_and(|tier| row.is_right(tier)))
            .count();
        let [chosen_on, measured_on] = halves(&judgements);
        let threshold = threshold(&chosen_on);
        let measured = OnLabels {
            rows: labelled_rows as u64,
            reference_right: reference_right as u64,
            ..OnLabels::of(&measured_on, threshold)
        };
        (threshold, Some(measured))
    } else {
        let controls = controls(rows, judge)?;
        (threshold(&controls.iter().collect::<Vec<_>>()), None)
    };
    if let Some(measured) = &on_labels {
        check(name, measured)?;
    }
    let judged = rows.iter().filter(|row| !row.is_labelled()).count();
    for row in rows.iter_mut().filter(|row| !row.is_labelled()) {
        if let Some(dearest) = row.tiers.last_mut() {
            dearest.right.get_or_insert(true);
        }
    }
    for judgement in judgements.iter().filter(|of| of.is_right.is_none()) {
        let tier = rows
            .get_mut(judgement.row)
            .and_then(|row| row.tiers.get_mut(judgement.tier));
        if let Some(tier) = tier {
            tier.right.get_or_insert(judgement.sure >= threshold);
        }
    }
    Ok(Judged {
        model: name.to_owned(),
        rows: judged as u64,
        threshold,
        on_labels,
    })
}

/// What is thought of each answer but those of the dearest tier. Nobody is asked about one that
/// says what the reference says.
fn ask(
    rows: &[Row],
    judge: &mut dyn Judge,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Judgement>, BackendError> {
    let prompts: Vec<String> = rows.iter().map(said).collect();
    let mut judgements = Vec::new();
    let mut questions = Vec::new();
    for (at, (row, prompt)) in rows.iter().zip(&prompts).enumerate() {
        let Some((dearest, cheaper)) = row.tiers.split_last() else {
            let problem = format!("row {} has no answers to be judged", at + 1);
            return Err(BackendError::Cascade(problem));
        };
        for (tier, answer) in cheaper.iter().enumerate() {
            let (reference, text) = (dearest.text.trim(), answer.text.trim());
            if !reference.eq_ignore_ascii_case(text) {
                let question = Question {
                    prompt,
                    reference,
                    answer: text,
                };
                questions.push((judgements.len(), question));
            }
            judgements.push(Judgement {
                row: at,
                tier,
                sure: 1.0,
                is_right: row.is_labelled().then(|| row.is_right(answer)),
            });
        }
    }
    let count = questions.len();
    for (done, some) in questions.chunks(CASCADE_SIDE_BY_SIDE).enumerate() {
        let asked: Vec<Question<'_>> = some.iter().map(|(_, question)| *question).collect();
        for ((at, _), sure) in some.iter().zip(judge.sure(&asked)?) {
            judgements[*at].sure = f64::from(sure.unwrap_or(0.0));
        }
        progress((done * CASCADE_SIDE_BY_SIDE + some.len()).min(count), count);
    }
    Ok(judgements)
}

/// Judgements of every second row with a label, and of the others.
fn halves(judgements: &[Judgement]) -> [Vec<&Judgement>; 2] {
    let mut rows: Vec<usize> = Vec::new();
    let mut halves = [Vec::new(), Vec::new()];
    for judgement in judgements.iter().filter(|of| of.is_right.is_some()) {
        if rows.last() != Some(&judgement.row) {
            rows.push(judgement.row);
        }
        halves[rows.len() % 2].push(judgement);
    }
    halves
}

/// Where no labels say how sure is sure enough: the judge is shown the dearest tier's answers as
/// answers to their own prompts, which are right as things stand, and to those of other rows, which
/// are mostly wrong. A small model says yes to neither with any confidence, but tells them apart.
fn controls(rows: &[Row], judge: &mut dyn Judge) -> Result<Vec<Judgement>, BackendError> {
    let dearest = |row: &Row| row.tiers.last().map(|tier| tier.text.trim().to_owned());
    let shown = rows.iter().take(JUDGE_CONTROL_ROWS);
    let known: Vec<(String, String)> = shown
        .filter_map(|row| Some((said(row), dearest(row)?)))
        .collect();
    let mut judgements = Vec::new();
    for (row, (prompt, reference)) in known.iter().enumerate() {
        let others = known.iter().cycle().skip(row + 1).take(known.len());
        let other = others
            .map(|(_, other)| other)
            .find(|other| *other != reference);
        let pairs = [(Some(reference), true), (other, false)];
        for (answer, is_right) in pairs {
            let Some(answer) = answer else { continue };
            let question = Question {
                prompt,
                reference,
                answer,
            };
            let sure = judge.sure(&[question])?.first().copied().flatten();
            judgements.push(Judgement {
                row,
                tier: 0,
                sure: f64::from(sure.unwrap_or(0.0)),
                is_right: Some(is_right),
            });
        }
    }
    Ok(judgements)
}

/// The threshold at which right and wrong are best told apart; of those that are as good the one in
/// the middle, which chance moves least.
fn threshold(judgements: &[&Judgement]) -> f64 {
    let steps = (1..SURE_STEPS).map(|step| f64::from(step) / f64::from(SURE_STEPS));
    let skills: Vec<(f64, f64)> = steps
        .map(|threshold| (OnLabels::of(judgements, threshold).skill(), threshold))
        .collect();
    let best = skills
        .iter()
        .map(|(skill, _)| *skill)
        .fold(f64::MIN, f64::max);
    let as_good: Vec<f64> = skills
        .iter()
        .filter(|(skill, _)| *skill >= best)
        .map(|(_, threshold)| *threshold)
        .collect();
    as_good.get(as_good.len() / 2).copied().unwrap_or(SURE)
}

fn check(name: &str, measured: &OnLabels) -> Result<(), BackendError> {
    let Some((share, [low, high])) = measured.false_right_share() else {
        return Ok(());
    };
    if share <= JUDGE_FALSE_RIGHT_MAX {
        return Ok(());
    }
    Err(BackendError::Cascade(format!(
        "the judge {name} takes {} of {} wrong answers for right ({:.1} %, 95 %: {:.1} to {:.1}), \
         and no more than {:.0} % are allowed: give labels, or a judge that knows better",
        measured.false_right,
        measured.wrong,
        share * 100.0,
        low * 100.0,
        high * 100.0,
        JUDGE_FALSE_RIGHT_MAX * 100.0
    )))
}

/// What was said to the tiers, as a judge reads it.
fn said(row: &Row) -> String {
    let messages = labelled::messages(&row.prompt).unwrap_or_default();
    let texts: Vec<String> = messages.into_iter().map(|said| said.content).collect();
    texts.join("\n")
}

/// A chat model as the judge.
pub struct ModelJudge(YesNoModel);

impl ModelJudge {
    /// Loads one.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub fn load(name: &str, path: &Path) -> Result<ModelJudge, BackendError> {
        YesNoModel::load(name, path).map(ModelJudge)
    }
}

impl Judge for ModelJudge {
    fn sure(&mut self, questions: &[Question<'_>]) -> Result<Vec<Option<f32>>, BackendError> {
        let pending: Vec<_> = questions
            .iter()
            .map(|question| self.0.ask(words(question)))
            .collect();
        let waited = pending.into_iter().map(|asked| asked?.wait());
        waited
            .collect::<Result<_, _>>()
            .map_err(|error| BackendError::Cascade(format!("the judge: {}", error.message)))
    }
}

/// What a model is asked; the answer is its first word.
fn words(question: &Question<'_>) -> String {
    format!(
        "You mark answers. The key is always right. Reply Yes if the student's answer means the same \
         as the key, and No if it says something else.\n\n\
         Question: {}\nKey: {}\nStudent: {}\n\n\
         Does the student's answer mean the same as the key? Reply Yes or No.",
        question.prompt.trim(),
        question.reference,
        question.answer
    )
}
