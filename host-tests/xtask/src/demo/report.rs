//! What the demo prints and writes: a line a request, and the sum.

use crate::error::XtaskError;
use crate::machine::Machine;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// What one request did.
#[derive(Clone, Serialize)]
pub struct Line {
    pub request: usize,
    pub tenant: String,
    pub what: String,
    pub status: u16,
    /// `refused` for an error.
    pub source: String,
    pub model: Option<String>,
    /// The models of a cascade that were asked before it, in vain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tried: Option<String>,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cost_nanousd: u64,
    /// Of that, what was spent besides the answer.
    pub overhead_nanousd: u64,
    /// What the request as asked would have cost without Farthing.
    pub as_asked_nanousd: u64,
    pub latency_ms: f64,
}

/// The last line of the JSON file.
#[derive(Serialize)]
struct Last<'a> {
    summary: &'a Summary,
}

/// The sum of all requests, or of one tenant's.
#[derive(Serialize)]
pub struct Summary {
    requests: usize,
    by_source: BTreeMap<String, usize>,
    prompt_tokens: u64,
    completion_tokens: u64,
    cost_nanousd: u64,
    /// Of that, what was spent besides answers: on comparing, on samples, on answers that were not
    /// good enough.
    overhead_nanousd: u64,
    as_asked_nanousd: u64,
    saved_share: f64,
    /// Of the requests that were answered: refusals are faster than any answer.
    p50_ms: f64,
    p99_ms: f64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    by_tenant: BTreeMap<String, Summary>,
}

impl Summary {
    /// Adds up, with one more sum for each tenant.
    pub fn of(lines: &[Line]) -> Summary {
        let mut tenants: BTreeMap<String, Vec<&Line>> = BTreeMap::new();
        for line in lines {
            tenants.entry(line.tenant.clone()).or_default().push(line);
        }
        let mut summary = Summary::plain(&lines.iter().collect::<Vec<_>>());
        summary.by_tenant = tenants
            .into_iter()
            .map(|(tenant, lines)| (tenant, Summary::plain(&lines)))
            .collect();
        summary
    }

    fn plain(lines: &[&Line]) -> Summary {
        let total = |field: fn(&Line) -> u64| lines.iter().map(|line| field(line)).sum::<u64>();
        let mut by_source = BTreeMap::new();
        for line in lines {
            *by_source.entry(line.source.clone()).or_insert(0) += 1;
        }
        let cost_nanousd = total(|line| line.cost_nanousd);
        let as_asked_nanousd = total(|line| line.as_asked_nanousd);
        let mut latencies: Vec<f64> = lines
            .iter()
            .filter(|line| line.status == 200)
            .map(|line| line.latency_ms)
            .collect();
        latencies.sort_by(f64::total_cmp);
        Summary {
            requests: lines.len(),
            by_source,
            prompt_tokens: total(|line| line.prompt_tokens),
            completion_tokens: total(|line| line.completion_tokens),
            cost_nanousd,
            overhead_nanousd: total(|line| line.overhead_nanousd),
            as_asked_nanousd,
            saved_share: share(
                as_asked_nanousd.saturating_sub(cost_nanousd),
                as_asked_nanousd,
            ),
            p50_ms: quantile(&latencies, 0.50),
            p99_ms: quantile(&latencies, 0.99),
            by_tenant: BTreeMap::new(),
        }
    }

    /// Prints the sum for a reader.
    pub fn print(&self, machine: &Machine) {
        println!();
        println!("where answers came from");
        for (source, count) in &self.by_source {
            let percent = 100.0 * *count as f64 / self.requests.max(1) as f64;
            println!(
                "  {source:<14} {count:>4} of {} ({percent:.0} %)",
                self.requests
            );
        }
        println!("what it cost");
        println!("  {:<13} {:>13}", "with Farthing", usd(self.cost_nanousd));
        println!("  {:<13} {:>13}", "overhead", usd(self.overhead_nanousd));
        println!("  {:<13} {:>13}", "as asked", usd(self.as_asked_nanousd));
        println!("  {:<13} {:>11.1} %", "saved", 100.0 * self.saved_share);
        println!(
            "  {:<13} {:>13} in, {} out",
            "tokens", self.prompt_tokens, self.completion_tokens
        );
        println!("how long answers took");
        println!("  p50 {:.1} ms, p99 {:.1} ms", self.p50_ms, self.p99_ms);
        println!("by tenant");
        for (tenant, sum) in &self.by_tenant {
            println!(
                "  {tenant:<12} {:>3} requests, {} instead of {}, {:.1} % saved",
                sum.requests,
                usd(sum.cost_nanousd),
                usd(sum.as_asked_nanousd),
                100.0 * sum.saved_share
            );
        }
        println!("on {}", machine.line());
    }
}

