//! One stream: each callback reads what the exchange needs from the host, asks it for a step and
//! applies the step.

use crate::effects::{Held, Outcome};
use crate::held_headers::HeldHeaders;
use crate::host::{self, Message};
use crate::worker::{SharedExchange, Worker};
use farthing_core::exchange::{BodyNeed, EndOfStream, Env, Exchange, Flow, Headers, Step, Vm};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use std::cell::RefCell;
use std::rc::Rc;

/// How far one message of the stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Its headers have not come yet.
    Expected,
    /// The host holds its headers and this many bytes of its body.
    HeadersHeld { body_bytes: usize },
    /// Its headers went on; the host holds this many bytes of its body.
    HeadersPassed { body_bytes: usize },
    /// It is over, or not ours to look at.
    Ended,
}

impl Progress {
    /// What can be changed in a callback of the body. A last part of no bytes counts: what we held
    /// back of a stream goes out with it.
    fn held(self) -> Held {
        match self {
            Progress::HeadersHeld { body_bytes } => Held::HeadersAndBody(body_bytes),
            Progress::HeadersPassed { body_bytes } => Held::Body(body_bytes),
            Progress::Expected | Progress::Ended => Held::NoBody,
        }
    }

    /// What can be changed in the callback of the trailers: the body only if the host still has
    /// some of it. It refuses the rest, which the ABI's Rust binding answers with a panic.
    fn held_at_trailers(self) -> Held {
        match self.body_bytes() {
            0 => Held::NoBody,
            _ => self.held(),
        }
    }

    fn body_bytes(self) -> usize {
        match self {
            Progress::HeadersHeld { body_bytes } | Progress::HeadersPassed { body_bytes } => {
                body_bytes
            }
            Progress::Expected | Progress::Ended => 0,
        }
    }

    /// The same message with this many bytes of its body at the host.
    fn with_body(self, body_bytes: usize) -> Progress {
        match self {
            Progress::HeadersHeld { .. } => Progress::HeadersHeld { body_bytes },
            Progress::HeadersPassed { .. } => Progress::HeadersPassed { body_bytes },
            over @ (Progress::Expected | Progress::Ended) => over,
        }
    }

    /// The same message once the host has done as `flow` says.
    fn after(self, flow: Flow, end: EndOfStream) -> Progress {
        match (flow, end) {
            (_, EndOfStream::Yes) => Progress::Ended,
            (Flow::Continue, EndOfStream::No) => Progress::HeadersPassed { body_bytes: 0 },
            (Flow::Pause, EndOfStream::No) => self,
        }
    }
}

/// The context of one HTTP stream.
pub struct Filter {
    context_id: u32,
    /// Empty before a configuration was accepted and after the exchange was told of its end.
    worker: Option<Rc<Worker>>,
    exchange: SharedExchange,
    request: Progress,
    response: Progress,
    /// Of the message that the host holds the headers of.
    headers: Option<HeldHeaders>,
}

impl Filter {
    pub fn new(context_id: u32, worker: Option<Rc<Worker>>) -> Filter {
        Filter {
            context_id,
            worker,
            exchange: Rc::new(RefCell::new(Exchange::new())),
            request: Progress::Expected,
            response: Progress::Expected,
            headers: None,
        }
    }

    /// Applies a step. A reply of ours ends both messages: the callbacks that Envoy still makes are
    /// about that reply, not about an upstream's response.
    fn apply(&mut self, worker: &Worker, step: Option<Step>, held: Held) -> Flow {
        let Some(Step { effects, flow }) = step else {
            return Flow::Continue;
        };
        match worker.apply(effects, held, self.headers.as_mut()) {
            Outcome::Applied => {
                if flow == Flow::Continue {
                    self.pass_headers();
                }
                flow
            }
            Outcome::Replied => {
                worker.unwatch(self.context_id);
                self.headers = None;
                self.request = Progress::Ended;
                self.response = Progress::Ended;
                Flow::Pause
            }
        }
    }

    /// The headers are about to go on: tells the host what is to change in them.
    fn pass_headers(&mut self) {
        if let Some(mut headers) = self.headers.take() {
            headers.write();
        }
    }

    /// The request is whole: the host holds all of it.
    fn end_request(&mut self, worker: &Worker, held: Held) -> Flow {
        let body = host::body(Message::Request, self.request.body_bytes());
        let step = worker.decide(&self.exchange, |x, vm, env| {
            x.on_request_body(vm, env, &body)
        });
        worker.unwatch(self.context_id);
        self.request = Progress::Ended;
        let flow = self.apply(worker, step, held);
        // From now on the worker's tick may let it go, which knows the host's headers only.
        self.pass_headers();
        // After a reply of ours the response is over, too.
        if flow == Flow::Pause && self.response == Progress::Expected {
            worker.watch(self.context_id, &self.exchange, held);
        }
        flow
    }

