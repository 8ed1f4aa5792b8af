//! Learning from labelled questions with which score a route begins to serve.

use std::fs;
use std::io::{self, Write};

use serde_json::json;

use super::report::cannot_print;
use super::stream::{Cache, Item, items};
use super::{embedder, rows};
use crate::cli::CalibrateCacheArgs;
use crate::error::BackendError;
use crate::semantic::bound::{CONFIDENCE, MaxWrong, Verdict};
use crate::semantic::calibration::{CacheCalibration, Measured};
use crate::semantic::interval;
use crate::semantic::score::Level;

/// `farthing calibrate cache`
pub fn calibrate_cache(args: &CalibrateCacheArgs) -> Result<(), BackendError> {
    let max_wrong = super::max_wrong(args.max_wrong)?;
    let rows = rows::answered(&args.file)?;
    let embedder = embedder(args.embedding_model.as_deref())?;
    let learned = learn(&items(&embedder, &rows)?, max_wrong);
    let (found, needed) = (
        learned.found(),
        interval::sample_for(max_wrong.share(), CONFIDENCE),
    );
    if found < needed {
        return Err(BackendError::SemanticEval(format!(
            "{}: of {} questions {found} are like one before them: {needed} are needed to prove a \
             share of {}",
            args.file.display(),
            rows.len(),
            args.max_wrong
        )));
    }
    fs::write(&args.out, learned.encode()).map_err(|source| BackendError::Io {
        what: args.out.display().to_string(),
        source,
    })?;
    let threshold = learned.threshold(max_wrong);
    let own = learned.measure(threshold);
    let build = learned.measure(Some(Level::calibrated(max_wrong)));
    let mut out = io::stdout().lock();
    let said = match args.json {
        true => {
            let of = |measured: &Measured| {
                json!({"looked_up": measured.looked_up, "served": measured.served,
                    "wrong": measured.wrong, "wrong_share_max": measured.wrong_share_max})
            };
            let line = json!({"calibrate": "cache", "questions": rows.len(), "found": found,
                "threshold": threshold.map(Level::index), "max_wrong": args.max_wrong,
                "own": of(&own), "build": of(&build)});
            writeln!(out, "{line}")
        }
        false => table(&mut out, &own, &build),
    };
    said.map_err(cannot_print)
}

/// Looks up every question and keeps it, as a cache does that begins where this build does.
fn learn(items: &[Item], max_wrong: MaxWrong) -> CacheCalibration {
    let serves = Level::calibrated(max_wrong);
    let mut cache = Cache::default();
    let mut learned = CacheCalibration::empty();
    for (at, item) in items.iter().enumerate() {
        let judged = match item.is_fit() {
            true => cache.judge(items, item),
            false => None,
        };
        let found = judged.map(|judged| (judged.level, item.verdict(judged.record.answer_id)));
        learned.count(found);
        let is_served = found.is_some_and(|(level, verdict)| {
            // A wrong answer that is noticed is put right.
            level >= serves && verdict == Verdict::Right
        });
        if item.is_fit() && !is_served {
            cache.push(at, item);
        }
    }
    learned
}

fn table(out: &mut impl Write, own: &Measured, build: &Measured) -> io::Result<()> {
    writeln!(out, "{} questions", own.looked_up)?;
    writeln!(
        out,
        "{:24}{:>10}{:>10}{:>12}",
        "", "served", "wrong", "at most"
    )?;
    for (name, measured) in [("learned from them", own), ("as this build begins", build)] {
        let share = |count: u64| 100.0 * count as f64 / measured.looked_up.max(1) as f64;
        writeln!(
            out,
            "{name:24}{:>8.1} %{:>8.2} %{:>10.2} %",
            share(measured.served),
            share(measured.wrong),
            100.0 * measured.wrong_share_max
        )?;
    }
    if own.served == 0 {
        let said = "no score is proven: a route serves nothing until its own samples prove one";
        writeln!(out, "{said}")?;
    }
    Ok(())
}