impl Line {
    /// The headings of [`Line::print`].
    pub fn print_headings() {
        println!(
            "{:>3}  {:<10} {:<38} {:>4}  {:<14} {:<28} {:>8}  {:>13} {:>13} {:>9}",
            "no", "tenant", "what", "code", "source", "model", "tokens", "cost", "saved", "ms"
        );
    }

    /// One line for a reader.
    pub fn print(&self) {
        let tokens = format!("{}+{}", self.prompt_tokens, self.completion_tokens);
        println!(
            "{:>3}  {:<10} {:<38} {:>4}  {:<14} {:<28} {tokens:>8}  {:>13} {:>13} {:>9.1}",
            self.request,
            self.tenant,
            self.what,
            self.status,
            self.source,
            self.model.as_deref().unwrap_or("-"),
            usd(self.cost_nanousd),
            usd(self.as_asked_nanousd.saturating_sub(self.cost_nanousd)),
            self.latency_ms,
        );
    }
}

/// Writes every line and the sum as JSON Lines.
pub fn write_json(path: &Path, lines: &[Line], summary: &Summary) -> Result<(), XtaskError> {
    let failed = || XtaskError::file("write", path);
    let mut out = BufWriter::new(File::create(path).map_err(failed())?);
    for line in lines {
        write_line(&mut out, line).map_err(failed())?;
    }
    write_line(&mut out, &Last { summary }).map_err(failed())?;
    out.flush().map_err(failed())
}

fn write_line(out: &mut impl Write, value: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn usd(nanousd: u64) -> String {
    format!(
        "${}.{:09}",
        nanousd / 1_000_000_000,
        nanousd % 1_000_000_000
    )
}

fn share(part: u64, of: u64) -> f64 {
    if of == 0 {
        0.0
    } else {
        part as f64 / of as f64
    }
}

/// The nearest-rank quantile of sorted values; 0 of none.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::{Line, Summary, quantile};

    fn line(tenant: &str, source: &str, cost_nanousd: u64, as_asked_nanousd: u64) -> Line {
        Line {
            request: 1,
            tenant: tenant.to_string(),
            what: String::new(),
            status: 200,
            source: source.to_string(),
            model: None,
            tried: None,
            overhead_nanousd: 0,
            prompt_tokens: 2,
            completion_tokens: 3,
            cost_nanousd,
            as_asked_nanousd,
            latency_ms: 1.0,
        }
    }

    #[test]
    fn sums_by_source_and_tenant() {
        let lines = [line("a", "model", 60, 100), line("a", "edge-cache", 0, 100)];
        let summary = Summary::of(&[&lines[..], &[line("b", "model", 40, 40)]].concat());
        let json = serde_json::to_value(&summary).expect("a summary is plain data");
        assert_eq!(json["requests"], 3);
        assert_eq!(json["by_source"]["model"], 2);
        assert_eq!(json["cost_nanousd"], 100);
        assert_eq!(json["as_asked_nanousd"], 240);
        assert_eq!(json["by_tenant"]["a"]["saved_share"], 0.7);
        assert_eq!(json["by_tenant"]["b"]["saved_share"], 0.0);
    }

    #[test]
    fn quantiles_are_nearest_rank() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.50), 50.0);
        assert_eq!(quantile(&values, 0.99), 99.0);
        assert_eq!(quantile(&values[..1], 0.99), 1.0);
        assert_eq!(quantile(&[], 0.99), 0.0);
    }
}
