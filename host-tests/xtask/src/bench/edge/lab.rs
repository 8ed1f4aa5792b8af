//! The proxies under test with one upstream behind them, and how turns are taken.

use super::{answers, bodies, configs};
use crate::bench::load::{Load, LoadError, Outcome, Plan, Request, Rig};
use crate::error::XtaskError;
use crate::signals::Interrupt;
use farthing_host_tests::envoy::{Envoy, EnvoyConfig, EnvoyOptions};
use std::net::SocketAddr;

/// One worker, and so one VM: throughput is then a figure of one core.
const WORKERS: u32 = 1;
/// A chat with a system prompt and some history.
pub const CHAT_BYTES: usize = 4_096;
/// Connections of the throughput measurements.
pub const CONNECTIONS: usize = 16;
/// Rounds of a measurement.
pub const ROUNDS: usize = 7;
pub const PATH: &str = "/v1/chat/completions";
pub const HEADERS: [(&str, &str); 2] = [
    ("content-type", "application/json"),
    ("authorization", "Bearer benchmark"),
];

/// Something that answers chats.
#[derive(Clone)]
pub struct Arm {
    pub name: &'static str,
    pub target: SocketAddr,
    pub request: Request,
    /// `x-farthing-source` of its answers.
    pub source: Option<&'static str>,
    /// The process that does the work.
    pub pid: Option<u32>,
}

/// The upstream, the clients and the Envoys.
pub struct Lab {
    pub rig: Rig,
    pub interrupt: Interrupt,
    filtered: Envoy,
    plain: Envoy,
    bare: Envoy,
    direct: Envoy,
    buffered: Envoy,
}

impl Lab {
    /// Starts everything.
    pub fn start(interrupt: &Interrupt) -> Result<Lab, XtaskError> {
        let rig = Rig::start(answers::whole(), interrupt)
            .map_err(XtaskError::io("cannot start the upstream"))?;
        let upstream = rig.upstream();
        Ok(Lab {
            filtered: start(&configs::with_filter(upstream)?)?,
            plain: start(&configs::without_filter(upstream)?)?,
            bare: start(&configs::with_bare_filter(upstream)?)?,
            direct: start(&configs::direct_response(answers::CHAT)?)?,
            buffered: start(&configs::buffered_direct_response(answers::CHAT)?)?,
            rig,
            interrupt: interrupt.clone(),
        })
    }

    /// Another Envoy with the filter, for what must start from nothing.
    pub fn another_filtered(&self) -> Result<Envoy, XtaskError> {
        start(&configs::with_filter(self.rig.upstream())?)
    }

    /// Envoy without the filter.
    pub fn envoy(&self, request: Request) -> Arm {
        arm("envoy", &self.plain, request, None)
    }

    /// Envoy with the filter and requests that it has never seen.
    pub fn misses(&self, request: Request) -> Arm {
        arm("filter, misses", &self.filtered, request, Some("model"))
    }

    /// Envoy with the filter and one request again and again.
    pub fn hits(&self, request: Request) -> Arm {
        arm("filter, hits", &self.filtered, request, Some("edge-cache"))
    }

    /// Envoy with the filter that decides nothing.
    pub fn bare(&self, request: Request) -> Arm {
        arm("bare filter", &self.bare, request, None)
    }

    /// Envoy that answers by itself, and closes the connection each time.
    pub fn direct(&self, request: Request) -> Arm {
        arm("direct_response", &self.direct, request, None)
    }

    /// Envoy that answers by itself once it has the whole request, and keeps the connection.
    pub fn buffered(&self, request: Request) -> Arm {
        let name = "direct_response behind buffer";
        arm(name, &self.buffered, request, None)
    }

    /// Whether every arm does what it is measured for. The first answer to a repeated request is a
    /// miss, which fills the cache.
    pub fn check(&mut self, arms: &[Arm]) -> Result<(), XtaskError> {
        for arm in arms {
            let outcome = self.measure(arm, Load::one_by_one(1))?;
            let source = outcome.header("x-farthing-source");
            if source != arm.source {
                return Err(XtaskError::Unexpected(format!(
                    "{}: source {source:?}, expected {:?}: {:?}",
                    arm.name, arm.source, outcome.last_answer
                )));
            }
        }
        Ok(())
    }

    /// Measures one arm once.
    pub fn measure(&mut self, arm: &Arm, load: Load) -> Result<Outcome, XtaskError> {
        let plan = Plan {
            target: arm.target,
            request: arm.request.clone(),
            load,
        };
        self.rig.run(plan).map_err(|error| match error {
            LoadError::Stopped(error) => error,
            error => XtaskError::Unexpected(format!("{}: {error}", arm.name)),
        })
    }

    /// Measures every arm in every round, each round beginning with another arm: none is always
    /// first after a pause. Answers each arm's values in the order of the rounds.
    pub fn rounds<T>(
        &mut self,
        count: usize,
        arms: &[Arm],
        mut measure: impl FnMut(&mut Lab, &Arm) -> Result<T, XtaskError>,
    ) -> Result<Vec<Vec<T>>, XtaskError> {
        let mut values: Vec<Vec<T>> = arms.iter().map(|_| Vec::with_capacity(count)).collect();
        for round in 0..count {
            for turn in 0..arms.len() {
                let place = (round + turn) % arms.len();
                values[place].push(measure(self, &arms[place])?);
            }
        }
        Ok(values)
    }
}

/// The ordinary chat, another each time.
pub fn unique_chat() -> Request {
    Request::unique(PATH, &HEADERS, &bodies::chat(CHAT_BYTES))
}

/// The ordinary chat, always the same.
pub fn repeated_chat() -> Request {
    Request::repeated(PATH, &HEADERS, &bodies::chat(CHAT_BYTES))
}

fn arm(name: &'static str, envoy: &Envoy, request: Request, source: Option<&'static str>) -> Arm {
    Arm {
        name,
        target: envoy.address(),
        request,
        source,
        pid: envoy.pid(),
    }
}

fn start(config: &EnvoyConfig) -> Result<Envoy, XtaskError> {
    Ok(Envoy::start(config, &EnvoyOptions::new(WORKERS))?)
}
