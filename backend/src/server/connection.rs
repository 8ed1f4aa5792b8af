//! One TCP connection: HTTP/1.1 with bounds on heads, time and silence, ended gracefully.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use farthing_core::limits;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::stall::StallGuard;
use super::{State, router};

/// Serves `stream` until it ends; once `stop` turns true, until its current answer is complete.
pub async fn serve(stream: TcpStream, state: Arc<State>, mut stop: watch::Receiver<bool>) {
    // Without it, Nagle and delayed ACKs hold each small event of a stream back for up to 40 ms.
    let _ = stream.set_nodelay(true);
    let http = &state.config.http;
    let mut io = TokioIo::new(StallGuard::new(stream, http.write_stall()));
    let mut builder = http1::Builder::new();
    builder
        // The header timeout fires only where a timer is installed.
        .timer(TokioTimer::new())
        .header_read_timeout(http.header_timeout())
        // hyper refuses with an empty body. At twice our own limits it only guards memory, and what
        // lies between is refused by the router, in the shape of every other error.
        .max_headers(2 * limits::HTTP_HEADERS_MAX)
        .max_header_size(2 * limits::HTTP_HEAD_BYTES_MAX);
    {
        let service = service_fn(|request| {
            let state = Arc::clone(&state);
            async move { Ok::<_, Infallible>(router::answer(state, request).await) }
        });
        let mut connection = pin!(builder.serve_connection(&mut io, service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopping(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        // A peer that leaves, stalls or speaks nonsense is its own affair: the answer, if one was
        // due, has been counted where it was made.
        let _ = ended;
    }
    let is_stopping = *stop.borrow();
    if !is_stopping {
        linger(io.inner_mut()).await;
    }
}

/// Ready once the server stops, or is gone.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopping| *stopping).await;
}

/// Reads what the peer still sends, within bounds: closing a socket with unread input makes the
/// kernel reset it, and the reset may overtake the answer (a 413, say) that the peer has not read.
async fn linger(io: &mut (impl AsyncRead + Unpin)) {
    let mut scratch = [0; 4096];
    let mut left = limits::HTTP_LINGER_BYTES_MAX;
    let discard = async {
        while let Ok(length @ 1..) = io.read(&mut scratch).await {
            left = left.saturating_sub(length);
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(limits::HTTP_LINGER_MS), discard).await;
}
