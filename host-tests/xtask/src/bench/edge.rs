//! What the filter costs: Envoy with it, beside the same Envoy without it, and beside Envoy
//! answering by itself. The four take turns within each round, so that a noisy moment of the
//! machine meets all of them.

use super::load::{self, Bodies, Target};
use super::report::{Metric, median};
use super::upstream;
use crate::demo::quantile;
use crate::error::XtaskError;
use crate::signals::Interrupt;
use farthing_host_tests::envoy::{Envoy, EnvoyConfig, EnvoyOptions};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

const ROUNDS: usize = 9;
/// A chat with a system prompt and some history.
const BODY_BYTES: usize = 4_096;
/// Requests one after the other for the latencies of one turn: its p99 has six above it.
const LATENCY_REQUESTS: usize = 600;
/// Connections at once for the throughput of one turn; one worker is busy with fewer.
const CONNECTIONS: usize = 8;
const THROUGHPUT_TIME: Duration = Duration::from_millis(800);
/// One worker, and so one VM: throughput is then a figure of one core.
const WORKERS: u32 = 1;

/// One of the four that are compared.
struct Arm {
    name: &'static str,
    target: Target,
    /// `x-farthing-source` of its answers.
    source: Option<&'static str>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    per_s: Vec<f64>,
}

/// Measures the four arms.
pub fn run(interrupt: &Interrupt) -> Result<Vec<Metric>, XtaskError> {
    let upstream = upstream::start().map_err(XtaskError::io("cannot start the upstream"))?;
    let options = EnvoyOptions::new(WORKERS);
    let filtered = Envoy::start(&with_filter(upstream)?, &options)?;
    let plain = Envoy::start(&without_filter(upstream)?, &options)?;
    let direct = Envoy::start(&direct_response()?, &options)?;
    let serial = Arc::new(AtomicU64::new(0));
    let arm = |name, envoy: &Envoy, bodies, source| Arm {
        name,
        target: Target {
            address: envoy.address(),
            bodies,
            body_bytes: BODY_BYTES,
            serial: Arc::clone(&serial),
        },
        source,
        p50_us: Vec::new(),
        p99_us: Vec::new(),
        per_s: Vec::new(),
    };
    let mut arms = [
        arm("envoy", &plain, Bodies::Unique, None),
        arm("filter, misses", &filtered, Bodies::Unique, Some("model")),
        arm(
            "filter, hits",
            &filtered,
            Bodies::Repeated,
            Some("edge-cache"),
        ),
        arm("direct response", &direct, Bodies::Unique, None),
    ];
    for arm in &mut arms {
        arm.check()?;
    }
    for round in 0..ROUNDS {
        for turn in 0..arms.len() {
            // Each round starts with another arm: none is always first after a pause.
            let place = (round + turn) % arms.len();
            arms[place].measure(interrupt)?;
        }
        eprintln!("bench: round {} of {ROUNDS}", round + 1);
    }
    Ok(metrics(&arms))
}

impl Arm {
    /// Whether the arm does what it is measured for. The first answer to a repeated body is a
    /// miss, which fills the cache.
    fn check(&self) -> Result<(), XtaskError> {
        let failed = || XtaskError::io(format!("{}: first request", self.name));
        self.target.request_once().map_err(failed())?;
        let response = self.target.request_once().map_err(failed())?;
        let source = response.header("x-farthing-source");
        if response.status == 200 && source == self.source {
            return Ok(());
        }
        Err(XtaskError::Unexpected(format!(
            "{}: status {}, source {source:?}, expected {:?}: {}",
            self.name,
            response.status,
            self.source,
            response.text()
        )))
    }

    fn measure(&mut self, interrupt: &Interrupt) -> Result<(), XtaskError> {
        let latencies = load::latencies_us(&self.target, LATENCY_REQUESTS, interrupt)?;
        self.p50_us.push(quantile(&latencies, 0.50));
        self.p99_us.push(quantile(&latencies, 0.99));
        let per_s = load::requests_per_s(&self.target, CONNECTIONS, THROUGHPUT_TIME, interrupt)?;
        self.per_s.push(per_s);
        Ok(())
    }
}

