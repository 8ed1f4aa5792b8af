//! Large bodies and the worst ones: one request at a time, with the filter and without. What the
//! filter adds to one is all that it does in all callbacks of that request, so it bounds the worst
//! of them from above.

use super::bodies;
use super::lab::{HEADERS, Lab, PATH, ROUNDS};
use crate::bench::load::{Load, Request};
use crate::bench::report::{Metric, median};
use crate::demo::quantile;
use crate::error::XtaskError;

const LARGE_BYTES: usize = 256 << 10;
const LARGE_REQUESTS: u64 = 30;
/// Each worst body in each round.
const WORST_REQUESTS: u64 = 2;
const MS: f64 = 1_000.0;

/// The medians over the rounds: what the filter adds, and what Envoy takes without it.
struct Added {
    added_us: f64,
    envoy_us: f64,
}

/// Measures the large chat, then each kind of the worst bodies.
pub fn run(lab: &mut Lab) -> Result<Vec<Metric>, XtaskError> {
    let large = added(
        lab,
        &bodies::chat(LARGE_BYTES),
        Load::one_by_one(LARGE_REQUESTS),
    )?;
    let mut metrics = vec![
        Metric::new("edge", "added_p50_256k_us", "us")
            .beside(large.added_us, "envoy", large.envoy_us)
            .at_most(1_000.0),
    ];
    let mut worst: Option<(&str, Added)> = None;
    for (kind, body) in bodies::adversarial() {
        let load = Load::one_by_one(WORST_REQUESTS).accept_any();
        let failed = |error| XtaskError::Unexpected(format!("{kind}: {error}"));
        let found = added(lab, &body, load).map_err(failed)?;
        metrics.push(
            Metric::new("edge", format!("added_1m/{kind}"), "ms").beside(
                found.added_us / MS,
                "envoy",
                found.envoy_us / MS,
            ),
        );
        if worst
            .as_ref()
            .is_none_or(|(_, worst)| found.added_us > worst.added_us)
        {
            worst = Some((kind, found));
        }
    }
    if let Some((kind, worst)) = worst {
        metrics.push(
            Metric::new("edge", "worst_body_1m_ms", "ms")
                .beside(worst.added_us / MS, "envoy", worst.envoy_us / MS)
                .at_most(20.0)
                .note(kind),
        );
    }
    Ok(metrics)
}

fn added(lab: &mut Lab, body: &[u8], load: Load) -> Result<Added, XtaskError> {
    let request = Request::unique(PATH, &HEADERS, body);
    let arms = [lab.envoy(request.clone()), lab.misses(request)];
    let p50s = lab.rounds(ROUNDS, &arms, |lab, arm| {
        let outcome = lab.measure(arm, load)?;
        Ok(quantile(&outcome.latencies_us, 0.50))
    })?;
    let each = p50s[1]
        .iter()
        .zip(&p50s[0])
        .map(|(ours, envoy)| ours - envoy);
    Ok(Added {
        added_us: median(&each.collect::<Vec<f64>>()),
        envoy_us: median(&p50s[0]),
    })
}
