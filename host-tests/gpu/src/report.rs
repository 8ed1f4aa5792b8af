//! Timings beside what the card can do: a table, and JSON Lines in the shape of every benchmark
//! here.

use crate::RunError;
use crate::limits::Limits;
use crate::origin::Origin;
use farthing_gpu_tests::bench::{Bound, Timing};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The limits, as peers are named.
pub const COPY: &str = "copy";
pub const MATMUL: &str = "cuBLASLt bf16 8192x8192x8192";
pub const SAME: &str = "cuBLASLt bf16, same shape";
/// The operation that the limits themselves are written down as.
const LIMIT: &str = "limit";

/// One figure beside the limit that bounds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    pub bench: String,
    pub metric: String,
    pub value: f64,
    pub unit: String,
    pub peer: String,
    pub peer_value: f64,
    pub ratio: f64,
    pub target: Option<f64>,
    pub met: Option<bool>,
    pub operation: String,
    pub shape: String,
    pub rows: usize,
    pub time_us: f64,
    /// Of cuBLASLt at the same shape, where it was timed.
    pub peer_us: Option<f64>,
}

/// What a run has measured.
pub struct Report {
    limits: Limits,
    metrics: Vec<Metric>,
}

impl Report {
    pub fn new(limits: Limits) -> Report {
        let mut metrics = vec![limit(COPY, limits.copy_gb_s, "GB/s")];
        metrics.extend(
            limits
                .matmul_tflop_s
                .map(|rate| limit(MATMUL, rate, "TFLOP/s")),
        );
        Report { limits, metrics }
    }

    pub fn add(&mut self, timings: &[Timing]) {
        let limits = self.limits;
        let metrics = timings.iter().map(|timing| metric(timing, limits));
        self.metrics.extend(metrics);
    }

    /// A line for each timing.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:<28} {:<34} {:>6} {:>10} {:>8} {:<7} {:>6} {:>6} {:>10} met",
            "operation", "shape", "rows", "us", "rate", "unit", "share", "target", "cuBLASLt"
        );
        for metric in self.metrics.iter().filter(|m| m.operation != LIMIT) {
            let target = metric
                .target
                .map_or("-".to_string(), |target| format!("{target:.2}"));
            let peer = metric
                .peer_us
                .map_or("-".to_string(), |peer_us| format!("{peer_us:.2}"));
            let _ = writeln!(
                text,
                "{:<28} {:<34} {:>6} {:>10.2} {:>8.1} {:<7} {:>6.2} {target:>6} {peer:>10} {}",
                metric.operation,
                metric.shape,
                metric.rows,
                metric.time_us,
                metric.value,
                metric.unit,
                metric.ratio,
                met(metric.met),
            );
        }
        text
    }

    /// The limits, and a line for each operation.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for metric in self.metrics.iter().filter(|m| m.operation == LIMIT) {
            let _ = writeln!(
                text,
                "{}: {:.0} {}",
                metric.metric, metric.value, metric.unit
            );
        }
        let mut operations: Vec<&str> = Vec::new();
        for metric in &self.metrics {
            if metric.operation != LIMIT && !operations.contains(&metric.operation.as_str()) {
                operations.push(&metric.operation);
            }
        }
        for operation in operations {
            let of = || self.metrics.iter().filter(|m| m.operation == operation);
            let shares = || of().map(|metric| metric.ratio);
            let _ = writeln!(
                text,
                "{operation:<28} {:>4} timings, share {:.2} to {:.2}, {} of {} targets met",
                of().count(),
                shares().fold(f64::INFINITY, f64::min),
                shares().fold(0.0, f64::max),
                of().filter(|metric| metric.met == Some(true)).count(),
                of().filter(|metric| metric.met.is_some()).count(),
            );
        }
        text
    }

    /// The origin, then a line for each figure.
    pub fn write(&self, path: &Path, origin: &Origin) -> Result<(), RunError> {
        #[derive(Serialize)]
        struct First<'a> {
            bench: &'static str,
            #[serde(flatten)]
            origin: &'a Origin,
        }
        let first = First {
            bench: "cuda",
            origin,
        };
        let failed = |source| RunError::File {
            action: "write",
            path: path.display().to_string(),
            source,
        };
        let line = |value: serde_json::Result<String>| value.map_err(std::io::Error::from);
        let mut text = line(serde_json::to_string(&first)).map_err(failed)? + "\n";
        for metric in &self.metrics {
            text += &line(serde_json::to_string(metric)).map_err(failed)?;
            text.push('\n');
        }
        fs::write(path, text).map_err(failed)
    }
}

