//! Streamed completions for the engine benchmark, with the times that matter: when the first words
//! came, and when the last.

use crate::error::XtaskError;
use farthing_host_tests::client::Connection;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// One completion to ask for.
#[derive(Clone)]
pub struct Ask {
    pub model: String,
    pub prompt: String,
    pub max_tokens: u64,
}

/// What came of one.
#[derive(Clone, Copy)]
pub struct Streamed {
    pub started: Instant,
    pub first: Instant,
    pub last: Instant,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// Sends all at the same time, each on a connection of its own.
pub fn together(address: SocketAddr, asks: &[Ask]) -> Result<Vec<Streamed>, XtaskError> {
    thread::scope(|scope| {
        let clients: Vec<_> = asks
            .iter()
            .map(|ask| scope.spawn(move || stream(address, ask)))
            .collect();
        let panicked = || XtaskError::Unexpected("a client of the benchmark panicked".to_string());
        clients
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| Err(panicked())))
            .collect()
    })
}

/// Sends one after the other.
pub fn one_by_one(address: SocketAddr, asks: &[Ask]) -> Result<Vec<Streamed>, XtaskError> {
    asks.iter().map(|ask| stream(address, ask)).collect()
}

/// The time from the first request to the last word.
pub fn wall(streams: &[Streamed]) -> Duration {
    let started = streams.iter().map(|stream| stream.started).min();
    let last = streams.iter().map(|stream| stream.last).max();
    started
        .zip(last)
        .map_or(Duration::ZERO, |(started, last)| last - started)
}

fn stream(address: SocketAddr, ask: &Ask) -> Result<Streamed, XtaskError> {
    let failed = || XtaskError::io("a stream of the benchmark");
    let body = json!({
        "model": ask.model, "prompt": ask.prompt, "max_tokens": ask.max_tokens,
        "temperature": 0, "stream": true, "stream_options": {"include_usage": true},
    });
    let headers = [("content-type", "application/json")];
    let mut connection = Connection::open(address).map_err(failed())?;
    let started = Instant::now();
    connection
        .send(
            "POST",
            "/v1/completions",
            &headers,
            body.to_string().as_bytes(),
        )
        .map_err(failed())?;
    let head = connection.receive_head().map_err(failed())?;
    let mut text = String::new();
    let mut first = None;
    let mut last = started;
    loop {
        let piece = connection.receive_piece().map_err(failed())?;
        if piece.is_empty() {
            break;
        }
        last = Instant::now();
        first = first.or(Some(last));
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    if head.status != 200 {
        return Err(XtaskError::Unexpected(format!(
            "the backend said {}: {text}",
            head.status
        )));
    }
    let usage = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .find_map(|event| Some(event.get("usage")?.clone()).filter(|usage| !usage.is_null()))
        .ok_or_else(|| XtaskError::Unexpected(format!("a stream without usage: {text}")))?;
    Ok(Streamed {
        started,
        first: first.unwrap_or(last),
        last,
        prompt_tokens: usage["prompt_tokens"].as_u64().unwrap_or(0),
        completion_tokens: usage["completion_tokens"].as_u64().unwrap_or(0),
    })
}
