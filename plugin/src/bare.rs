//! A filter that carries what the shipped one carries and decides nothing, as benchmarks show it
//! beside that: the least that a filter of this kind can cost. It holds each message until it is
//! whole, reads its headers and its body, sets as many headers as the shipped one, and writes the
//! request anew.

#[allow(
    dead_code,
    reason = "the shipped filter's calls into the host, of which this one makes some"
)]
mod host;

use host::Message;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

#[cfg(target_family = "wasm")]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();

/// What a request gets, values about as long as the shipped filter's; the first routes it.
const TO_UPSTREAM: [(&str, &str); 6] = [
    ("x-farthing-cluster", "backend"),
    ("x-farthing-tier", "small"),
    ("x-farthing-prompt-tokens", "1000"),
    (
        "x-farthing-request-id",
        "0a0d4bd4-c5bd-4e6a-a2bb-d1d35ad4a8a8",
    ),
    ("x-farthing-prefix", "00112233445566778899aabbccddeeff"),
    (
        "x-farthing-tenant",
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    ),
];

/// The same for an answer.
const TO_CLIENT: [(&str, &str); 8] = [
    ("x-farthing-answered-by", "bare"),
    ("x-farthing-model", "smollm2-135m-instruct"),
    ("x-farthing-tier", "small"),
    ("x-farthing-prompt-tokens", "1000"),
    ("x-farthing-tokens-basis", "estimated"),
    ("x-farthing-cost-usd", "0.000020320"),
    ("x-farthing-saved-usd", "0.000132180"),
    (
        "x-farthing-request-id",
        "0a0d4bd4-c5bd-4e6a-a2bb-d1d35ad4a8a8",
    ),
];

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root) });
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream;

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let _headers = host::headers(Message::Request);
        hold(Message::Request, &TO_UPSTREAM, end_of_stream)
    }

    fn on_http_request_body(&mut self, held_bytes: usize, end_of_stream: bool) -> Action {
        if end_of_stream {
            let body = host::body(Message::Request, held_bytes);
            host::replace_body(Message::Request, held_bytes, &body);
        }
        hold(Message::Request, &TO_UPSTREAM, end_of_stream)
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let _headers = host::headers(Message::Response);
        hold(Message::Response, &TO_CLIENT, end_of_stream)
    }

    fn on_http_response_body(&mut self, held_bytes: usize, end_of_stream: bool) -> Action {
        if end_of_stream {
            let _body = host::body(Message::Response, held_bytes);
        }
        hold(Message::Response, &TO_CLIENT, end_of_stream)
    }
}

/// Holds a message until it is whole, and lets it go with these headers.
fn hold(message: Message, headers: &[(&str, &str)], end_of_stream: bool) -> Action {
    if !end_of_stream {
        return Action::Pause;
    }
    for (name, value) in headers {
        host::set_header(message, name, value);
    }
    Action::Continue
}