fn limit(name: &str, value: f64, unit: &str) -> Metric {
    Metric {
        bench: "cuda".to_string(),
        metric: name.to_string(),
        value,
        unit: unit.to_string(),
        peer: String::new(),
        peer_value: 0.0,
        ratio: 0.0,
        target: None,
        met: None,
        operation: LIMIT.to_string(),
        shape: String::new(),
        rows: 0,
        time_us: 0.0,
        peer_us: None,
    }
}

/// A timing as a rate, beside that of what bounds it. A limit that could not be measured is not
/// reached.
fn metric(timing: &Timing, limits: Limits) -> Metric {
    let (value, unit, peer, peer_value) = match timing.bound {
        Bound::Memory => {
            let rate = timing.bytes / timing.time_us / 1e3;
            (rate, "GB/s", COPY, limits.copy_gb_s)
        }
        Bound::Arithmetic => {
            let rate = timing.operations / timing.time_us / 1e6;
            match timing.peer_us {
                Some(peer_us) => (rate, "TFLOP/s", SAME, timing.operations / peer_us / 1e6),
                None => (
                    rate,
                    "TFLOP/s",
                    MATMUL,
                    limits.matmul_tflop_s.unwrap_or(0.0),
                ),
            }
        }
    };
    let ratio = if peer_value > 0.0 {
        value / peer_value
    } else {
        0.0
    };
    Metric {
        bench: "cuda".to_string(),
        metric: format!(
            "{}, {}, {} rows",
            timing.operation, timing.shape, timing.rows
        ),
        value,
        unit: unit.to_string(),
        peer: peer.to_string(),
        peer_value,
        ratio,
        target: timing.target,
        met: timing.target.map(|target| ratio >= target),
        operation: timing.operation.to_string(),
        shape: timing.shape.clone(),
        rows: timing.rows,
        time_us: timing.time_us,
        peer_us: timing.peer_us,
    }
}

fn met(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::{Limits, Report, metric};
    use farthing_gpu_tests::bench::{Bound, Timing};

    fn timing(bound: Bound, target: Option<f64>) -> Timing {
        Timing {
            operation: "gemv",
            shape: "4096x4096 q4_0".to_string(),
            rows: 1,
            time_us: 10.0,
            bytes: 24e6,
            operations: 4e9,
            bound,
            target,
            peer_us: None,
        }
    }

    const LIMITS: Limits = Limits {
        copy_gb_s: 3_000.0,
        matmul_tflop_s: Some(800.0),
    };

    #[test]
    fn a_timing_is_held_against_what_bounds_it() {
        let memory = metric(&timing(Bound::Memory, Some(0.8)), LIMITS);
        assert_eq!((memory.value, memory.ratio), (2_400.0, 0.8));
        assert_eq!(memory.met, Some(true));
        let arithmetic = metric(&timing(Bound::Arithmetic, Some(0.6)), LIMITS);
        assert_eq!((arithmetic.value, arithmetic.ratio), (400.0, 0.5));
        assert_eq!(arithmetic.met, Some(false));
        let unknown = Limits {
            matmul_tflop_s: None,
            ..LIMITS
        };
        let unmeasured = metric(&timing(Bound::Arithmetic, Some(0.6)), unknown);
        assert_eq!((unmeasured.ratio, unmeasured.met), (0.0, Some(false)));
        assert_eq!(metric(&timing(Bound::Memory, None), LIMITS).met, None);
    }

    #[test]
    fn the_summary_has_a_line_for_each_operation() {
        let mut report = Report::new(LIMITS);
        report.add(&[
            timing(Bound::Memory, Some(0.8)),
            timing(Bound::Arithmetic, Some(0.8)),
        ]);
        let expected = "copy: 3000 GB/s\n\
            cuBLASLt bf16 8192x8192x8192: 800 TFLOP/s\n\
            gemv                            2 timings, share 0.50 to 0.80, 1 of 2 targets met\n";
        assert_eq!(report.summary(), expected);
        assert_eq!(report.table().lines().count(), 3);
    }
}
