//! Whether Envoy's memory stays where it is while requests go through the filter.

use super::lab::{Arm, CONNECTIONS, Lab, unique_chat};
use crate::bench::load::{Load, Until};
use crate::bench::report::Metric;
use crate::error::XtaskError;
use farthing_host_tests::resources;
use std::time::Duration;

/// After these the cache's slots are taken and every buffer has been as large as it gets.
const WARM_UP_REQUESTS: u64 = 20_000;
const REQUESTS: u64 = 200_000;
/// What an allocator may keep of what it has been given back.
const GROWTH_PERCENT_MAX: f64 = 5.0;
const MIB: f64 = (1 << 20) as f64;

/// Sends requests that no one has seen to an Envoy of its own.
pub fn run(lab: &mut Lab) -> Result<Vec<Metric>, XtaskError> {
    let envoy = lab.another_filtered()?;
    let arm = Arm {
        name: "filter, memory",
        target: envoy.address(),
        request: unique_chat(),
        source: Some("model"),
        pid: envoy.pid(),
    };
    let resident_mib = |arm: &Arm| {
        let bytes = arm.pid.and_then(resources::resident_bytes);
        bytes
            .map(|bytes| bytes as f64 / MIB)
            .ok_or_else(|| XtaskError::Unexpected("Envoy's memory cannot be read".to_string()))
    };
    send(lab, &arm, WARM_UP_REQUESTS)?;
    let warm_mib = resident_mib(&arm)?;
    send(lab, &arm, REQUESTS)?;
    let end_mib = resident_mib(&arm)?;
    let growth_percent = (end_mib / warm_mib - 1.0) * 100.0;
    Ok(vec![
        Metric::new("edge", "memory_growth_percent", "%")
            .alone(growth_percent)
            .at_most(GROWTH_PERCENT_MAX)
            .note(format!(
                "{warm_mib:.1} MiB resident after {WARM_UP_REQUESTS} requests, {end_mib:.1} MiB \
                 after {REQUESTS} more"
            )),
    ])
}

fn send(lab: &mut Lab, arm: &Arm, count: u64) -> Result<(), XtaskError> {
    let mut load = Load::at_limit(CONNECTIONS, Duration::ZERO);
    load.until = Until::Requests(count);
    lab.measure(arm, load)?;
    Ok(())
}
