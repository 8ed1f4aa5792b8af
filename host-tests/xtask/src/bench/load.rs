//! Requests in a closed loop over a few connections that stay open: a client sends its next request
//! when it has read the answer to its last.

use crate::error::XtaskError;
use crate::signals::Interrupt;
use farthing_host_tests::client::{Connection, Response};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A connection's first requests open the upstream's connection and warm caches.
const WARM_UP: usize = 50;

/// Whether each request is one never seen before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bodies {
    Unique,
    Repeated,
}

/// Where and what to send.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub bodies: Bodies,
    /// The size of each request's body.
    pub body_bytes: usize,
    /// Counts requests over all targets, so that no two unique bodies are the same.
    pub serial: Arc<AtomicU64>,
}

impl Target {
    /// One request on a connection of its own.
    pub fn request_once(&self) -> io::Result<Response> {
        self.request(&mut Connection::open(self.address)?)
    }

    fn request(&self, connection: &mut Connection) -> io::Result<Response> {
        let headers = [
            ("content-type", "application/json"),
            ("authorization", "Bearer benchmark"),
        ];
        let body = self.body();
        connection.request("POST", "/v1/chat/completions", &headers, body.as_bytes())
    }

    /// A chat of exactly `body_bytes`, whose first words tell it from every other.
    fn body(&self) -> String {
        let serial = match self.bodies {
            Bodies::Unique => self.serial.fetch_add(1, Ordering::Relaxed) + 1,
            Bodies::Repeated => 0,
        };
        let head = format!(
            r#"{{"model":"auto","temperature":0,"max_tokens":64,"messages":[{{"role":"user","content":"Question {serial:012}: "#
        );
        let tail = r#""}]}"#;
        let filler = "what is the capital of France, and why is it so? ";
        let missing = self.body_bytes.saturating_sub(head.len() + tail.len());
        let text: String = filler.chars().cycle().take(missing).collect();
        format!("{head}{text}{tail}")
    }
}

/// The latencies of `count` requests over one connection, in microseconds, sorted.
pub fn latencies_us(
    target: &Target,
    count: usize,
    interrupt: &Interrupt,
) -> Result<Vec<f64>, XtaskError> {
    let failed = || XtaskError::io("a request of the benchmark");
    let mut connection = Connection::open(target.address).map_err(failed())?;
    let mut latencies = Vec::with_capacity(count);
    for index in 0..WARM_UP + count {
        interrupt.check()?;
        let started = Instant::now();
        let response = target.request(&mut connection).map_err(failed())?;
        let elapsed_us = started.elapsed().as_secs_f64() * 1e6;
        require_ok(&response)?;
        if index >= WARM_UP {
            latencies.push(elapsed_us);
        }
    }
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}

/// Requests a second over `connections` connections during `time`.
pub fn requests_per_s(
    target: &Target,
    connections: usize,
    time: Duration,
    interrupt: &Interrupt,
) -> Result<f64, XtaskError> {
    let started = Instant::now();
    let counts: Vec<Result<u64, XtaskError>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..connections)
            .map(|_| scope.spawn(|| send_until(target, started + time, interrupt)))
            .collect();
        let panicked = || XtaskError::Unexpected("a client of the benchmark panicked".to_string());
        clients
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| Err(panicked())))
            .collect()
    });
    let elapsed_s = started.elapsed().as_secs_f64();
    let mut total = 0;
    for count in counts {
        total += count?;
    }
    Ok(total as f64 / elapsed_s)
}

fn send_until(target: &Target, end: Instant, interrupt: &Interrupt) -> Result<u64, XtaskError> {
    let failed = || XtaskError::io("a request of the benchmark");
    let mut connection = Connection::open(target.address).map_err(failed())?;
    let mut count = 0;
    while Instant::now() < end {
        interrupt.check()?;
        require_ok(&target.request(&mut connection).map_err(failed())?)?;
        count += 1;
    }
    Ok(count)
}

fn require_ok(response: &Response) -> Result<(), XtaskError> {
    if response.status == 200 {
        return Ok(());
    }
    Err(XtaskError::Unexpected(format!(
        "a request of the benchmark got {}: {}",
        response.status,
        response.text()
    )))
}
