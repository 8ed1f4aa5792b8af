//! The filter beside other gateways: the same upstream, connections and bodies.

use super::gateways::{self, Gateway, OwnCache};
use super::lab::{Arm, CONNECTIONS, Lab, repeated_chat, unique_chat};
use crate::bench::load::Load;
use crate::bench::report::{Goal, Metric, median};
use crate::demo::quantile;
use crate::error::XtaskError;
use std::time::Duration;

const ROUNDS: usize = 5;
const OUR_TIME: Duration = Duration::from_millis(700);
/// A gateway of tens of requests a second needs a while to answer enough of them.
const THEIR_TIME: Duration = Duration::from_millis(2_500);
/// One for each connection.
const WARM_UP: u64 = CONNECTIONS as u64;

/// A comparison: its name, the peer, our figure beside it and the least ratio.
struct Pairing {
    metric: &'static str,
    peer: &'static str,
    repeats: bool,
    target: f64,
}

const PAIRINGS: [Pairing; 3] = [
    Pairing {
        metric: "miss_requests_per_s_beside_litellm",
        peer: "litellm",
        repeats: false,
        target: 80.0,
    },
    Pairing {
        metric: "miss_requests_per_s_beside_portkey",
        peer: "portkey",
        repeats: false,
        target: 10.0,
    },
    Pairing {
        metric: "hit_requests_per_s_beside_litellm",
        peer: "litellm, hits",
        repeats: true,
        target: 250.0,
    },
];

/// What one turn came to.
struct Turn {
    per_s: f64,
    p99_us: f64,
}

/// Starts each gateway in turn and measures it beside the filter. One that cannot be installed or
/// does not serve has its rows all the same, which say so.
pub fn run(lab: &mut Lab) -> Result<Vec<Metric>, XtaskError> {
    let mut metrics = Vec::new();
    for pairing in PAIRINGS {
        match beside(lab, &pairing) {
            Ok(found) => metrics.extend(found),
            Err(stopped @ XtaskError::Interrupted { .. }) => return Err(stopped),
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.lines().next().unwrap_or_default();
                eprintln!("bench: {}: {error}", pairing.peer);
                metrics.push(
                    Metric::new("edge", pairing.metric, "1/s")
                        .beside(0.0, pairing.peer, 0.0)
                        .not_measured(pairing.target, Goal::RatioAtLeast, reason),
                );
            }
        }
    }
    Ok(metrics)
}

fn beside(lab: &mut Lab, pairing: &Pairing) -> Result<[Metric; 2], XtaskError> {
    let upstream = lab.rig.upstream();
    let gateway = match pairing.peer {
        "portkey" => gateways::portkey(upstream, &lab.interrupt)?,
        _ if pairing.repeats => gateways::litellm(upstream, OwnCache::On, &lab.interrupt)?,
        _ => gateways::litellm(upstream, OwnCache::Off, &lab.interrupt)?,
    };
    let ours = if pairing.repeats {
        lab.hits(repeated_chat())
    } else {
        lab.misses(unique_chat())
    };
    let Gateway { arm: theirs, .. } = &gateway;
    let arms = [ours, theirs.clone()];
    lab.check(&arms)?;
    let turns = lab.rounds(ROUNDS, &arms, |lab, arm| {
        turn(
            lab,
            arm,
            pairing,
            if arm.pid == theirs.pid {
                THEIR_TIME
            } else {
                OUR_TIME
            },
        )
    })?;
    let of =
        |arm: usize, of: fn(&Turn) -> f64| median(&turns[arm].iter().map(of).collect::<Vec<f64>>());
    let [our_p99_us, their_p99_us] = [0, 1].map(|arm| of(arm, |turn| turn.p99_us));
    let rate = Metric::new("edge", pairing.metric, "1/s")
        .beside(
            of(0, |turn| turn.per_s),
            pairing.peer,
            of(1, |turn| turn.per_s),
        )
        .ratio_at_least(pairing.target);
    let p99 = Metric::new(
        "edge",
        pairing.metric.replace("requests_per_s", "p99_us"),
        "us",
    )
    .beside(our_p99_us, pairing.peer, their_p99_us)
    .at_most(their_p99_us);
    Ok([rate, p99])
}

fn turn(lab: &mut Lab, arm: &Arm, pairing: &Pairing, time: Duration) -> Result<Turn, XtaskError> {
    let served_before = lab.rig.served_total();
    let outcome = lab.measure(arm, Load::at_limit(CONNECTIONS, time).warm_up(WARM_UP))?;
    let served = lab.rig.served_total() - served_before;
    // A repeat that the upstream sees is no hit, and its rate says nothing about a cache.
    if pairing.repeats && served > outcome.sent / 10 {
        return Err(XtaskError::Unexpected(format!(
            "{}: {served} of {} repeats went to the upstream",
            arm.name, outcome.sent
        )));
    }
    Ok(Turn {
        per_s: outcome.per_s(),
        p99_us: quantile(&outcome.latencies_us, 0.99),
    })
}
