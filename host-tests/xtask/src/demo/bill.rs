//! Whether the bill is what was spent: each answer's tokens at its model's price and what was spent
//! besides, and over all rows what the backend says that it has spent.

use super::report::Line;
use crate::error::XtaskError;
use farthing_core::price::{Price, ServiceTier, Tokens};
use farthing_host_tests::process::POLL;
use farthing_host_tests::{client, prometheus};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// Samples of the semantic cache are generated after the answers; the last may be under way.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// Whether one answer was billed at what it cost.
pub fn check_line(line: &Line, prices: &HashMap<String, Price>) -> Result<(), String> {
    let generated = match line.source.as_str() {
        "model" | "provider" => {
            let price = line.model.as_ref().and_then(|model| prices.get(model));
            let price = price.ok_or("it was answered by a model without a price")?;
            let tokens = Tokens {
                prompt: line.prompt_tokens,
                completion: line.completion_tokens,
                ..Tokens::default()
            };
            price.cost(ServiceTier::Standard, &tokens).0
        }
        _ => 0,
    };
    let spent = generated + line.overhead_nanousd;
    if spent == line.cost_nanousd {
        return Ok(());
    }
    Err(format!(
        "it is billed {} nano-dollars, but cost {generated} and {} besides",
        line.cost_nanousd, line.overhead_nanousd
    ))
}

/// Whether what answers carried besides their own cost is what the backend has spent, but for what
/// is owed until a tenant's next answer.
pub fn check_sums(lines: &[Line], backend: SocketAddr) -> Result<(), XtaskError> {
    let carried: u64 = lines.iter().map(|line| line.overhead_nanousd).sum();
    let end = Instant::now() + SETTLED_WITHIN;
    loop {
        let page = client::get(backend, "/metrics").map_err(XtaskError::io("the metrics"))?;
        let page = page.text();
        let amount = |name: &str| prometheus::sum(&page, name, "").unwrap_or(f64::NAN) as u64;
        let spent = amount("farthing_overhead_nanousd_total");
        let billed = amount("farthing_overhead_billed_nanousd_total");
        let owed = amount("farthing_overhead_owed_nanousd");
        let lost = amount("farthing_overhead_lost_nanousd_total");
        if billed == carried && spent == billed + owed && lost == 0 {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(XtaskError::Unexpected(format!(
                "{spent} nano-dollars were spent besides answers, {carried} are in the bill, \
                 {billed} in headers, {owed} are owed, {lost} lost"
            )));
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farthing_core::price::Rates;

    fn line(source: &str, cost_nanousd: u64, overhead_nanousd: u64) -> Line {
        Line {
            request: 1,
            tenant: "a".to_string(),
            what: String::new(),
            status: 200,
            source: source.to_string(),
            model: Some("small".to_string()),
            tried: None,
            prompt_tokens: 10,
            completion_tokens: 5,
            cost_nanousd,
            overhead_nanousd,
            as_asked_nanousd: 1_000,
            latency_ms: 1.0,
        }
    }

    #[test]
    fn a_line_costs_its_tokens_and_what_was_spent_besides() {
        let rates = Rates::plain(20_000_000, 40_000_000);
        let prices = HashMap::from([("small".to_string(), Price::flat(rates))]);
        let is_right = |line: &Line| check_line(line, &prices).is_ok();
        assert!(is_right(&line("model", 400, 0)) && is_right(&line("model", 407, 7)));
        assert!(!is_right(&line("model", 407, 0)) && !is_right(&line("model", 400, 7)));
        assert!(is_right(&line("edge-cache", 0, 0)) && is_right(&line("semantic-cache", 3, 3)));
        assert!(!is_right(&line("semantic-cache", 0, 3)));
        let unpriced = Line {
            model: None,
            ..line("model", 0, 0)
        };
        assert!(!is_right(&unpriced));
    }
}
