//! A benchmark's table and its JSON Lines.

use crate::error::XtaskError;
use crate::machine::Machine;
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

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
    /// What the ratio should at least be, where there is such a thing.
    pub target: Option<f64>,
    pub met: Option<bool>,
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
            met: None,
        }
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

    /// The least ratio that is good enough.
    pub fn ratio_at_least(mut self, target: f64) -> Metric {
        self.target = Some(target);
        self.met = Some(self.ratio >= target);
        self
    }
}

/// The table for a reader.
pub fn print(metrics: &[Metric]) {
    println!();
    println!(
        "{:<44} {:>10} {:<9} {:<22} {:>10} {:>7}  target",
        "metric", "value", "unit", "peer", "value", "ratio"
    );
    for metric in metrics {
        let verdict = match (metric.target, metric.met) {
            (Some(target), Some(true)) => format!(">= {target} met"),
            (Some(target), _) => format!(">= {target} MISSED"),
            (None, _) => "-".to_string(),
        };
        println!(
            "{:<44} {:>10.1} {:<9} {:<22} {:>10.1} {:>7.2}  {verdict}",
            metric.metric, metric.value, metric.unit, metric.peer, metric.peer_value, metric.ratio
        );
    }
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
        let metric = Metric::new("b", "m", "s").beside(8.0, "peer", 2.0);
        assert_eq!((metric.ratio, metric.met), (4.0, None));
        assert_eq!(metric.ratio_at_least(4.5).met, Some(false));
        let metric = Metric::new("b", "m", "s")
            .beside(8.0, "peer", 2.0)
            .ratio_at_least(4.0);
        assert_eq!(metric.met, Some(true));
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
