//! What was measured, in words for people, as JSON lines and as a picture.

use std::io::{self, Write};
use std::path::Path;

use farthing_core::limits::JUDGE_LABELLED_ROWS_MIN;
use serde_json::json;

use super::calibration::CascadeCalibration;
use super::choose::Chosen;
use super::eval::Measurement;
use super::judge::Judged;
use super::plan::Plan;
use crate::error::BackendError;
use crate::picture::{self, Curve, Picture};
use crate::semantic::interval;

pub(super) fn table(out: &mut impl Write, of: &Measurement) -> io::Result<()> {
    writeln!(
        out,
        "{} rows to learn from, {} to measure on",
        of.learned_rows, of.rows
    )?;
    writeln!(out, "{:32}{:>10}   {:18}{:>8}", "", "right", "95 %", "cost")?;
    let mut line = |name: &str, summary: &super::eval::Summary| {
        let [low, high] = interval::ci95(summary.right, summary.rows);
        writeln!(
            out,
            "{name:32}{:>8.1} %   {:18}{:>6.1} %",
            summary.accuracy() * 100.0,
            format!("{:.1} to {:.1}", low * 100.0, high * 100.0),
            summary.cost_share * 100.0
        )
    };
    line("cascade", &of.cascade)?;
    for (model, alone) in of.models.iter().zip(&of.alone) {
        line(model, alone)?;
    }
    if let Some(toss) = toss(of) {
        let percent = toss * 100.0;
        writeln!(out, "{:32}{percent:>8.1} %", "a toss of the same cost")?;
    }
    writeln!(out, "{}", plan_words(&of.chosen.plan, &of.models))?;
    writeln!(out, "ECE {:.3}", of.ece)?;
    judge_words(out, of.judge.as_ref())?;
    if let Some(share) = of.frugal_cost_share {
        let percent = share * 100.0;
        writeln!(
            out,
            "as often right as the dearest at {percent:.1} % (FrugalGPT's measure)"
        )?;
    }
    match of.ibc_lift {
        Some(lift) => writeln!(out, "IBC lift {:+.1} % (AutoMix's measure)", lift * 100.0),
        None => writeln!(out, "no IBC lift: nothing is between the tiers"),
    }
}

/// What a toss between the cheapest and the dearest tier gets right at the cascade's cost.
fn toss(of: &Measurement) -> Option<f64> {
    let (small, dearest) = (of.alone.first()?, of.alone.last()?);
    let share = (of.cascade.cost_share - small.cost_share)
        / (dearest.cost_share - small.cost_share).max(f64::MIN_POSITIVE);
    let share = share.clamp(0.0, 1.0);
    Some(small.accuracy() + share * (dearest.accuracy() - small.accuracy()))
}

fn plan_words(plan: &Plan, models: &[String]) -> String {
    let names = plan.tiers.iter().filter_map(|tier| models.get(*tier));
    let names: Vec<&str> = names.map(String::as_str).collect();
    let mut words = format!("asked: {}", names.join(", then "));
    if plan.tiers.len() > 1 && plan.skip_above < 1.0 {
        words += &format!("; skipped above {:.2}", plan.skip_above);
    }
    if let Some(margin) = plan.abort_margin {
        words += &format!("; given up early from {margin:.2}");
    }
    words
}

pub(super) fn json(out: &mut impl Write, of: &Measurement) -> io::Result<()> {
    let dearest = of.alone.last();
    let (accuracy, right) = (of.cascade.accuracy(), of.cascade.right);
    let always = dearest.map(|dearest| dearest.accuracy());
    let lines = [
        json!({"metric": "accuracy", "value": accuracy,
            "ci95": interval::ci95(right, of.cascade.rows), "hits": right, "sample": of.rows,
            "baseline": "always-large", "baseline_value": always}),
        json!({"metric": "cost_share", "value": of.cascade.cost_share,
            "baseline": "always-large", "baseline_value": 1.0}),
        json!({"metric": "ece", "value": of.ece, "sample": of.rows}),
        json!({"metric": "accuracy_of_a_toss", "value": toss(of)}),
        json!({"metric": "frugal_cost_share", "value": of.frugal_cost_share}),
        json!({"metric": "ibc_lift", "value": of.ibc_lift}),
        json!({"metric": "loss_max", "value": of.chosen.loss_max}),
        json!({"metric": "judge", "value": of.judge.as_ref().map(|judge| &judge.model),
            "measured": of.judge}),
    ];
    let asked: Vec<&String> = (of.chosen.plan.tiers.iter())
        .filter_map(|tier| of.models.get(*tier))
        .collect();
    for mut line in lines {
        if let Some(fields) = line.as_object_mut() {
            fields.insert("eval".to_owned(), json!("cascade"));
            fields.insert("asked".to_owned(), json!(asked));
        }
        writeln!(out, "{line}")?;
    }
    for (model, alone) in of.models.iter().zip(&of.alone) {
        let line = json!({"eval": "cascade", "metric": "accuracy_alone", "model": model,
            "value": alone.accuracy(), "cost_share": alone.cost_share});
        writeln!(out, "{line}")?;
    }
    Ok(())
}

