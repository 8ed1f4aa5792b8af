//! The life of one request: a state machine that hears every callback of its stream and answers
//! with effects. It knows no host: headers and bytes, the time and the shared store come in, a
//! [`Step`] goes out.
//!
//! The shell's part of the contract:
//! * one [`Vm`] for each worker, one [`Exchange`] for each stream; callbacks in stream order;
//! * request: hold the body until it is whole ([`Exchange::on_request_body_held`] for each partial
//!   callback), then [`Exchange::on_request_body`] once; if the end comes with trailers, call it
//!   then;
//! * response: [`Exchange::response_body_need`] says whether to copy the bytes; the bytes handed
//!   over are all that the host holds for this stream since the last [`Flow::Continue`]; if the end
//!   comes with trailers, make one more call with what is held and [`EndOfStream::Yes`];
//! * [`Exchange::on_done`] exactly once when the stream is gone, whatever happened before.

mod admission;
mod answer;
mod arrival;
mod asked;
mod cached;
mod caller;
mod effect;
mod env;
mod forward;
mod headers;
mod plan;
mod prefix;
mod repeats;
mod reply;
mod request;
mod response;
mod self_check;
mod send;
mod settle;
mod sticky;
mod terms;
mod vm;
mod waiting;

pub use effect::{Effect, Flow, Level, LocalReply, Step};
pub use env::{BodyNeed, EndOfStream, Env};
pub use headers::Headers;
pub use vm::Vm;

use answer::Answer;
use arrival::Arrival;
use asked::{Asked, Compacted};
use caller::Caller;
use forward::InFlight;
use request::Decision;
use waiting::Waiting;

use crate::cache::flight::Verdict;
use crate::error::ApiError;
use crate::limits::REQUEST_BODY_BYTES_MAX;
use crate::metrics::Metric;
use crate::wire::Endpoint;

/// Effects that a request usually has.
const EFFECTS: usize = 20;

/// One request's state.
#[derive(Debug, Default)]
pub struct Exchange {
    phase: Phase,
    caller: Caller,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    New,
    /// Headers are held until the body is whole.
    Held { endpoint: Endpoint, since_ns: u64 },
    /// Let go by the self-check before a body callback came.
    Released { at_ns: u64 },
    /// Not judged; everything passes.
    Passing,
    /// Whole, judged, and held until there is an answer to an identical request.
    Waiting(Box<Waiting>),
    /// Sent upstream: something is open until it is settled.
    Upstream(Box<InFlight>),
    /// Answered and settled; whatever still comes passes.
    Over,
}

impl Exchange {
    pub fn new() -> Exchange {
        Exchange::default()
    }

    /// Request headers, pseudo-headers included.
    pub fn on_request_headers(
        &mut self,
        vm: &mut Vm,
        env: &Env<'_>,
        headers: &Headers<'_>,
        end: EndOfStream,
    ) -> Step {
        if !matches!(self.phase, Phase::New) {
            return Step::pass();
        }
        let mut effects = vm.self_check.refresh(env.store);
        self.caller = Caller::read(headers, vm, env);
        effects.extend(forward::strip_untrusted(headers));
        match arrive(vm, env, headers, end) {
            Arrival::PassThrough => {
                self.pass_through(vm, &mut effects);
                Step::new(effects, Flow::Continue)
            }
            Arrival::Refuse(endpoint, error) => {
                effects.push(Effect::count(Metric::Requests));
                self.refuse(endpoint, &error, &mut effects);
                Step::new(effects, Flow::Pause)
            }
            Arrival::Judge(endpoint) => {
                effects.push(Effect::count(Metric::Requests));
                self.phase = Phase::Held {
                    endpoint,
                    since_ns: env.now_unix_ns,
                };
                match end {
                    EndOfStream::Yes => self.judge(vm, env, endpoint, &[], effects),
                    EndOfStream::No => Step::new(effects, Flow::Pause),
                }
            }
        }
    }

