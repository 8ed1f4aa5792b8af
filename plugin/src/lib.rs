//! The filter as Envoy loads it: a shell that carries bytes between the host and `farthing-core`
//! and decides nothing.
//!
//! Reading order: [`host`] is everything the host can do, [`effects`] applies what was decided,
//! [`embedded`] is what this build counts with, [`worker`] is what the streams of one worker share,
//! [`root`] configures, [`filter`] is one stream.

mod effects;
mod embedded;
mod filter;
mod host;
mod root;
mod worker;

use proxy_wasm::traits::RootContext;
use proxy_wasm::types::LogLevel;

proxy_wasm::main! {{
    // Also installs the panic hook that reports to Envoy's log; how much is shown, Envoy decides.
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|context_id| -> Box<dyn RootContext> {
        Box::new(root::Root::new(context_id))
    });
}}