pub(super) fn picture(path: &Path, of: &Measurement) -> Result<(), BackendError> {
    let mut points = of.curve.clone();
    points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let alone: Vec<(f64, f64)> = (of.alone.iter())
        .map(|alone| (alone.cost_share, alone.accuracy()))
        .collect();
    let toss = alone.first().into_iter().chain(alone.last()).copied();
    let picture = Picture {
        title: "Cost against quality of a cascade",
        x: "cost, in answers of the dearest tier",
        y: "right answers",
        curves: vec![
            Curve {
                name: "cascade",
                points,
            },
            Curve {
                name: "a toss between cheapest and dearest",
                points: toss.collect(),
            },
        ],
        marks: vec![("chosen", (of.cascade.cost_share, of.cascade.accuracy()))],
    };
    picture::write(path, &picture)
}

pub(super) fn calibration(
    out: &mut impl Write,
    calibration: &CascadeCalibration,
    chosen: &Chosen,
) -> io::Result<()> {
    let models: Vec<String> = calibration
        .tiers
        .iter()
        .map(|tier| tier.model.clone())
        .collect();
    writeln!(out, "{} rows", calibration.measured.rows)?;
    for (model, accuracy) in models.iter().zip(&calibration.measured.accuracy) {
        writeln!(out, "  {model:40}{:>6.1} % right", accuracy * 100.0)?;
    }
    writeln!(out, "ECE {:.3}", calibration.measured.ece)?;
    judge_words(out, calibration.measured.judge.as_ref())?;
    writeln!(out, "{}", plan_words(&chosen.plan, &models))?;
    writeln!(
        out,
        "{:.1} % right at {:.1} % of the dearest tier's cost, which is right in {:.1} %; with 95 % \
         confidence it loses no more than {:.1} %",
        chosen.accuracy * 100.0,
        chosen.cost_share * 100.0,
        chosen.accuracy_dearest * 100.0,
        chosen.loss_max * 100.0
    )
}

/// Who said what is right, and how far that can be believed.
fn judge_words(out: &mut impl Write, judged: Option<&Judged>) -> io::Result<()> {
    let Some(judged) = judged else {
        return Ok(());
    };
    let (model, rows) = (&judged.model, judged.rows);
    let Some(of) = &judged.on_labels else {
        return writeln!(
            out,
            "{rows} rows judged by {model}, which was not measured ({JUDGE_LABELLED_ROWS_MIN} rows \
             with a label are needed): every risk here is relative to that judge, and to the \
             dearest tier, whose answers are taken as right"
        );
    };
    let percent = |part: u64, of: u64| part as f64 / of.max(1) as f64 * 100.0;
    write!(
        out,
        "{rows} rows judged by {model}, measured on half of {} with a label: agrees on {:.1} % of {} \
         answers, ",
        of.rows,
        percent(of.agreed, of.answers),
        of.answers
    )?;
    match of.false_right_share() {
        Some((share, [low, high])) => write!(
            out,
            "takes {} of {} wrong ones for right ({:.1} %, 95 %: {:.1} to {:.1})",
            of.false_right,
            of.wrong,
            share * 100.0,
            low * 100.0,
            high * 100.0
        )?,
        None => write!(out, "none of which is wrong")?,
    }
    writeln!(
        out,
        "; the dearest tier, whose answers it takes as right, is in {:.1} %",
        percent(of.reference_right, of.rows)
    )
}

pub(super) fn calibration_json(
    out: &mut impl Write,
    calibration: &CascadeCalibration,
    chosen: &Chosen,
) -> io::Result<()> {
    let models: Vec<&str> = calibration
        .tiers
        .iter()
        .map(|tier| tier.model.as_str())
        .collect();
    let asked: Vec<&str> = (chosen.plan.tiers.iter())
        .filter_map(|tier| models.get(*tier).copied())
        .collect();
    let line = json!({"calibration": "cascade", "models": models,
        "measured": calibration.measured, "asked": asked, "cost_share": chosen.cost_share,
        "accuracy": chosen.accuracy, "accuracy_dearest": chosen.accuracy_dearest,
        "loss_max": chosen.loss_max});
    writeln!(out, "{line}")
}

pub(super) fn cannot_print(error: io::Error) -> BackendError {
    BackendError::Cascade(format!("cannot print: {error}"))
}
