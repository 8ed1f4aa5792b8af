//! HTTP calls of the filter's own. The test answers them, or does not.

use super::Vm;
use super::guest::{self, Guest, Status, give, read, read_text, write_u32};
use super::state::{CalloutAnswer, Event, HostState};
use wasmtime::{Linker, Result};

const MODULE: &str = "env";
/// The map of the answer's headers in the ABI.
pub const RESPONSE_HEADERS: i32 = 6;
/// The buffer of the answer's body.
pub const RESPONSE_BODY: i32 = 4;

/// Envoy refuses a call to a cluster that it does not have; this one it never has.
pub const UNKNOWN_CLUSTER: &str = "no-such-cluster";

pub fn define(linker: &mut Linker<HostState>) -> Result<()> {
    linker.func_wrap(MODULE, "proxy_http_call", http_call)?;
    linker.func_wrap(MODULE, "proxy_get_header_map_value", header_map_value)?;
    Ok(())
}

// The ABI's own signature: cluster, headers, body, trailers, timeout, where the number goes.
#[allow(clippy::too_many_arguments)]
fn http_call(
    mut guest: Guest<'_>,
    cluster: i32,
    cluster_size: i32,
    headers: i32,
    headers_size: i32,
    _body: i32,
    _body_size: i32,
    _trailers: i32,
    _trailers_size: i32,
    timeout_ms: i32,
    callout_at: i32,
) -> i32 {
    guest.data_mut().called("proxy_http_call");
    let cluster = read_text(&mut guest, cluster, cluster_size);
    if cluster == UNKNOWN_CLUSTER {
        return Status::BadArgument as i32;
    }
    let headers = guest::decode_map(&read(&mut guest, headers, headers_size));
    let path = headers.iter().find(|(name, _)| name == ":path");
    let path = path.map_or_else(String::new, |(_, path)| {
        String::from_utf8_lossy(path).into_owned()
    });
    let state = guest.data_mut();
    if state.callouts_refused > 0 {
        state.callouts_refused -= 1;
        return Status::BadArgument as i32;
    }
    state.last_callout += 1;
    let callout = state.last_callout;
    state.open_callouts.push(callout);
    state.events.push(Event::Callout {
        callout,
        cluster,
        path,
        timeout_ms: timeout_ms as u32,
    });
    write_u32(&mut guest, callout_at, callout);
    Status::Ok as i32
}

fn header_map_value(
    mut guest: Guest<'_>,
    map: i32,
    name: i32,
    name_size: i32,
    address_at: i32,
    size_at: i32,
) -> i32 {
    guest.data_mut().called("proxy_get_header_map_value");
    let name = read_text(&mut guest, name, name_size);
    let Some(map) = guest.data_mut().map(map) else {
        return Status::BadArgument as i32;
    };
    let found = map.iter().find(|(present, _)| *present == name);
    let Some(value) = found.map(|(_, value)| value.clone()) else {
        return Status::NotFound as i32;
    };
    give(&mut guest, &value, address_at, size_at);
    Status::Ok as i32
}

impl Vm {
    /// The calls that have not been answered, oldest first.
    pub fn open_callouts(&mut self) -> Vec<u32> {
        self.state().open_callouts.clone()
    }

    /// The host refuses so many calls, as it does where it knows no such cluster.
    pub fn refuse_callouts(&mut self, count: u32) {
        self.state().callouts_refused = count;
    }

    /// The answer to a call has come, or, without one, will not come.
    pub fn on_http_call_response(&mut self, callout: u32, answer: Option<CalloutAnswer>) {
        let (headers, body_bytes) = answer.as_ref().map_or((0, 0), |answer| {
            (answer.headers.len() as i32, answer.body.len() as i32)
        });
        let state = self.state();
        // The SDK knows each once.
        state.open_callouts.retain(|open| *open != callout);
        state.callout_answer = answer;
        let root = super::ROOT;
        self.call::<(i32, i32, i32, i32, i32), ()>(
            "proxy_on_http_call_response",
            root,
            (root as i32, callout as i32, headers, body_bytes, 0),
        );
        self.state().callout_answer = None;
    }
}
