//! A socket that notices a peer which stops reading: without this a stalled reader would hold a
//! connection, and the answer waiting for it, for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Passes reads and writes through; a write that waits longer than the bound fails with `TimedOut`.
#[derive(Debug)]
pub struct StallGuard<S> {
    inner: S,
    bound: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> StallGuard<S> {
    /// Wraps `inner`; `bound` is the longest time in which the peer may take no byte.
    pub fn new(inner: S, bound: Duration) -> Self {
        StallGuard {
            inner,
            bound,
            waiting: None,
        }
    }

    /// The timer runs only while a write waits, and starts anew with every byte taken.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.waiting = None;
            return poll;
        }
        let bound = self.bound;
        let timer = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(bound)));
        timer
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.watch(context, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.watch(context, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    // A TCP socket's flush is always ready, so it must not touch the timer of a waiting write.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_shutdown(context);
        self.watch(context, poll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime
            .expect("a runtime without sockets starts")
            .block_on(future)
    }

    #[test]
    fn a_reader_that_stops_is_given_up() {
        block_on(async {
            let (server, _client) = tokio::io::duplex(8);
            let mut guarded = StallGuard::new(server, Duration::from_millis(20));
            let error = guarded.write_all(&[0; 64]).await.expect_err("nobody reads");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn a_reader_that_reads_gets_everything() {
        block_on(async {
            let (server, mut client) = tokio::io::duplex(8);
            let mut guarded = StallGuard::new(server, Duration::from_secs(600));
            let mut received = vec![0; 4096];
            let (sent, read) = tokio::join!(
                async { guarded.write_all(&[7; 4096]).await },
                client.read_exact(&mut received)
            );
            assert!(sent.is_ok() && read.is_ok());
            assert!(received.iter().all(|byte| *byte == 7));
        });
    }
}
