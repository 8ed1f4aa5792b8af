//! Load for benchmarks, and the upstream that answers it: both sides in one thread on one epoll, so
//! that they take one core, leave the other to the proxy between them, and share one clock.
//!
//! A closed loop finds out how much a proxy can do; an open one, at a constant rate, how long it
//! takes. There a request's time counts from when it was to be sent: a proxy that stalls does not
//! get to hide the requests which waited meanwhile.

mod client;
mod framer;
mod request;
mod rig;
mod upstream;

pub use request::{Request, SERIAL};
pub use rig::Rig;
pub use upstream::Answer;

use crate::error::XtaskError;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Bytes read at a time; a read that fills fewer has emptied the socket.
const READ_BYTES: usize = 256 << 10;

/// Requests of each connection before those that count.
const WARM_UP_PER_CONNECTION: u64 = 8;

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Each connection sends its next request when it has its answer.
    Closed,
    /// So many a second, whatever the answers do.
    PerSecond(f64),
}

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Until {
    Requests(u64),
    Elapsed(Duration),
}

/// Which answers are as they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Status 200 only: a benchmark of errors would look fast.
    Ok,
    /// Whatever it is: the request is one that may well be refused.
    Any,
}

/// How much to send, and when.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub connections: usize,
    pub pace: Pace,
    /// Requests that go first and count for nothing: they open the upstream's connections.
    pub warm_up: u64,
    pub until: Until,
    pub accept: Accept,
}

impl Load {
    /// As much as `connections` clients can send in this time, each waiting for its answers.
    pub fn at_limit(connections: usize, time: Duration) -> Load {
        Load {
            connections,
            pace: Pace::Closed,
            warm_up: WARM_UP_PER_CONNECTION * connections as u64,
            until: Until::Elapsed(time),
            accept: Accept::Ok,
        }
    }

    /// A constant rate for this time, over as many of `connections` as that takes.
    pub fn steady(connections: usize, per_s: f64, time: Duration) -> Load {
        Load {
            pace: Pace::PerSecond(per_s),
            until: Until::Requests((per_s * time.as_secs_f64()) as u64),
            ..Load::at_limit(connections, time)
        }
    }

    /// So many requests, one after the other.
    pub fn one_by_one(count: u64) -> Load {
        Load {
            connections: 1,
            pace: Pace::Closed,
            warm_up: 1,
            until: Until::Requests(count),
            accept: Accept::Ok,
        }
    }

    /// The same with another number of requests that count for nothing.
    pub fn warm_up(mut self, requests: u64) -> Load {
        self.warm_up = requests;
        self
    }

    /// The same with requests that may be refused.
    pub fn accept_any(mut self) -> Load {
        self.accept = Accept::Any;
        self
    }
}

/// One measurement.
pub struct Plan {
    pub target: SocketAddr,
    pub request: Request,
    pub load: Load,
}

/// What came of one.
#[derive(Default)]
pub struct Outcome {
    /// From when each request was to be sent to the last byte of its answer; sorted.
    pub latencies_us: Vec<f64>,
    /// From the upstream's write of each event to the client's read of it; in their order.
    pub event_latencies_us: Vec<f64>,
    /// Requests sent, the warm-up's too.
    pub sent: u64,
    /// Requests answered after the warm-up, and in how long.
    pub answered: u64,
    pub elapsed: Duration,
    /// The head and the body of the last answer.
    pub last_answer: (String, String),
}

impl Outcome {
    /// Answers a second.
    pub fn per_s(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds == 0.0 {
            0.0
        } else {
            self.answered as f64 / seconds
        }
    }

    /// A header of the last answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.last_answer.0.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Why a measurement is none.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("not HTTP/1.1: {0}")]
    Malformed(&'static str),
    #[error("answered {status}: {body}")]
    Status { status: u16, body: String },
    #[error("the connection was closed without an answer")]
    Closed,
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// A signal asked us to end.
    #[error(transparent)]
    Stopped(XtaskError),
}
