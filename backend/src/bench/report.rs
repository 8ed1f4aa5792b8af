//! What was measured, as a table for people and as JSON lines.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::{Value, json};

use crate::cli::BenchArgs;
use crate::engine::EngineConfig;
use crate::model::ModelInfo;

/// One figure: the median of its values, with the least and the greatest.
pub(super) struct Figure {
    metric: &'static str,
    unit: &'static str,
    /// Absent for what does not depend on it.
    sequences: Option<usize>,
    /// Ascending, one at least.
    values: Vec<f64>,
}

/// All figures of one run, and what they were measured with.
pub(super) struct Report {
    title: String,
    conditions: Value,
    figures: Vec<Figure>,
}

// === impl Figure ===

impl Figure {
    /// A figure of several measurements.
    pub(super) fn of(
        metric: &'static str,
        unit: &'static str,
        sequences: usize,
        mut values: Vec<f64>,
    ) -> Figure {
        values.sort_by(f64::total_cmp);
        let sequences = Some(sequences);
        Figure {
            metric,
            unit,
            sequences,
            values,
        }
    }

    /// A figure that there is only one of.
    pub(super) fn once(metric: &'static str, unit: &'static str, value: f64) -> Figure {
        let (sequences, values) = (None, vec![value]);
        Figure {
            metric,
            unit,
            sequences,
            values,
        }
    }

    fn median(&self) -> f64 {
        let middle = self.values.len() / 2;
        let at = |index: usize| self.values.get(index).copied().unwrap_or_default();
        if self.values.len().is_multiple_of(2) {
            (at(middle.saturating_sub(1)) + at(middle)) / 2.0
        } else {
            at(middle)
        }
    }

    fn least(&self) -> f64 {
        self.values.first().copied().unwrap_or_default()
    }

    fn greatest(&self) -> f64 {
        self.values.last().copied().unwrap_or_default()
    }
}

// === impl Report ===

impl Report {
    pub(super) fn new(args: &BenchArgs, config: &EngineConfig, model: &ModelInfo) -> Report {
        let (prompt, generate) = (args.prompt_tokens, args.generate_tokens);
        let (threads, step_tokens) = (config.threads, config.step_tokens);
        Report {
            title: format!(
                "{}: {threads} threads, {prompt} prompt tokens, {generate} generated, \
                 steps of {step_tokens}, {} repetitions",
                model.id, args.repetitions
            ),
            conditions: json!({"model": model.id, "file_bytes": model.file_bytes,
                "threads": threads, "prompt_tokens": prompt, "generate_tokens": generate,
                "step_tokens": step_tokens, "repetitions": args.repetitions}),
            figures: Vec::new(),
        }
    }

    pub(super) fn extend(&mut self, figures: impl IntoIterator<Item = Figure>) {
        self.figures.extend(figures);
    }

    /// Rows of metric, sequences, median, least and greatest.
    pub(super) fn table(&self) -> String {
        let mut out = format!("{}\n", self.title);
        for figure in &self.figures {
            let sequences = figure.sequences.map(|count| count.to_string());
            // Writing to a string cannot fail.
            let _ = write!(
                out,
                "{:<22} {:>4} {:>12.1} {:<8}",
                figure.metric,
                sequences.unwrap_or_default(),
                figure.median(),
                figure.unit
            );
            if figure.values.len() > 1 {
                let _ = write!(out, " {:.1} to {:.1}", figure.least(), figure.greatest());
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        out
    }

    /// One line a figure.
    pub(super) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        for figure in &self.figures {
            let mut line = json!({"bench": "engine", "metric": figure.metric,
                "value": figure.median(), "unit": figure.unit, "min": figure.least(),
                "max": figure.greatest(), "values": figure.values.len()});
            if let (Value::Object(line), Value::Object(conditions)) = (&mut line, &self.conditions)
            {
                if let Some(sequences) = figure.sequences {
                    line.insert("sequences".to_owned(), sequences.into());
                }
                line.extend(conditions.clone());
            }
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}
