//! Whether a thread still lives, seen from outside: a channel that closes when the thread ends, by
//! returning or by a panic.

use tokio::sync::watch;

/// One thread as others see it.
#[derive(Debug, Clone)]
pub struct Liveness(watch::Receiver<()>);

/// What the thread holds for as long as it lives.
pub struct Life {
    _held: watch::Sender<()>,
}

/// A pair for one thread that is about to start.
pub fn liveness() -> (Life, Liveness) {
    let (held, seen) = watch::channel(());
    (Life { _held: held }, Liveness(seen))
}

impl Liveness {
    /// Whether the thread has not ended.
    pub fn is_alive(&self) -> bool {
        self.0.has_changed().is_ok()
    }

    /// Waits for the thread's end.
    pub async fn ended(mut self) {
        // Nothing is ever sent, so this is an error, the end, or still waits.
        while self.0.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_has_ended() {
        let (life, liveness) = liveness();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let _life = life;
            wait.recv().expect("the sender is dropped on purpose");
        });
        assert!(liveness.is_alive());
        drop(go);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime
            .expect("a bare runtime starts")
            .block_on(liveness.clone().ended());
        assert!(!liveness.is_alive());
        assert!(thread.join().is_err());
    }
}
