//! Streamed completions for the engine benchmark, with the times that matter: when each piece of
//! the answer came.

use crate::error::XtaskError;
use farthing_host_tests::client::Connection;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// One completion to ask for. It is as long as was asked for, whatever the model would say.
#[derive(Clone)]
pub struct Ask {
    pub model: String,
    pub prompt: String,
    pub max_tokens: u64,
    /// Whose request it is; without a tenant, prefixes are not shared.
    pub tenant: Option<String>,
}

/// What came of one.
#[derive(Clone)]
pub struct Streamed {
    pub started: Instant,
    /// When each piece of the answer came, one for each token; at least one.
    pub pieces: Vec<Instant>,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

// === impl Streamed ===

impl Streamed {
    /// When the first words came.
    pub fn first(&self) -> Instant {
        self.pieces.first().copied().unwrap_or(self.started)
    }

    /// When the answer was whole.
    pub fn last(&self) -> Instant {
        self.pieces.last().copied().unwrap_or(self.started)
    }

    /// Milliseconds until the first words.
    pub fn first_token_ms(&self) -> f64 {
        (self.first() - self.started).as_secs_f64() * 1e3
    }
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

/// The time from the first request to the last word.
pub fn wall(streams: &[Streamed]) -> Duration {
    let started = streams.iter().map(|stream| stream.started).min();
    let last = streams.iter().map(Streamed::last).max();
    started
        .zip(last)
        .map_or(Duration::ZERO, |(started, last)| last - started)
}

/// Sends one and reads its answer to the end.
pub fn stream(address: SocketAddr, ask: &Ask) -> Result<Streamed, XtaskError> {
    let failed = || XtaskError::io("a stream of the benchmark");
    // llama.cpp's server keeps every slot's last prompt unless it is told not to.
    let body = json!({
        "model": ask.model, "prompt": ask.prompt, "max_tokens": ask.max_tokens,
        "temperature": 0, "ignore_eos": true, "cache_prompt": false,
        "stream": true, "stream_options": {"include_usage": true},
    });
    let mut headers = vec![("content-type", "application/json")];
    if let Some(tenant) = &ask.tenant {
        headers.push(("x-farthing-tenant", tenant));
    }
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
    let (mut text, mut pieces) = (String::new(), Vec::new());
    loop {
        let piece = connection.receive_piece().map_err(failed())?;
        if piece.is_empty() {
            break;
        }
        pieces.push(Instant::now());
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    if head.status != 200 {
        return Err(XtaskError::Unexpected(format!(
            "{address} said {}: {text}",
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
        pieces,
        prompt_tokens: usage["prompt_tokens"].as_u64().unwrap_or(0),
        completion_tokens: usage["completion_tokens"].as_u64().unwrap_or(0),
    })
}
