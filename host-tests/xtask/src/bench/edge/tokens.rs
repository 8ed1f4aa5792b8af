//! What exact counting costs in Envoy: requests whose texts were never counted, beside requests
//! whose texts are remembered, both through one filter with o200k_base inside. What the first take
//! beyond the second is the tokenizing; processor time and not latency, because that is disturbed
//! less.

use super::configs;
use super::lab::{Arm, HEADERS, Lab, PATH};
use super::texts;
use crate::bench::load::{Load, Request, SERIAL};
use crate::bench::report::{Metric, median};
use crate::embedded;
use crate::error::XtaskError;
use farthing_host_tests::envoy::{Envoy, EnvoyConfig, EnvoyOptions};
use farthing_host_tests::{paths, resources};
use serde_json::json;
use std::path::Path;

const ROUNDS: usize = 5;
/// Requests of each text before anything counts: V8 compiles what is called often once more.
const WARM_UP: u64 = 12;
/// Requests of each text in each round.
const REQUESTS: u64 = 2;
/// Workers of the Envoys whose memory is compared with that of one.
const WORKERS: u32 = 5;
const MIB: f64 = (1 << 20) as f64;
const NS_PER_MB_PER_S: f64 = 1_000.0;

/// Whether a text was counted before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    New,
    Known,
}

/// Measures ordinary texts, then every kind of bad ones, then sizes.
pub fn run(lab: &mut Lab) -> Result<Vec<Metric>, XtaskError> {
    let filter = embedded::filter(&lab.interrupt)?;
    let envoy = start(&counting(lab, &filter)?, 1)?;
    let (english, code) = (texts::english()?, texts::code()?);
    for text in english.iter().chain(&code) {
        send(lab, &envoy, text, Text::New, WARM_UP)?;
    }
    let mut metrics = Vec::new();
    let mut ordinary_ns = Vec::new();
    for (name, texts) in [("english", &english), ("code", &code)] {
        let ns = cost_ns(lab, &envoy, texts)?;
        ordinary_ns.push(ns);
        metrics.push(
            Metric::new("edge", format!("tokens_mb_per_s_{name}"), "MB/s")
                .alone(NS_PER_MB_PER_S / ns)
                .at_least(10.0)
                .note(format!("{ns:.1} ns a byte")),
        );
    }
    let mean_ns = ordinary_ns.iter().sum::<f64>() / ordinary_ns.len() as f64;
    let mut worst = ("", 0.0);
    for (kind, texts) in texts::adversarial() {
        let ns = cost_ns(lab, &envoy, &texts)?;
        metrics.push(
            Metric::new("edge", format!("tokens_ns_per_byte/{kind}"), "ns").beside(
                ns,
                "mean of both",
                mean_ns,
            ),
        );
        if ns > worst.1 {
            worst = (kind, ns);
        }
    }
    metrics.push(
        Metric::new("edge", "tokens_worst_to_mean", "")
            .alone(worst.1 / mean_ns)
            .at_most(3.0)
            .note(worst.0),
    );
    drop(envoy);
    metrics.extend(sizes(lab, &filter)?);
    Ok(metrics)
}

fn sizes(lab: &Lab, filter: &Path) -> Result<[Metric; 2], XtaskError> {
    let with = memory_mib(&counting(lab, filter)?)?;
    let without = memory_mib(&configs::with_filter(lab.rig.upstream())?)?;
    let grown = embedded::growth_bytes(filter)? as f64 / 1e6;
    Ok([
        Metric::new("edge", "tokens_mib_a_worker", "MiB")
            .alone(with - without)
            .note("resident, of each further worker; a test holds linear memory to 6 MiB"),
        Metric::new("edge", "tokens_embedded_mb", "MB")
            .alone(grown)
            .at_most(embedded::GROWTH_BYTES_MAX as f64 / 1e6)
            .note(format!(
                "{} grows by so much",
                paths::wasm().file_name().unwrap_or_default().display()
            )),
    ])
}

/// The resident memory of one more worker.
fn memory_mib(config: &EnvoyConfig) -> Result<f64, XtaskError> {
    let mut resident = [0.0; 2];
    for (bytes, workers) in resident.iter_mut().zip([1, WORKERS]) {
        let envoy = start(config, workers)?;
        let found = envoy.pid().and_then(resources::resident_bytes);
        *bytes = found.unwrap_or_default() as f64;
    }
    let [one, all] = resident;
    Ok((all - one) / f64::from(WORKERS - 1) / MIB)
}

/// What tokenizing costs, in nanoseconds for each byte of these texts: the median over the rounds.
fn cost_ns(lab: &mut Lab, envoy: &Envoy, texts: &[String]) -> Result<f64, XtaskError> {
    let bytes: usize = texts.iter().map(String::len).sum();
    let mut costs = Vec::with_capacity(ROUNDS);
    // The first round may find code that was not compiled for such texts.
    for round in 0..=ROUNDS {
        for text in texts {
            send(lab, envoy, text, Text::Known, 1)?;
        }
        let mut ns = [0.0; 2];
        for (ns, kind) in ns.iter_mut().zip([Text::New, Text::Known]) {
            let before = cpu_ns(envoy);
            for text in texts {
                send(lab, envoy, text, kind, REQUESTS)?;
            }
            *ns = cpu_ns(envoy) - before;
        }
        if round > 0 {
            costs.push((ns[0] - ns[1]) / (bytes as f64 * REQUESTS as f64));
        }
    }
    Ok(median(&costs))
}

fn cpu_ns(envoy: &Envoy) -> f64 {
    let time = envoy.pid().and_then(resources::cpu_time);
    time.unwrap_or_default().as_nanos() as f64
}

/// Sends a text so many times and sees that it is counted exactly. Each request is another, by its
/// long text or by a short one beside it.
fn send(
    lab: &mut Lab,
    envoy: &Envoy,
    text: &str,
    kind: Text,
    count: u64,
) -> Result<(), XtaskError> {
    let (long, short) = match kind {
        Text::New => (format!("{SERIAL} {text}"), "the question"),
        Text::Known => (format!("111111111111 {text}"), SERIAL),
    };
    let body = json!({"model": "auto", "temperature": 0, "max_tokens": 64, "messages": [
        {"role": "system", "content": long}, {"role": "user", "content": short}]});
    let arm = Arm {
        name: "tokens",
        target: envoy.address(),
        request: Request::unique(PATH, &HEADERS, body.to_string().as_bytes()),
        source: Some("model"),
        pid: envoy.pid(),
    };
    let outcome = lab.measure(&arm, Load::one_by_one(count).warm_up(0))?;
    let found = outcome.header("x-farthing-tokens");
    if found != Some("exact") {
        return Err(XtaskError::Unexpected(format!("counts are {found:?}")));
    }
    Ok(())
}

fn counting(lab: &Lab, filter: &Path) -> Result<EnvoyConfig, XtaskError> {
    let mut config = configs::with_filter(lab.rig.upstream())?;
    embedded::count_with(&mut config, filter)?;
    Ok(config)
}

fn start(config: &EnvoyConfig, workers: u32) -> Result<Envoy, XtaskError> {
    Ok(Envoy::start(config, &EnvoyOptions::new(workers))?)
}
