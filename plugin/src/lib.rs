//! The filter as Envoy loads it: a shell that carries bytes between the host and `farthing-core`
//! and decides nothing.
//!
//! Reading order: [`host`] is everything the host can do, [`effects`] applies what was decided,
//! [`held_headers`] to headers,
//! [`embedded`] is what this build counts with, [`worker`] is what the streams of one worker share,
//! [`root`] configures, [`filter`] is one stream.

mod effects;
mod embedded;
mod filter;
mod held_headers;
mod host;
mod root;
mod worker;

use proxy_wasm::traits::RootContext;
use proxy_wasm::types::LogLevel;

/// A request takes many small pieces of memory, and the C library's allocator is slow at them.
#[cfg(target_family = "wasm")]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();

proxy_wasm::main! {{
    // Also installs the panic hook that reports to Envoy's log; how much is shown, Envoy decides.
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|context_id| -> Box<dyn RootContext> {
        Box::new(root::Root::new(context_id))
    });
}}