fn metrics([envoy, misses, hits, direct]: &[Arm; 4]) -> Vec<Metric> {
    let metric = |name: &str, unit| Metric::new("edge", name, unit);
    let added = |ours: &[f64], peers: &[f64]| {
        let differences: Vec<f64> = ours.iter().zip(peers).map(|(a, b)| a - b).collect();
        median(&differences)
    };
    let of = |values: &Vec<f64>| median(values);
    vec![
        metric("added_p50_us", "us").beside(
            added(&misses.p50_us, &envoy.p50_us),
            "envoy",
            of(&envoy.p50_us),
        ),
        metric("added_p99_us", "us").beside(
            added(&misses.p99_us, &envoy.p99_us),
            "envoy",
            of(&envoy.p99_us),
        ),
        metric("miss_p50_us", "us").beside(of(&misses.p50_us), "envoy", of(&envoy.p50_us)),
        metric("miss_p99_us", "us").beside(of(&misses.p99_us), "envoy", of(&envoy.p99_us)),
        metric("hit_p50_us", "us").beside(of(&hits.p50_us), "direct_response", of(&direct.p50_us)),
        metric("hit_p99_us", "us").beside(of(&hits.p99_us), "direct_response", of(&direct.p99_us)),
        metric("miss_requests_per_s", "1/s").beside(of(&misses.per_s), "envoy", of(&envoy.per_s)),
        metric("hit_requests_per_s", "1/s").beside(
            of(&hits.per_s),
            "direct_response",
            of(&direct.per_s),
        ),
        metric("hit_requests_per_s_beside_envoy", "1/s").beside(
            of(&hits.per_s),
            "envoy",
            of(&envoy.per_s),
        ),
    ]
}

/// The shipped configuration; only the budget is out of the way.
fn with_filter(upstream: SocketAddr) -> Result<EnvoyConfig, XtaskError> {
    let mut config = EnvoyConfig::shipped("demo.yaml")?;
    config.set_upstream("backend", upstream)?;
    config.set_plugin_field(
        "budget",
        yaml(json!({"window_s": 3_600, "usd": 1_000_000}))?,
    )?;
    Ok(config)
}

/// The same without the filter, and so without the header that names the cluster.
fn without_filter(upstream: SocketAddr) -> Result<EnvoyConfig, XtaskError> {
    let mut config = with_filter(upstream)?;
    config.remove_filter()?;
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "0s"}});
    set_route(&mut config, route)?;
    Ok(config)
}

/// The same without the filter and without an upstream. Envoy answers by itself at the headers and
/// closes the connection, for the body is still to come; buffering the body first keeps it open.
fn direct_response() -> Result<EnvoyConfig, XtaskError> {
    let mut config = EnvoyConfig::shipped("demo.yaml")?;
    config.remove_filter()?;
    let body = json!({"inline_string": "{\"object\":\"chat.completion\"}"});
    let route = json!({"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": body}});
    set_route(&mut config, route)?;
    let buffer = json!({
        "name": "envoy.filters.http.buffer",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
            "max_request_bytes": 1_048_576,
        },
    });
    let filters = config.http_connection_manager()?.get_mut("http_filters");
    let filters = filters.and_then(|filters| filters.as_sequence_mut());
    let filters =
        filters.ok_or_else(|| XtaskError::Unexpected("demo.yaml has no filters".to_string()))?;
    filters.insert(0, yaml(buffer)?);
    Ok(config)
}

fn set_route(config: &mut EnvoyConfig, route: serde_json::Value) -> Result<(), XtaskError> {
    let manager = config.http_connection_manager()?;
    let routes = manager
        .get_mut("route_config")
        .and_then(|routes| routes.get_mut("virtual_hosts"))
        .and_then(|hosts| hosts.get_mut(0))
        .and_then(|host| host.get_mut("routes"))
        .and_then(|routes| routes.get_mut(0))
        .ok_or_else(|| XtaskError::Unexpected("demo.yaml has no route".to_string()))?;
    *routes = yaml(route)?;
    Ok(())
}

fn yaml(json: serde_json::Value) -> Result<serde_yaml_ng::Value, XtaskError> {
    serde_yaml_ng::to_value(json)
        .map_err(|error| XtaskError::Unexpected(format!("benchmark configuration: {error}")))
}