    /// Part of the request body has arrived and the host holds `held_bytes` in all: refuses early
    /// what is too large.
    pub fn on_request_body_held(&mut self, vm: &mut Vm, env: &Env<'_>, held_bytes: usize) -> Step {
        match self.body_arrived(vm, env) {
            BodyArrival::Judge(endpoint, mut effects) => {
                if held_bytes > REQUEST_BODY_BYTES_MAX {
                    self.refuse(Some(endpoint), &arrival::too_large(), &mut effects);
                }
                Step::new(effects, Flow::Pause)
            }
            BodyArrival::Pass(effects) => Step::new(effects, Flow::Continue),
        }
    }

    /// The whole request body. A [`Flow::Pause`] without a reply means that the request waits: from
    /// then on [`Exchange::on_tick`] decides.
    pub fn on_request_body(&mut self, vm: &mut Vm, env: &Env<'_>, body: &[u8]) -> Step {
        match self.body_arrived(vm, env) {
            BodyArrival::Judge(endpoint, effects) => self.judge(vm, env, endpoint, body, effects),
            BodyArrival::Pass(effects) => Step::new(effects, Flow::Continue),
        }
    }

    /// Response headers, pseudo-headers included. A local reply of the host (no upstream, a
    /// timeout) comes this way too and counts as an upstream error.
    pub fn on_response_headers(
        &mut self,
        vm: &mut Vm,
        env: &Env<'_>,
        headers: &Headers<'_>,
        end: EndOfStream,
    ) -> Step {
        // A reply of the host itself: whoever waited is being sent away.
        self.stop_waiting(vm);
        self.while_upstream(|in_flight, caller| {
            response::on_headers(in_flight, caller, vm, env, headers, end)
        })
    }

    /// Must the shell copy the response bytes out of the host and call
    /// [`Exchange::on_response_body`], or does it just answer with a flow? `held_bytes` is what the
    /// host holds, this callback's bytes included.
    pub fn response_body_need(&mut self, held_bytes: usize, end: EndOfStream) -> BodyNeed {
        match &mut self.phase {
            Phase::Upstream(in_flight) => in_flight.answer.body_need(held_bytes, end),
            _ => BodyNeed::Nothing(Flow::Continue),
        }
    }

    /// Response bytes that the host holds.
    pub fn on_response_body(
        &mut self,
        vm: &mut Vm,
        env: &Env<'_>,
        body: &[u8],
        end: EndOfStream,
    ) -> Step {
        self.while_upstream(|in_flight, caller| {
            response::on_body(in_flight, caller, vm, env, body, end)
        })
    }

    /// Would [`Exchange::on_done`] have anything to do?
    pub fn is_open(&self) -> bool {
        matches!(
            self.phase,
            Phase::Held { .. } | Phase::Waiting(_) | Phase::Upstream(_)
        )
    }

