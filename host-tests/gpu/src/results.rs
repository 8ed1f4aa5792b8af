//! A page of tables from a file of results: for each operation a line a shape and a column for
//! each number of rows.

use crate::RunError;
use crate::origin::Origin;
use crate::report::{COPY, MATMUL, Metric, SAME};
use serde::de::DeserializeOwned;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The tables of the results in `file`.
pub fn page(file: &Path) -> Result<String, RunError> {
    let path = file.display().to_string();
    let text = fs::read_to_string(file).map_err(|source| RunError::File {
        action: "read",
        path: path.clone(),
        source,
    })?;
    let mut lines = text.lines().enumerate();
    let (_, first) = lines.next().unwrap_or((0, ""));
    let origin: Origin = parse(&path, 0, first)?;
    let metrics = lines
        .map(|(index, line)| parse(&path, index, line))
        .collect::<Result<Vec<Metric>, RunError>>()?;
    Ok(render(&origin, &metrics))
}

fn parse<T: DeserializeOwned>(path: &str, index: usize, line: &str) -> Result<T, RunError> {
    serde_json::from_str(line).map_err(|source| RunError::Json {
        path: path.to_string(),
        line: index + 1,
        source,
    })
}

fn render(origin: &Origin, metrics: &[Metric]) -> String {
    let mut text = format!("On {}.\n\n", origin.line());
    for (name, words) in [(COPY, "A large copy moves"), (MATMUL, "cuBLASLt does")] {
        if let Some(limit) = metrics.iter().find(|metric| metric.metric == name) {
            let _ = writeln!(text, "{words} {:.0} {}.", limit.value, limit.unit);
        }
    }
    text.push_str(
        "A cell is the median time and the share of that copy's bandwidth, or, with a `t`, of that \
         rate\nof dense bf16 products, or, with a `c`, of the rate of cuBLASLt at the same shape. \
         Bold is below\nits target.\n",
    );
    let timings: Vec<&Metric> = metrics.iter().filter(|metric| metric.rows > 0).collect();
    for operation in distinct(timings.iter().map(|metric| metric.operation.as_str())) {
        let of: Vec<&Metric> = timings
            .iter()
            .copied()
            .filter(|metric| metric.operation == operation)
            .collect();
        table(&mut text, operation, &of);
    }
    text
}

fn table(text: &mut String, operation: &str, metrics: &[&Metric]) {
    let mut columns = distinct(metrics.iter().map(|metric| metric.rows));
    columns.sort_unstable();
    let titles: Vec<String> = columns.iter().map(|rows| format!("{rows}")).collect();
    let _ = writeln!(
        text,
        "\n## {operation}\n\n| shape, rows | {} |\n| --- |{}",
        titles.join(" | "),
        " --- |".repeat(columns.len())
    );
    for shape in distinct(metrics.iter().map(|metric| metric.shape.as_str())) {
        let cells: Vec<String> = columns
            .iter()
            .map(|rows| {
                let found = metrics
                    .iter()
                    .find(|metric| metric.shape == shape && metric.rows == *rows);
                found.map_or("-".to_string(), |metric| cell(metric))
            })
            .collect();
        let _ = writeln!(text, "| {shape} | {} |", cells.join(" | "));
    }
}

fn cell(metric: &Metric) -> String {
    let mark = match metric.peer.as_str() {
        MATMUL => "t",
        SAME => "c",
        _ => "",
    };
    let share = format!("{:.0} %{mark}", metric.ratio * 100.0);
    let share = if metric.met == Some(false) {
        format!("**{share}**")
    } else {
        share
    };
    format!("{:.1} us, {share}", metric.time_us)
}

/// Each value once, in the order of their first.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::page;
    use crate::RunError;
    use crate::limits::Limits;
    use crate::origin::Origin;
    use crate::report::Report;
    use farthing_gpu_tests::bench::{Bound, Timing};
    use std::{env, fs, process};

    #[test]
    fn what_was_written_becomes_tables() {
        let origin = Origin {
            card: "Some card".to_string(),
            capability: "9.0".to_string(),
            multiprocessors: 132,
            cuda: "13.0".to_string(),
            driver: "580.0".to_string(),
            commit: "abc".to_string(),
            date: "2026-01-02".to_string(),
        };
        let mut report = Report::new(Limits {
            copy_gb_s: 3_000.0,
            matmul_tflop_s: Some(800.0),
        });
        let timing = |shape: &str, rows, bound| Timing {
            operation: "gemm",
            shape: shape.to_string(),
            rows,
            time_us: 10.0,
            bytes: 24e6,
            operations: 4e9,
            bound,
            target: Some(0.6),
            peer_us: None,
        };
        report.add(&[
            timing("4096x4096", 16, Bound::Memory),
            timing("4096x4096", 256, Bound::Arithmetic),
            timing("576x576", 2, Bound::Memory),
        ]);
        let file = env::temp_dir().join(format!("farthing-results-{}", process::id()));
        report.write(&file, &origin).expect("it can be written");
        let text = page(&file).expect("it was just written");
        assert!(text.contains("A large copy moves 3000 GB/s."), "{text}");
        let table = "## gemm\n\n| shape, rows | 2 | 16 | 256 |\n| --- | --- | --- | --- |\n\
            | 4096x4096 | - | 10.0 us, 80 % | 10.0 us, **50 %t** |\n\
            | 576x576 | 10.0 us, 80 % | - | - |\n";
        assert!(text.ends_with(table), "{text}");

        let written = fs::read_to_string(&file).expect("it was just written");
        fs::write(&file, written + "{}\n").expect("it can be written");
        assert!(matches!(page(&file), Err(RunError::Json { line: 7, .. })));
        fs::remove_file(&file).expect("it is ours");
    }
}
