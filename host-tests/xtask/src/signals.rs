//! SIGINT, SIGTERM and SIGHUP end a command early but tidily.
//!
//! The first signal is noted, and the work ends at its next look at [`Interrupt::check`], which
//! stops every part on the way out. Work that does not look in time, or a second signal, ends the
//! process at once; the leashes of the child processes then end the children.

use crate::error::XtaskError;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How long work may take to notice a signal.
const NOTICE_WITHIN: Duration = Duration::from_secs(10);
/// How often work on another thread and the signals are looked at.
const POLL: Duration = Duration::from_millis(20);

/// Tells whether a signal has asked us to end.
#[derive(Clone)]
pub struct Interrupt {
    received: Arc<AtomicI32>,
}

impl Interrupt {
    /// Starts to listen for signals. Called once, by `main`.
    pub fn watch() -> Result<Interrupt, XtaskError> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(XtaskError::io("cannot listen for signals"))?;
        let received = Arc::new(AtomicI32::new(0));
        let noted = Arc::clone(&received);
        thread::spawn(move || {
            for signal in signals.forever() {
                if noted.swap(signal, Ordering::SeqCst) != 0 {
                    process::exit(128 + signal);
                }
                thread::spawn(move || {
                    thread::sleep(NOTICE_WITHIN);
                    process::exit(128 + signal);
                });
            }
        });
        Ok(Interrupt { received })
    }

    /// An error once a signal has arrived.
    pub fn check(&self) -> Result<(), XtaskError> {
        let (name, number) = match self.received.load(Ordering::SeqCst) {
            0 => return Ok(()),
            SIGINT => ("SIGINT", 2),
            SIGHUP => ("SIGHUP", 1),
            _ => ("SIGTERM", 15),
        };
        Err(XtaskError::Interrupted { name, number })
    }

    /// Runs blocking `work` and waits for it or a signal. After a signal the work is left to its
    /// thread, which ends with the process.
    pub fn race<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, XtaskError> {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(work()));
        loop {
            match receiver.recv_timeout(POLL) {
                Ok(value) => return Ok(value),
                Err(RecvTimeoutError::Timeout) => self.check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(XtaskError::Unexpected(
                        "a thread of ours panicked".to_string(),
                    ));
                }
            }
        }
    }
}
