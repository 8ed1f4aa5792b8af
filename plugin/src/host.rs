//! Every call into the host, and nothing else. A call that the host refuses is a trap in the SDK
//! and ends every stream of the worker, so each function says when it may be called.

use farthing_core::exchange::LocalReply;
use farthing_core::metrics::Kind;
use farthing_core::store::{CasMismatch, SharedStore};
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, LogLevel, MapType, MetricType};
use std::time::{Duration, UNIX_EPOCH};

/// Which message of a stream is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    Request,
    Response,
}

impl Message {
    fn map(self) -> MapType {
        match self {
            Message::Request => MapType::HttpRequestHeaders,
            Message::Response => MapType::HttpResponseHeaders,
        }
    }

    fn buffer(self) -> BufferType {
        match self {
            Message::Request => BufferType::HttpRequestBody,
            Message::Response => BufferType::HttpResponseBody,
        }
    }
}

/// Envoy's shared data: all workers of a process see it.
pub struct SharedData;

impl SharedStore for SharedData {
    fn get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        let (value, cas) = hostcalls::get_shared_data(key).ok()?;
        Some((value?, cas.unwrap_or(0)))
    }

    fn set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch> {
        hostcalls::set_shared_data(key, Some(value), cas).map_err(|_| CasMismatch)
    }
}

/// Nanoseconds since 1970 by the host's clock; 0 should it be before that.
pub fn now_unix_ns() -> u64 {
    hostcalls::get_current_time()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .and_then(|elapsed| u64::try_from(elapsed.as_nanos()).ok())
        .unwrap_or(0)
}

/// The bytes of the plugin configuration. Only during `on_configure`.
pub fn plugin_configuration(size: usize) -> Vec<u8> {
    read(BufferType::PluginConfiguration, size)
}

/// All headers of a message. Only in the callbacks of that message, once its headers are there.
pub fn headers(message: Message) -> Vec<(String, Vec<u8>)> {
    hostcalls::get_map_bytes(message.map()).unwrap_or_default()
}

/// Replaces every value of a header. Only while the message's headers are held.
pub fn set_header(message: Message, name: &str, value: &str) {
    let _ = hostcalls::set_map_value(message.map(), name, Some(value));
}

/// Removes a header. Only while the message's headers are held.
pub fn remove_header(message: Message, name: &str) {
    let _ = hostcalls::remove_map_value(message.map(), name);
}

/// The first `size` bytes that the host holds of a body. Only in body and trailer callbacks.
pub fn body(message: Message, size: usize) -> Vec<u8> {
    read(message.buffer(), size)
}

/// Replaces the `size` bytes that the host holds of a body. Only in a callback with such bytes.
pub fn replace_body(message: Message, size: usize, with: &[u8]) {
    let _ = hostcalls::set_buffer(message.buffer(), 0, size, with);
}

/// Sets a property of the stream, which Envoy keeps as its filter state `wasm.NAME`. In any
/// callback of a stream, `on_log` included: Envoy calls that before it writes its access logs.
pub fn set_filter_state(name: &str, value: &str) {
    let _ = hostcalls::set_property(vec![name], Some(value.as_bytes()));
}

/// Answers the client. At most once a stream: the host refuses a second reply.
pub fn reply(reply: &LocalReply) {
    let headers = reply
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let _ = hostcalls::send_http_response(u32::from(reply.status), headers, Some(&reply.body));
}

/// Sends a GET to a cluster from the root context; `None` if the host refuses to, as it does where
/// it knows no such cluster.
pub fn get(cluster: &str, path: &str, timeout: Duration) -> Option<u32> {
    let headers = vec![
        (":method", "GET"),
        (":path", path),
        (":authority", cluster),
        ("accept", "application/octet-stream"),
    ];
    hostcalls::dispatch_http_call(cluster, headers, None, vec![], timeout).ok()
}

/// The status of the answer to a callout. Only in its callback, if it came with headers.
pub fn callout_status() -> Vec<u8> {
    hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, ":status")
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// The body of the answer to a callout. Only in its callback, if it came with such a body.
pub fn callout_body(size: usize) -> Vec<u8> {
    read(BufferType::HttpCallResponseBody, size)
}

/// Lets the held request of a stream go on, from a callback of another context.
pub fn resume_request(stream: u32) {
    if hostcalls::set_effective_context(stream).is_ok() {
        let _ = hostcalls::resume_http_request();
    }
}

/// Makes the following calls about this context. It must exist.
pub fn act_for(context: u32) {
    let _ = hostcalls::set_effective_context(context);
}

/// Calls `on_tick` of this context at this interval from now on; zero ends it.
pub fn set_tick_interval(interval: Duration) {
    let _ = hostcalls::set_tick_period(interval);
}

/// Registers a metric; every worker that registers a name gets the same one.
pub fn define_metric(kind: Kind, name: &str) -> Option<u32> {
    let kind = match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    hostcalls::define_metric(kind, name).ok()
}

/// Adds to a counter.
pub fn increment_metric(id: u32, amount: u64) {
    let _ = hostcalls::increment_metric(id, i64::try_from(amount).unwrap_or(i64::MAX));
}

/// Sets a gauge.
pub fn record_metric(id: u32, value: u64) {
    let _ = hostcalls::record_metric(id, value);
}

/// Writes a line to Envoy's log.
pub fn log(level: LogLevel, message: &str) {
    let _ = hostcalls::log(level, message);
}

fn read(buffer: BufferType, size: usize) -> Vec<u8> {
    hostcalls::get_buffer(buffer, 0, size)
        .ok()
        .flatten()
        .unwrap_or_default()
}
