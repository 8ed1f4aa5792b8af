//! A filter that traps where a request says so, for tests of what a trap does to everybody else:
//! the root of a crate of its own, which wraps the filter as it is shipped.

mod effects;
mod embedded;
mod filter;
mod held_headers;
mod host;
mod root;
mod worker;

use host::Message;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

/// The request header that says where to trap: the name of a callback, to do so in the place of its
/// work, or `after` and that name. The answer to a callout is poisoned by beginning with this.
const MARK: &str = "x-poison";

#[cfg(target_family = "wasm")]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|context_id| -> Box<dyn RootContext> {
        Box::new(Root::new(context_id))
    });
}}

/// The root context, whose streams can be poisoned.
struct Root {
    inner: root::Root,
}

impl Root {
    fn new(context_id: u32) -> Root {
        Root {
            inner: root::Root::new(context_id),
        }
    }
}

impl Context for Root {
    fn on_http_call_response(
        &mut self,
        callout: u32,
        headers: usize,
        body_bytes: usize,
        trailers: usize,
    ) {
        if body_bytes > 0 && host::callout_body(body_bytes).starts_with(MARK.as_bytes()) {
            trap("callout");
        }
        self.inner
            .on_http_call_response(callout, headers, body_bytes, trailers);
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, plugin_configuration_size: usize) -> bool {
        self.inner.on_configure(plugin_configuration_size)
    }

    fn on_tick(&mut self) {
        self.inner.on_tick();
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        let inner = self.inner.create_http_context(context_id)?;
        let place = String::new();
        Some(Box::new(Stream { inner, place }))
    }

    fn get_type(&self) -> Option<ContextType> {
        self.inner.get_type()
    }
}

/// A stream that traps where its request says so.
struct Stream {
    inner: Box<dyn HttpContext>,
    /// What the request says; empty where it says nothing.
    place: String,
}

impl Stream {
    fn before(&self, callback: &str) {
        if self.place == callback {
            trap(callback);
        }
    }

    fn after(&self, callback: &str) {
        if self.place.strip_prefix("after ") == Some(callback) {
            trap(callback);
        }
    }
}

impl Context for Stream {
    fn on_done(&mut self) -> bool {
        self.before("done");
        let done = self.inner.on_done();
        self.after("done");
        done
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, count: usize, end_of_stream: bool) -> Action {
        let headers = host::headers(Message::Request);
        let marked = headers.into_iter().find(|(name, _)| name == MARK);
        if let Some((_, place)) = marked {
            self.place = String::from_utf8_lossy(&place).into_owned();
        }
        self.before("request_headers");
        let action = self.inner.on_http_request_headers(count, end_of_stream);
        self.after("request_headers");
        action
    }

    /// After its work means after the decision, for which the body must be whole.
    fn on_http_request_body(&mut self, held_bytes: usize, end_of_stream: bool) -> Action {
        self.before("request_body");
        let action = self.inner.on_http_request_body(held_bytes, end_of_stream);
        if end_of_stream {
            self.after("request_body");
        }
        action
    }

    fn on_http_request_trailers(&mut self, count: usize) -> Action {
        self.inner.on_http_request_trailers(count)
    }

    fn on_http_response_headers(&mut self, count: usize, end_of_stream: bool) -> Action {
        self.before("response_headers");
        let action = self.inner.on_http_response_headers(count, end_of_stream);
        self.after("response_headers");
        action
    }

    fn on_http_response_body(&mut self, held_bytes: usize, end_of_stream: bool) -> Action {
        self.before("response_body");
        let action = self.inner.on_http_response_body(held_bytes, end_of_stream);
        if end_of_stream {
            self.after("response_body");
        }
        action
    }

    fn on_http_response_trailers(&mut self, count: usize) -> Action {
        self.inner.on_http_response_trailers(count)
    }

    fn on_log(&mut self) {
        self.before("log");
        self.inner.on_log();
        self.after("log");
    }
}

/// What a defect would do. Envoy's log then tells which poison it was.
#[expect(clippy::panic, reason = "a trap is what this file is for")]
fn trap(place: &str) -> ! {
    panic!("poisoned in {place}")
}