    /// The stream is gone: settles or refunds what is still open. The effects can only count, log
    /// and write the ledger. Calling it again does nothing.
    pub fn on_done(&mut self, vm: &mut Vm, env: &Env<'_>) -> Vec<Effect> {
        if self.stop_waiting(vm) {
            return vec![Effect::count(Metric::Aborts)];
        }
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Upstream(in_flight) => response::abort(*in_flight, &self.caller, vm, env),
            Phase::Held { .. } => vec![Effect::count(Metric::Aborts)],
            _ => Vec::new(),
        }
    }

    /// Looks after a stream that is held, from the worker's tick (every [`Vm::tick_ms`]): is its
    /// headers' time up, so that the start-up self-check lets it go, or is there a verdict on its
    /// waiting? Call it for each stream with the time of that call, because the body of one that is
    /// let go is expected right after it. A [`Flow::Continue`] means: apply the effects, then
    /// resume the request.
    pub fn on_tick(&mut self, vm: &mut Vm, env: &Env<'_>) -> Step {
        if let Phase::Waiting(waiting) = &self.phase {
            let verdict = vm.flights.verdict(&waiting.ticket, env.now_unix_ns);
            return verdict.map_or(Step::hold(), |verdict| self.resume(vm, env, verdict));
        }
        let mut effects = vm.self_check.refresh(env.store);
        match self.phase {
            Phase::Held { since_ns, .. }
                if vm.self_check.must_release(since_ns, env.now_unix_ns) =>
            {
                self.pass_through(vm, &mut effects);
                self.phase = Phase::Released {
                    at_ns: env.now_unix_ns,
                };
                Step::new(effects, Flow::Continue)
            }
            _ => Step::new(effects, Flow::Pause),
        }
    }

    fn resume(&mut self, vm: &mut Vm, env: &Env<'_>, verdict: Verdict) -> Step {
        let mut effects = Vec::new();
        let Phase::Waiting(waiting) = std::mem::replace(&mut self.phase, Phase::Over) else {
            return Step::hold();
        };
        let judged = waiting.judged;
        let decision = waiting::resume(&self.caller, vm, env, judged, verdict, &mut effects);
        self.conclude(decision, effects)
    }

    /// Gives its place up, if it waits. Says whether it did.
    fn stop_waiting(&mut self, vm: &mut Vm) -> bool {
        let Phase::Waiting(waiting) = &self.phase else {
            return false;
        };
        vm.flights.leave(&waiting.ticket);
        self.phase = Phase::Over;
        true
    }

    /// A body callback of the request came: what does that say of the host, and whose turn is it?
    fn body_arrived(&mut self, vm: &mut Vm, env: &Env<'_>) -> BodyArrival {
        match self.phase {
            Phase::Held { endpoint, .. } => {
                let effects = vm.self_check.body_while_held(env.store);
                BodyArrival::Judge(endpoint, effects)
            }
            Phase::Released { at_ns } => {
                self.phase = Phase::Passing;
                let check = &mut vm.self_check;
                BodyArrival::Pass(check.body_after_release(env.store, at_ns, env.now_unix_ns))
            }
            _ => BodyArrival::Pass(Vec::new()),
        }
    }

    fn judge(
        &mut self,
        vm: &mut Vm,
        env: &Env<'_>,
        endpoint: Endpoint,
        body: &[u8],
        mut effects: Vec<Effect>,
    ) -> Step {
        self.phase = Phase::Over;
        effects.reserve(EFFECTS);
        let decision = request::decide(&self.caller, vm, env, endpoint, body, &mut effects);
        self.conclude(decision, effects)
    }

    fn conclude(&mut self, decision: Decision, effects: Vec<Effect>) -> Step {
        match decision {
            Decision::Replied => {
                self.phase = Phase::Over;
                Step::new(effects, Flow::Pause)
            }
            Decision::Wait(waiting) => {
                self.phase = Phase::Waiting(waiting);
                Step::new(effects, Flow::Pause)
            }
            Decision::Forward(in_flight) => {
                self.phase = Phase::Upstream(in_flight);
                Step::new(effects, Flow::Continue)
            }
        }
    }

    fn refuse(&mut self, endpoint: Option<Endpoint>, error: &ApiError, effects: &mut Vec<Effect>) {
        self.phase = Phase::Over;
        reply::refuse(&self.caller, endpoint, None, error, effects);
    }

    fn pass_through(&mut self, vm: &Vm, effects: &mut Vec<Effect>) {
        self.phase = Phase::Passing;
        forward::pass_through(&vm.config, &self.caller, effects);
    }

    /// Runs a response callback of a request that is upstream; ends the exchange when the answer
    /// is settled.
    fn while_upstream(&mut self, callback: impl FnOnce(&mut InFlight, &Caller) -> Step) -> Step {
        let Phase::Upstream(in_flight) = &mut self.phase else {
            return Step::pass();
        };
        let step = callback(in_flight, &self.caller);
        if matches!(in_flight.answer, Answer::Settled) {
            self.phase = Phase::Over;
        }
        step
    }
}

enum BodyArrival {
    Judge(Endpoint, Vec<Effect>),
    Pass(Vec<Effect>),
}

/// What becomes of a request by its headers. A worker whose self-check has failed lets every
/// request to an endpoint pass that it would judge, except for its probes; what is refused by its
/// headers alone is refused by that worker too.
fn arrive(vm: &mut Vm, env: &Env<'_>, headers: &Headers<'_>, end: EndOfStream) -> Arrival {
    let arrival = arrival::classify(headers, &vm.config.passthrough);
    if !vm.self_check.is_degraded() || !matches!(arrival, Arrival::Judge(_)) {
        return arrival;
    }
    if end == EndOfStream::No && vm.self_check.may_hold(env.now_unix_ns) {
        arrival
    } else {
        Arrival::PassThrough
    }
}
