//! The proxy-wasm 0.2.1 imports that the filter uses, with Envoy's refusals.

use super::guest::{self, Guest, Status, give, read, read_text, write, write_u32};
use super::state::{Event, HostState, Metric};
use wasmtime::{Linker, Result};

const MODULE: &str = "env";
/// `proxy_get_log_level`: everything is shown.
const LOG_LEVEL_TRACE: u32 = 0;

pub fn define(linker: &mut Linker<HostState>) -> Result<()> {
    linker.func_wrap(MODULE, "proxy_log", log)?;
    linker.func_wrap(
        MODULE,
        "proxy_get_log_level",
        |mut guest: Guest<'_>, at: i32| {
            guest.data_mut().called("proxy_get_log_level");
            write_u32(&mut guest, at, LOG_LEVEL_TRACE);
            Status::Ok as i32
        },
    )?;
    linker.func_wrap(
        MODULE,
        "proxy_get_current_time_nanoseconds",
        |mut guest: Guest<'_>, at: i32| {
            guest
                .data_mut()
                .called("proxy_get_current_time_nanoseconds");
            let now = guest.data().now_unix_ns;
            write(&mut guest, at, &now.to_le_bytes());
            Status::Ok as i32
        },
    )?;
    linker.func_wrap(
        MODULE,
        "proxy_set_tick_period_milliseconds",
        set_tick_period,
    )?;
    linker.func_wrap(MODULE, "proxy_get_buffer_bytes", buffer_bytes)?;
    linker.func_wrap(MODULE, "proxy_set_buffer_bytes", set_buffer_bytes)?;
    linker.func_wrap(MODULE, "proxy_get_header_map_pairs", header_map_pairs)?;
    linker.func_wrap(MODULE, "proxy_set_header_map_pairs", set_header_map_pairs)?;
    linker.func_wrap(MODULE, "proxy_replace_header_map_value", replace_header)?;
    linker.func_wrap(MODULE, "proxy_remove_header_map_value", remove_header)?;
    linker.func_wrap(MODULE, "proxy_get_shared_data", shared_data)?;
    linker.func_wrap(MODULE, "proxy_set_shared_data", set_shared_data)?;
    linker.func_wrap(MODULE, "proxy_set_property", set_property)?;
    linker.func_wrap(MODULE, "proxy_send_local_response", send_local_response)?;
    linker.func_wrap(MODULE, "proxy_continue_stream", continue_stream)?;
    linker.func_wrap(MODULE, "proxy_set_effective_context", set_effective_context)?;
    linker.func_wrap(MODULE, "proxy_define_metric", define_metric)?;
    linker.func_wrap(MODULE, "proxy_increment_metric", increment_metric)?;
    linker.func_wrap(MODULE, "proxy_record_metric", record_metric)?;
    Ok(())
}

fn log(mut guest: Guest<'_>, level: i32, address: i32, size: i32) -> i32 {
    guest.data_mut().called("proxy_log");
    let message = read_text(&mut guest, address, size);
    guest.data_mut().events.push(Event::Log {
        level: level as u32,
        message,
    });
    Status::Ok as i32
}

fn set_tick_period(mut guest: Guest<'_>, milliseconds: i32) -> i32 {
    guest
        .data_mut()
        .called("proxy_set_tick_period_milliseconds");
    let milliseconds = milliseconds as u32;
    let state = guest.data_mut();
    state.tick_period_ms = milliseconds;
    state.events.push(Event::TickPeriod { milliseconds });
    Status::Ok as i32
}

fn buffer_bytes(
    mut guest: Guest<'_>,
    buffer: i32,
    start: i32,
    size: i32,
    address_at: i32,
    size_at: i32,
) -> i32 {
    guest.data_mut().called("proxy_get_buffer_bytes");
    let Some(bytes) = guest.data_mut().buffer(buffer) else {
        return Status::NotFound as i32;
    };
    let start = (start as u32 as usize).min(bytes.len());
    let end = start.saturating_add(size as u32 as usize).min(bytes.len());
    let part = bytes[start..end].to_vec();
    give(&mut guest, &part, address_at, size_at);
    Status::Ok as i32
}

fn set_buffer_bytes(
    mut guest: Guest<'_>,
    buffer: i32,
    start: i32,
    size: i32,
    address: i32,
    new_size: i32,
) -> i32 {
    guest.data_mut().called("proxy_set_buffer_bytes");
    let new = read(&mut guest, address, new_size);
    // Envoy knows three forms (prepend, append, replace all); the filter only ever replaces all.
    match guest.data_mut().buffer(buffer) {
        Some(bytes) if start == 0 && size as u32 as usize >= bytes.len() => {
            *bytes = new;
            Status::Ok as i32
        }
        _ => Status::BadArgument as i32,
    }
}

fn header_map_pairs(mut guest: Guest<'_>, map: i32, address_at: i32, size_at: i32) -> i32 {
    guest.data_mut().called("proxy_get_header_map_pairs");
    let Some(map) = guest.data_mut().map(map) else {
        return Status::BadArgument as i32;
    };
    let bytes = guest::encode_map(map);
    give(&mut guest, &bytes, address_at, size_at);
    Status::Ok as i32
}

fn set_header_map_pairs(mut guest: Guest<'_>, map: i32, address: i32, size: i32) -> i32 {
    guest.data_mut().called("proxy_set_header_map_pairs");
    let new = guest::decode_map(&read(&mut guest, address, size));
    let Some(map) = guest.data_mut().map(map) else {
        return Status::BadArgument as i32;
    };
    *map = new;
    Status::Ok as i32
}

