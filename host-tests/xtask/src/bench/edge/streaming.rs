//! What the filter adds to a streamed answer: to each event of one that comes at a steady pace, as
//! a model speaks, and to all of one that comes as fast as it can.

use super::lab::{CHAT_BYTES, HEADERS, Lab, PATH, ROUNDS};
use super::{answers, bodies};
use crate::bench::load::{Load, Request};
use crate::bench::report::{Metric, median};
use crate::demo::quantile;
use crate::error::XtaskError;
use std::time::Duration;

/// A model at 5,000 tokens a second: each event is its own callback.
const PACE: Duration = Duration::from_micros(200);
const PACED_EVENTS: usize = 500;
const PACED_STREAMS: u64 = 4;
/// Long enough for the request and the head to matter little, short enough to be kept whole.
const FAST_EVENTS: usize = 900;
const FAST_STREAMS: u64 = 20;
const TARGET_US: f64 = 5.0;

/// Measures both.
pub fn run(lab: &mut Lab) -> Result<Vec<Metric>, XtaskError> {
    let body = bodies::streamed_chat(CHAT_BYTES);
    let request = Request::unique(PATH, &HEADERS, &body);
    let arms = [lab.envoy(request.clone()), lab.misses(request)];
    lab.check(&arms)?;
    lab.rig.answer_with(answers::events(PACED_EVENTS, PACE));
    let paced = lab.rounds(ROUNDS, &arms, |lab, arm| {
        let mut outcome = lab.measure(arm, Load::one_by_one(PACED_STREAMS))?;
        outcome.event_latencies_us.sort_by(f64::total_cmp);
        Ok(quantile(&outcome.event_latencies_us, 0.50))
    })?;
    lab.rig
        .answer_with(answers::events(FAST_EVENTS, Duration::ZERO));
    let fast = lab.rounds(ROUNDS, &arms, |lab, arm| {
        let outcome = lab.measure(arm, Load::one_by_one(FAST_STREAMS))?;
        Ok(quantile(&outcome.latencies_us, 0.50) / FAST_EVENTS as f64)
    })?;
    lab.rig.answer_with(answers::whole());
    let metric = |name: &str, us: &[Vec<f64>]| {
        let each = us[1].iter().zip(&us[0]).map(|(ours, envoy)| ours - envoy);
        Metric::new("edge", name, "us")
            .beside(median(&each.collect::<Vec<f64>>()), "envoy", median(&us[0]))
            .at_most(TARGET_US)
    };
    Ok(vec![
        metric("stream_event_added_us", &paced).note("p50, one event each 200 us"),
        metric("stream_event_added_at_full_speed_us", &fast),
    ])
}
