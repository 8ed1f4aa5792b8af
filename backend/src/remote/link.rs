//! The thread with the connection, and how it is asked.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Pipeline, RedisError, Value};
use farthing_core::limits::{REDIS_COMMANDS_MAX, REDIS_CONNECT_MS};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

use super::connection::{Dialer, Moving};
use super::standing::{LinkRow, Standing};
use super::{Failure, backoff, command};
use crate::config::RedisConfig;
use crate::error::BackendError;
use crate::server::log;

/// To find an address, connect and log in, and to answer a ping.
const CONNECT: Duration = Duration::from_millis(REDIS_CONNECT_MS);

/// The way to one Redis. It ends when it is dropped.
pub struct Link {
    standing: Arc<Standing>,
    timeout: Duration,
    /// Taken on drop: its end is the thread's.
    asks: Option<Sender<Ask>>,
    thread: Option<JoinHandle<()>>,
}

/// Commands, and who waits for their answers.
struct Ask {
    commands: Pipeline,
    answer: SyncSender<Result<Vec<Value>, RedisError>>,
}

/// The thread.
struct Keeper {
    url: String,
    dialer: Dialer,
    standing: Arc<Standing>,
    asks: Receiver<Ask>,
}

/// Why a connection is no longer used.
enum Ended {
    /// Nobody will ask any more.
    Unused,
    Lost(&'static str),
}

// === impl Link ===

impl Link {
    /// Starts connecting, in the background: a Redis that is not there is only missed.
    ///
    /// # Errors
    /// The password or the certificates cannot be read; there is no thread to be had.
    pub fn start(config: &RedisConfig) -> Result<Link, BackendError> {
        let standing = Arc::new(Standing::default());
        let (asks, queue) = channel(REDIS_COMMANDS_MAX);
        let keeper = Keeper {
            url: config.url.to_string(),
            dialer: Dialer::new(config)?,
            standing: Arc::clone(&standing),
            asks: queue,
        };
        let io = |source| BackendError::Io {
            what: "the thread for Redis".to_owned(),
            source,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // For names, one look-up at a time.
            .max_blocking_threads(1)
            .build()
            .map_err(io)?;
        let thread = std::thread::Builder::new().name("redis".to_owned());
        let thread = thread.spawn(move || {
            runtime.block_on(keeper.run());
            // A look-up of a name may hang for longer than anybody would wait for.
            runtime.shutdown_background();
        });
        Ok(Link {
            standing,
            timeout: config.timeout(),
            asks: Some(asks),
            thread: Some(thread.map_err(io)?),
        })
    }

    /// How long a request may wait for an answer.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// May it be asked? Where it may not, asking fails at once.
    pub fn is_up(&self) -> bool {
        self.standing.is_up()
    }

    /// The number of the connection, if there is one: another one may be to another server.
    pub fn connection(&self) -> Option<u64> {
        self.standing.connection()
    }

    /// Sends commands and waits for their answers, so long at most. Not to be called on a thread
    /// that moves bytes.
    ///
    /// # Errors
    /// There is no answer, or one of the commands is refused.
    pub fn ask(&self, commands: Pipeline, wait: Duration) -> Result<Vec<Value>, Failure> {
        if !self.is_up() {
            return Err(Failure::Away);
        }
        let (answer, answered) = sync_channel(1);
        let asks = self.asks.as_ref().ok_or(Failure::Away)?;
        let asked = asks.try_send(Ask { commands, answer });
        asked.map_err(|_| Failure::Away)?;
        match answered.recv_timeout(wait) {
            Ok(answer) => answer.map_err(|error| Failure::of(&error)),
            Err(RecvTimeoutError::Disconnected) => Err(Failure::Away),
            Err(RecvTimeoutError::Timeout) => {
                self.standing.doubt();
                Err(Failure::Late)
            }
        }
    }

    /// What is counted.
    pub fn rows(&self) -> [LinkRow; 3] {
        self.standing.rows()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        drop(self.asks.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// === impl Keeper ===

impl Keeper {
    async fn run(mut self) {
        let mut attempts = 0;
        loop {
            let reason = match timeout(CONNECT, self.dialer.connect()).await {
                Ok(Ok((connection, moving))) => {
                    log::event("redis_connected", &[("url", &self.url)]);
                    attempts = 0;
                    self.standing.connected();
                    let ended = self.serve(connection, moving).await;
                    self.standing.lost();
                    match ended {
                        Ended::Unused => return,
                        Ended::Lost(reason) => reason.to_owned(),
                    }
                }
                Ok(Err(reason)) => reason,
                Err(_) => "it does not answer".to_owned(),
            };
            // One line for each time that it goes, however long it is gone.
            if attempts == 0 {
                let fields: [(&str, &dyn std::fmt::Display); 2] =
                    [("url", &self.url), ("reason", &reason)];
                log::event("redis_unreachable", &fields);
            }
            let mut drawn = [0; 8];
            let _ = getrandom::fill(&mut drawn);
            let pause = backoff::pause(attempts, u64::from_le_bytes(drawn));
            attempts += 1;
            if self.is_unused_within(pause).await {
                return;
            }
        }
    }

    /// Sends what is asked until the connection is of no use.
    async fn serve(&mut self, connection: MultiplexedConnection, moving: Moving) -> Ended {
        let mut moving = tokio::spawn(moving);
        let ended = loop {
            tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(ask) => drop(tokio::spawn(ask.send(connection.clone()))),
                    None => break Ended::Unused,
                },
                () = self.standing.doubted.notified() => {
                    if !answers(connection.clone()).await {
                        break Ended::Lost("it does not answer");
                    }
                    self.standing.trust();
                }
                _ = &mut moving => break Ended::Lost("it closed the connection"),
            }
        };
        // Whoever still waits for an answer of it learns that none will come.
        moving.abort();
        ended
    }

    /// Waits, and says whether nobody will ask any more.
    async fn is_unused_within(&mut self, pause: Duration) -> bool {
        let unused = async {
            // What was asked just before the connection was lost gets no answer.
            while self.asks.recv().await.is_some() {}
        };
        timeout(pause, unused).await.is_ok()
    }
}

impl Ask {
    async fn send(self, mut connection: MultiplexedConnection) {
        let answer = self.commands.query_async(&mut connection).await;
        // Nobody may be waiting any more.
        let _ = self.answer.send(answer);
    }
}

/// Does it answer a ping?
async fn answers(mut connection: MultiplexedConnection) -> bool {
    let ping = command("PING", &[]);
    let pong = timeout(CONNECT, ping.query_async::<Vec<Value>>(&mut connection)).await;
    matches!(pong, Ok(Ok(_)))
}
