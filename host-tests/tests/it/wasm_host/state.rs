//! What the host knows: streams, metrics, the clock, and what the filter did.

use super::callouts;
use super::shared_data::SharedData;
use std::collections::BTreeMap;

/// Headers in order, values as bytes.
pub type HeaderMap = Vec<(String, Vec<u8>)>;

/// Bytes of a body that the host holds.
pub type Buffer = Vec<u8>;

/// One HTTP stream. A part is `None` until it has arrived.
#[derive(Default)]
pub struct Stream {
    pub request_headers: Option<HeaderMap>,
    pub request_body: Option<Buffer>,
    pub response_headers: Option<HeaderMap>,
    pub response_body: Option<Buffer>,
    pub replied: bool,
}

/// What came of a call that the filter made.
#[derive(Clone, Debug, Default)]
pub struct CalloutAnswer {
    pub headers: HeaderMap,
    pub body: Buffer,
}

/// Something that the filter did and that a client, an upstream or an operator can notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Log {
        level: u32,
        message: String,
    },
    Reply {
        stream: u32,
        status: u32,
        headers: HeaderMap,
        body: Vec<u8>,
    },
    Resume {
        stream: u32,
    },
    Count {
        name: String,
        amount: i64,
    },
    Gauge {
        name: String,
        value: u64,
    },
    /// Filter state that access logs can print.
    Property {
        path: String,
        value: String,
    },
    TickPeriod {
        milliseconds: u32,
    },
    /// A call of its own, to be answered under this number.
    Callout {
        callout: u32,
        cluster: String,
        path: String,
        timeout_ms: u32,
    },
}

/// A counter or gauge.
pub struct Metric {
    pub name: String,
    pub value: u64,
}

/// Everything behind the imports.
pub struct HostState {
    pub shared: SharedData,
    pub now_unix_ns: u64,
    pub configuration: Vec<u8>,
    pub streams: BTreeMap<u32, Stream>,
    /// The context that calls are about.
    pub effective_context: u32,
    pub root: u32,
    pub metrics: Vec<Metric>,
    pub events: Vec<Event>,
    pub tick_period_ms: u32,
    pub random_state: u64,
    /// Callouts that have not been answered.
    pub open_callouts: Vec<u32>,
    /// Callouts that the host refuses before it takes one again.
    pub callouts_refused: u32,
    pub last_callout: u32,
    /// While its callback runs.
    pub callout_answer: Option<CalloutAnswer>,
    /// How often each import was called.
    pub calls: BTreeMap<&'static str, u64>,
}

impl HostState {
    pub fn new(shared: SharedData, now_unix_ns: u64, root: u32) -> HostState {
        HostState {
            shared,
            now_unix_ns,
            configuration: Vec::new(),
            streams: BTreeMap::new(),
            effective_context: root,
            root,
            metrics: Vec::new(),
            events: Vec::new(),
            tick_period_ms: 0,
            random_state: 1,
            open_callouts: Vec::new(),
            callouts_refused: 0,
            last_callout: 0,
            callout_answer: None,
            calls: BTreeMap::new(),
        }
    }

    /// The filter calls this import.
    pub fn called(&mut self, import: &'static str) {
        *self.calls.entry(import).or_default() += 1;
    }

    /// The stream that calls are about, if they are about one.
    pub fn stream(&mut self) -> Option<&mut Stream> {
        self.streams.get_mut(&self.effective_context)
    }

    /// The header map of that number in the ABI, if it is there now.
    pub fn map(&mut self, map_type: i32) -> Option<&mut HeaderMap> {
        if map_type == callouts::RESPONSE_HEADERS {
            return Some(&mut self.callout_answer.as_mut()?.headers);
        }
        let stream = self.stream()?;
        match map_type {
            0 => stream.request_headers.as_mut(),
            2 => stream.response_headers.as_mut(),
            _ => None,
        }
    }

    /// The buffer of that number in the ABI, if it is there now.
    pub fn buffer(&mut self, buffer_type: i32) -> Option<&mut Buffer> {
        match buffer_type {
            0 => self.stream()?.request_body.as_mut(),
            1 => self.stream()?.response_body.as_mut(),
            callouts::RESPONSE_BODY => Some(&mut self.callout_answer.as_mut()?.body),
            7 => Some(&mut self.configuration),
            _ => None,
        }
    }
}
