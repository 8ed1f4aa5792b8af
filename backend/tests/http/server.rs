//! Servers for tests: the real one, in this process, on a port of the system's choice.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use farthing_backend::cli::ServeArgs;
use farthing_backend::config::Config;
use farthing_backend::server::{self, Drained, State};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::client::{Connection, Reply};

pub const CHAT: &str = "smollm2-135m-instruct";
pub const EMBEDDING: &str = "all-MiniLM-L6-v2";

/// The models of these tests, from the cheapest start.
const CONFIG: &str = "
models:
- {id: smollm2-135m-instruct, path: smollm2-135m-instruct.gguf}
- {id: all-MiniLM-L6-v2, path: all-MiniLM-L6-v2}
threads: 2
";

/// One running server.
pub struct Server {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Drained>>,
}

impl Server {
    /// Starts a server; `more` is YAML that follows the models.
    #[track_caller]
    pub fn start(more: &str) -> Server {
        let models = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.farthing/models"));
        let args = ServeArgs {
            models: Some(models),
            ..ServeArgs::default()
        };
        let config = Config::parse(&format!("{CONFIG}{more}"), &args)
            .expect("`cargo xtask test` has fetched the models");
        Server::serve(config)
    }

    /// Starts a server of this whole configuration, without a folder for models.
    #[allow(dead_code, reason = "the tests of providers use it")]
    #[track_caller]
    pub fn of(yaml: &str) -> Server {
        let config = Config::parse(yaml, &ServeArgs::default());
        Server::serve(config.unwrap_or_else(|error| panic!("{error}")))
    }

    #[track_caller]
    fn serve(config: Config) -> Server {
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let state = Arc::new(State::load(config).expect("the pinned models load"));
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime starts");
            let drained = runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let _ = bound.send(listener.local_addr().expect("it is bound"));
                let shutdown = async { drop(stopped.await) };
                server::run(listener, Arc::clone(&state), shutdown).await
            });
            state.engine.shutdown();
            drained
        });
        let address = address.recv().expect("the server starts");
        Server {
            address,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// The server that most tests share.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Server::start(""))
    }

    /// Tells it to stop, as a signal would.
    pub fn begin_shutdown(&mut self) {
        drop(self.stop.take());
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Drained {
        self.begin_shutdown();
        let thread = self.thread.take().expect("it is ended once");
        thread.join().expect("the server does not panic")
    }

    /// Sends one request on a new connection and reads the answer.
    #[track_caller]
    pub fn ask(&self, request: &[u8]) -> Reply {
        let mut connection = Connection::open(self.address);
        connection.send(request);
        connection
            .reply()
            .expect("an answer before the connection closes")
    }

    /// One number of the chat model in `/metrics`.
    #[track_caller]
    pub fn engine_metric(&self, name: &str) -> u64 {
        self.metric(&format!("{name}{{model=\"{CHAT}\"}}"))
    }

    /// One number of `/metrics`, its labels included in `name`.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let page = self.ask(&super::client::get("/metrics")).text();
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{name} in {page}"))
    }
}
