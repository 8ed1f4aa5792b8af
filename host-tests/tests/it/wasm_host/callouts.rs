//! Requests that the filter makes itself. They are answered when the test says so.

use super::guest::{Guest, Status, give, read_text, write_u32};
use super::state::{CalloutAnswer, HostState};
use super::{ROOT, Vm};
use wasmtime::{Linker, Result};

const MODULE: &str = "env";

pub fn define(linker: &mut Linker<HostState>) -> Result<()> {
    linker.func_wrap(MODULE, "proxy_http_call", http_call)?;
    linker.func_wrap(MODULE, "proxy_get_header_map_value", header_map_value)?;
    Ok(())
}

impl Vm {
    /// The callouts that have not been answered, oldest first.
    pub fn open_callouts(&mut self) -> Vec<u32> {
        self.state().open_callouts.clone()
    }

    /// The host refuses so many callouts, as it does where it knows no such cluster.
    pub fn refuse_callouts(&mut self, count: u32) {
        self.state().callouts_refused = count;
    }

    /// Something comes of a callout. The SDK knows each once.
    pub fn on_callout(&mut self, callout: u32, answer: CalloutAnswer) {
        let state = self.state();
        let open = &mut state.open_callouts;
        let position = open.iter().position(|open| *open == callout);
        open.remove(position.expect("the callout is open"));
        let sizes = (answer.headers.len() as i32, answer.body.len() as i32);
        state.callout_answer = Some(answer);
        self.call::<(i32, i32, i32, i32, i32), ()>(
            "proxy_on_http_call_response",
            ROOT,
            (ROOT as i32, callout as i32, sizes.0, sizes.1, 0),
        );
        self.state().callout_answer = None;
    }
}

// The ABI's own signature: cluster, headers, body, trailers, timeout, and where the number goes.
#[allow(clippy::too_many_arguments)]
fn http_call(
    mut guest: Guest<'_>,
    _cluster: i32,
    _cluster_size: i32,
    _headers: i32,
    _headers_size: i32,
    _body: i32,
    _body_size: i32,
    _trailers: i32,
    _trailers_size: i32,
    _timeout_ms: i32,
    number_at: i32,
) -> i32 {
    let state = guest.data_mut();
    if state.callouts_refused > 0 {
        state.callouts_refused -= 1;
        return Status::BadArgument as i32;
    }
    state.callouts += 1;
    let number = state.callouts;
    state.open_callouts.push(number);
    write_u32(&mut guest, number_at, number);
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
    let name = read_text(&mut guest, name, name_size);
    let Some(map) = guest.data_mut().map(map) else {
        return Status::BadArgument as i32;
    };
    let Some((_, value)) = map.iter().find(|(present, _)| *present == name) else {
        return Status::NotFound as i32;
    };
    let value = value.clone();
    give(&mut guest, &value, address_at, size_at);
    Status::Ok as i32
}
