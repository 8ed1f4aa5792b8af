//! A benchmark's table and its JSON Lines.

use crate::error::XtaskError;
use crate::machine::Machine;
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// What is good enough.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    ValueAtMost,
    ValueAtLeast,
    RatioAtLeast,
    RatioAtMost,
}

/// One figure beside its peer's, both medians over the rounds of one run.
#[derive(Serialize)]
pub struct Metric {
    pub bench: &'static str,
    pub metric: String,
    pub value: f64,
    pub unit: &'static str,
    pub peer: &'static str,
    pub peer_value: f64,
    pub ratio: f64,
    /// What the value or the ratio is held against, where there is such a thing.
    pub target: Option<f64>,
    pub goal: Option<Goal>,
    pub met: Option<bool>,
    /// What a reader must know about this figure, such as why there is none.
    pub note: Option<String>,
}

impl Metric {
    /// A figure without a target.
    pub fn new(bench: &'static str, metric: impl Into<String>, unit: &'static str) -> Metric {
        Metric {
            bench,
            metric: metric.into(),
            value: 0.0,
            unit,
            peer: "",
            peer_value: 0.0,
            ratio: 0.0,
            target: None,
            goal: None,
            met: None,
            note: None,
        }
    }

    /// A figure that has no peer.
    pub fn alone(mut self, value: f64) -> Metric {
        self.value = value;
        self
    }

    /// The figure and its peer's; their ratio is `value / peer_value`.
    pub fn beside(mut self, value: f64, peer: &'static str, peer_value: f64) -> Metric {
        self.value = value;
        self.peer = peer;
        self.peer_value = peer_value;
        self.ratio = if peer_value == 0.0 {
            0.0
        } else {
            value / peer_value
        };
        self
    }

    /// The ratio, where it is better known than from two medians: as the median of the rounds'.
    pub fn with_ratio(mut self, ratio: f64) -> Metric {
        self.ratio = ratio;
        self
    }

    /// The least ratio that is good enough.
    pub fn ratio_at_least(mut self, target: f64) -> Metric {
        self.target = Some(target);
        self.goal = Some(Goal::RatioAtLeast);
        self.met = Some(self.ratio >= target);
        self
    }

    /// The most that the ratio may be.
    pub fn ratio_at_most(mut self, target: f64) -> Metric {
        self.target = Some(target);
        self.goal = Some(Goal::RatioAtMost);
        self.met = Some(self.ratio <= target);
        self
    }

    /// The most that the figure may be.
    pub fn at_most(mut self, target: f64) -> Metric {
        self.target = Some(target);
        self.goal = Some(Goal::ValueAtMost);
        self.met = Some(self.value <= target);
        self
    }

    /// The least that the figure may be.
    pub fn at_least(mut self, target: f64) -> Metric {
        self.target = Some(target);
        self.goal = Some(Goal::ValueAtLeast);
        self.met = Some(self.value >= target);
        self
    }

    /// A figure that could not be measured: it has missed its target, and says why.
    pub fn not_measured(mut self, target: f64, goal: Goal, reason: &str) -> Metric {
        self.target = Some(target);
        self.goal = Some(goal);
        self.met = Some(false);
        self.note(reason)
    }

    /// Adds what a reader must know.
    pub fn note(mut self, note: impl Into<String>) -> Metric {
        self.note = Some(note.into());
        self
    }

    /// Adds to what a reader must know.
    pub fn also(self, more: &str) -> Metric {
        let note = match &self.note {
            Some(note) => format!("{note}; {more}"),
            None => more.to_string(),
        };
        self.note(note)
    }

    /// The target and whether it is met, for a reader.
    fn verdict(&self) -> String {
        let (Some(target), Some(goal)) = (self.target, self.goal) else {
            return "-".to_string();
        };
        let sign = match goal {
            Goal::ValueAtMost => "<=",
            Goal::ValueAtLeast => ">=",
            Goal::RatioAtLeast => "ratio >=",
            Goal::RatioAtMost => "ratio <=",
        };
        let met = if self.met == Some(true) {
            "met"
        } else {
            "MISSED"
        };
        format!("{sign} {target} {met}")
    }
}

/// The table for a reader.
pub fn print(metrics: &[Metric]) {
    println!();
    println!(
        "{:<40} {:>10} {:<9} {:<22} {:>10} {:>7}  target",
        "metric", "value", "unit", "peer", "value", "ratio"
    );
    for metric in metrics {
        let note = metric.note.as_deref().unwrap_or_default();
        println!(
            "{:<40} {:>10.1} {:<9} {:<22} {:>10.1} {:>7.2}  {:<16} {note}",
            metric.metric,
            metric.value,
            metric.unit,
            metric.peer,
            metric.peer_value,
            metric.ratio,
            metric.verdict(),
        );
    }
    let held: Vec<bool> = metrics.iter().filter_map(|metric| metric.met).collect();
    let met = held.iter().filter(|met| **met).count();
    println!("{met} of {} targets met", held.len());
    println!("on {}", Machine::here().line());
}

/// One JSON object a metric, with the machine in each.
pub fn write_json(path: &Path, metrics: &[Metric]) -> Result<(), XtaskError> {
    #[derive(Serialize)]
    struct Line<'a> {
        #[serde(flatten)]
        metric: &'a Metric,
        machine: &'a str,
    }
    let failed = || XtaskError::file("write", path);
    let machine = Machine::here().line();
    let mut out = BufWriter::new(File::create(path).map_err(failed())?);
    for metric in metrics {
        let line = Line {
            metric,
            machine: &machine,
        };
        let text = serde_json::to_string(&line)
            .map_err(std::io::Error::from)
            .map_err(failed())?;
        writeln!(out, "{text}").map_err(failed())?;
    }
    out.flush().map_err(failed())
}

/// The middle of the values; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[length / 2],
        length => (sorted[length / 2 - 1] + sorted[length / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Metric, median};

    #[test]
    fn a_metric_knows_its_ratio_and_whether_that_is_enough() {
        let metric = || Metric::new("b", "m", "s").beside(8.0, "peer", 2.0);
        assert_eq!((metric().ratio, metric().met), (4.0, None));
        assert_eq!(metric().ratio_at_least(4.5).met, Some(false));
        assert_eq!(metric().ratio_at_least(4.0).met, Some(true));
        assert_eq!(metric().at_most(8.0).met, Some(true));
        assert_eq!(metric().at_most(7.9).verdict(), "<= 7.9 MISSED");
        assert_eq!(metric().with_ratio(4.6).ratio_at_least(4.5).met, Some(true));
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