    fn look_at_response(&mut self, worker: &Worker, end: EndOfStream, held: Held) -> Flow {
        let body = host::body(Message::Response, self.response.body_bytes());
        let look =
            |x: &mut Exchange, vm: &mut Vm, env: &Env<'_>| x.on_response_body(vm, env, &body, end);
        let step = match end {
            EndOfStream::Yes => worker.decide(&self.exchange, look),
            EndOfStream::No => worker.decide_part(&self.exchange, look),
        };
        self.apply(worker, step, held)
    }

    /// Tells the exchange, once, that its stream is gone.
    fn end_stream(&mut self) {
        let Some(worker) = self.worker.take() else {
            return;
        };
        worker.unwatch(self.context_id);
        if !self.exchange.try_borrow().is_ok_and(|x| x.is_open()) {
            return;
        }
        let effects = worker.decide(&self.exchange, |x, vm, env| x.on_done(vm, env));
        worker.apply(effects.unwrap_or_default(), Held::NoBody, None);
    }
}

impl Context for Filter {
    fn on_done(&mut self) -> bool {
        self.end_stream();
        true
    }
}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let Some(worker) = self.worker.clone() else {
            return Action::Continue;
        };
        let end = end(end_of_stream);
        let headers = HeldHeaders::read(Message::Request);
        let step = worker.decide(&self.exchange, |x, vm, env| {
            x.on_request_headers(vm, env, &Headers::new(headers.entries()), end)
        });
        self.headers = Some(headers);
        self.request = Progress::HeadersHeld { body_bytes: 0 };
        let flow = self.apply(&worker, step, Held::NoBody);
        // What the worker's tick lets go must not carry what a client sent under our name.
        if let Some(headers) = &mut self.headers {
            headers.write();
        }
        // A body whose headers went on at once is not ours to look at.
        if flow == Flow::Continue {
            self.request = Progress::Ended;
        }
        if matches!(self.request, Progress::HeadersHeld { .. }) && worker.self_check_pending() {
            worker.watch(self.context_id, &self.exchange, Held::NoBody);
        }
        action(flow)
    }

    fn on_http_request_body(&mut self, held_bytes: usize, end_of_stream: bool) -> Action {
        let Some(worker) = self.worker.clone() else {
            return Action::Continue;
        };
        if self.request == Progress::Ended {
            return Action::Continue;
        }
        self.request = self.request.with_body(held_bytes);
        if end_of_stream {
            let held = self.request.held();
            return action(self.end_request(&worker, held));
        }
        let step = worker.decide(&self.exchange, |x, vm, env| {
            x.on_request_body_held(vm, env, held_bytes)
        });
        action(self.apply(&worker, step, Held::NoBody))
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        let Some(worker) = self.worker.clone() else {
            return Action::Continue;
        };
        match self.request {
            Progress::Ended => Action::Continue,
            held => action(self.end_request(&worker, held.held_at_trailers())),
        }
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let Some(worker) = self.worker.clone() else {
            return Action::Continue;
        };
        if self.response == Progress::Ended {
            return Action::Continue;
        }
        let end = end(end_of_stream);
        let headers = HeldHeaders::read(Message::Response);
        let step = worker.decide(&self.exchange, |x, vm, env| {
            x.on_response_headers(vm, env, &Headers::new(headers.entries()), end)
        });
        self.headers = Some(headers);
        self.response = Progress::HeadersHeld { body_bytes: 0 };
        let flow = self.apply(&worker, step, Held::NoBody);
        self.response = self.response.after(flow, end);
        action(flow)
    }

    fn on_http_response_body(&mut self, held_bytes: usize, end_of_stream: bool) -> Action {
        let Some(worker) = self.worker.clone() else {
            return Action::Continue;
        };
        if self.response == Progress::Ended {
            return Action::Continue;
        }
        let end = end(end_of_stream);
        self.response = self.response.with_body(held_bytes);
        let need = match self.exchange.try_borrow_mut() {
            Ok(mut exchange) => exchange.response_body_need(held_bytes, end),
            Err(_) => BodyNeed::Nothing(Flow::Continue),
        };
        let flow = match need {
            BodyNeed::Bytes => self.look_at_response(&worker, end, self.response.held()),
            BodyNeed::Nothing(flow) => {
                if flow == Flow::Continue {
                    self.pass_headers();
                }
                flow
            }
        };
        self.response = self.response.after(flow, end);
        action(flow)
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        let Some(worker) = self.worker.clone() else {
            return Action::Continue;
        };
        if self.response == Progress::Ended {
            return Action::Continue;
        }
        let held = self.response.held_at_trailers();
        let flow = self.look_at_response(&worker, EndOfStream::Yes, held);
        self.response = Progress::Ended;
        action(flow)
    }

    fn on_log(&mut self) {
        self.end_stream();
    }
}

fn end(end_of_stream: bool) -> EndOfStream {
    if end_of_stream {
        EndOfStream::Yes
    } else {
        EndOfStream::No
    }
}

fn action(flow: Flow) -> Action {
    match flow {
        Flow::Continue => Action::Continue,
        Flow::Pause => Action::Pause,
    }
}