fn replace_header(
    mut guest: Guest<'_>,
    map: i32,
    name: i32,
    name_size: i32,
    value: i32,
    value_size: i32,
) -> i32 {
    guest.data_mut().called("proxy_replace_header_map_value");
    let name = read_text(&mut guest, name, name_size);
    let value = read(&mut guest, value, value_size);
    let Some(map) = guest.data_mut().map(map) else {
        return Status::BadArgument as i32;
    };
    match map.iter().position(|(present, _)| *present == name) {
        Some(first) => {
            let mut position = 0;
            map.retain(|(present, _)| {
                position += 1;
                *present != name || position == first + 1
            });
            map[first].1 = value;
        }
        None => map.push((name, value)),
    }
    Status::Ok as i32
}

fn remove_header(mut guest: Guest<'_>, map: i32, name: i32, name_size: i32) -> i32 {
    guest.data_mut().called("proxy_remove_header_map_value");
    let name = read_text(&mut guest, name, name_size);
    let Some(map) = guest.data_mut().map(map) else {
        return Status::BadArgument as i32;
    };
    map.retain(|(present, _)| *present != name);
    Status::Ok as i32
}

fn shared_data(
    mut guest: Guest<'_>,
    key: i32,
    key_size: i32,
    address_at: i32,
    size_at: i32,
    cas_at: i32,
) -> i32 {
    guest.data_mut().called("proxy_get_shared_data");
    let key = read(&mut guest, key, key_size);
    let Some((value, cas)) = guest.data().shared.get(&key) else {
        return Status::NotFound as i32;
    };
    give(&mut guest, &value, address_at, size_at);
    write_u32(&mut guest, cas_at, cas);
    Status::Ok as i32
}

fn set_shared_data(
    mut guest: Guest<'_>,
    key: i32,
    key_size: i32,
    value: i32,
    value_size: i32,
    cas: i32,
) -> i32 {
    guest.data_mut().called("proxy_set_shared_data");
    let key = read(&mut guest, key, key_size);
    let value = read(&mut guest, value, value_size);
    match guest.data().shared.set(&key, value, cas as u32) {
        true => Status::Ok as i32,
        false => Status::CasMismatch as i32,
    }
}

/// Envoy keeps a property with its stream; a call about none is refused.
fn set_property(mut guest: Guest<'_>, path: i32, path_size: i32, value: i32, size: i32) -> i32 {
    guest.data_mut().called("proxy_set_property");
    let path = read_text(&mut guest, path, path_size);
    let value = read_text(&mut guest, value, size);
    let state = guest.data_mut();
    if state.stream().is_none() {
        return Status::NotFound as i32;
    }
    state.events.push(Event::Property { path, value });
    Status::Ok as i32
}

// The ABI's own signature: status, details, body, headers, gRPC status.
#[allow(clippy::too_many_arguments)]
fn send_local_response(
    mut guest: Guest<'_>,
    status: i32,
    _details: i32,
    _details_size: i32,
    body: i32,
    body_size: i32,
    headers: i32,
    headers_size: i32,
    _grpc_status: i32,
) -> i32 {
    guest.data_mut().called("proxy_send_local_response");
    let body = read(&mut guest, body, body_size);
    let headers = guest::decode_map(&read(&mut guest, headers, headers_size));
    let state = guest.data_mut();
    let id = state.effective_context;
    match state.stream() {
        // Envoy refuses a second reply of one stream.
        Some(stream) if !stream.replied => stream.replied = true,
        _ => return Status::BadArgument as i32,
    }
    let status = status as u32;
    state.events.push(Event::Reply {
        stream: id,
        status,
        headers,
        body,
    });
    Status::Ok as i32
}

fn continue_stream(mut guest: Guest<'_>, _stream_type: i32) -> i32 {
    guest.data_mut().called("proxy_continue_stream");
    let state = guest.data_mut();
    let stream = state.effective_context;
    state.events.push(Event::Resume { stream });
    Status::Ok as i32
}

fn set_effective_context(mut guest: Guest<'_>, context: i32) -> i32 {
    guest.data_mut().called("proxy_set_effective_context");
    let state = guest.data_mut();
    let context = context as u32;
    if context != state.root && !state.streams.contains_key(&context) {
        return Status::BadArgument as i32;
    }
    state.effective_context = context;
    Status::Ok as i32
}

fn define_metric(mut guest: Guest<'_>, _kind: i32, name: i32, size: i32, id_at: i32) -> i32 {
    guest.data_mut().called("proxy_define_metric");
    let name = read_text(&mut guest, name, size);
    let metrics = &mut guest.data_mut().metrics;
    let id = metrics
        .iter()
        .position(|metric| metric.name == name)
        .unwrap_or_else(|| {
            metrics.push(Metric { name, value: 0 });
            metrics.len() - 1
        });
    write_u32(&mut guest, id_at, id as u32);
    Status::Ok as i32
}

fn increment_metric(mut guest: Guest<'_>, id: i32, amount: i64) -> i32 {
    guest.data_mut().called("proxy_increment_metric");
    let state = guest.data_mut();
    let Some(metric) = state.metrics.get_mut(id as u32 as usize) else {
        return Status::NotFound as i32;
    };
    metric.value = metric.value.wrapping_add_signed(amount);
    let name = metric.name.clone();
    state.events.push(Event::Count { name, amount });
    Status::Ok as i32
}

fn record_metric(mut guest: Guest<'_>, id: i32, value: i64) -> i32 {
    guest.data_mut().called("proxy_record_metric");
    let state = guest.data_mut();
    let Some(metric) = state.metrics.get_mut(id as u32 as usize) else {
        return Status::NotFound as i32;
    };
    metric.value = value as u64;
    let name = metric.name.clone();
    state.events.push(Event::Gauge {
        name,
        value: value as u64,
    });
    Status::Ok as i32
}
