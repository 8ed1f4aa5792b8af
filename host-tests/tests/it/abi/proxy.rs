//! Does with a stream what Envoy does: keeps what the filter holds, passes on what it lets go, and
//! runs the response callbacks for a local reply too.

use crate::wasm_host::{Action, CalloutAnswer, End, Event, HeaderMap, SharedData, Vm};
use std::collections::BTreeMap;

/// 2027-01-15T08:00:00Z, where the native tests of the core start too.
pub const START_UNIX_NS: u64 = 1_800_000_000_000_000_000;

/// What left the filter on one side of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// A stream between client and upstream.
#[derive(Default)]
pub struct Stream {
    pub vm: usize,
    pub context: u32,
    /// As they arrived, to tell what the filter changed.
    pub request_received: Passed,
    pub response_received: Passed,
    /// As they left the filter, once they have.
    pub to_upstream: Option<Passed>,
    pub to_client: Option<Passed>,
    pub replied: bool,
    request_held: Vec<u8>,
    response_held: Vec<u8>,
}

/// Workers of one Envoy, and the streams on them.
pub struct Proxy {
    shared: SharedData,
    configuration: Vec<u8>,
    vms: Vec<Vm>,
    pub streams: BTreeMap<String, Stream>,
    /// What the filter did since this was last taken.
    pub events: Vec<Event>,
    pub current_vm: usize,
    now_unix_ns: u64,
}

impl Proxy {
    /// One worker; false with it when the filter refuses the configuration.
    pub fn start(configuration: &[u8]) -> (Proxy, bool) {
        let mut proxy = Proxy {
            shared: SharedData::default(),
            configuration: configuration.to_vec(),
            vms: Vec::new(),
            streams: BTreeMap::new(),
            events: Vec::new(),
            current_vm: 0,
            now_unix_ns: START_UNIX_NS,
        };
        let accepted = proxy.use_vm(0);
        (proxy, accepted)
    }

    /// New streams are on this worker, which is started if it was not.
    pub fn use_vm(&mut self, index: usize) -> bool {
        let mut accepted = true;
        while self.vms.len() <= index {
            let mut vm = Vm::start(&self.shared, self.now_unix_ns);
            accepted &= vm.configure(&self.configuration);
            self.events.extend(vm.take_events());
            self.vms.push(vm);
        }
        self.current_vm = index;
        accepted
    }

    pub fn pass_time(&mut self, milliseconds: u64) {
        self.now_unix_ns += milliseconds * 1_000_000;
        for vm in &mut self.vms {
            vm.set_now_unix_ns(self.now_unix_ns);
        }
    }

    pub fn tick(&mut self) {
        self.vms[self.current_vm].on_tick();
        self.settle();
    }

    /// Answers the calls that the current worker has made and not had answered; says how many.
    pub fn answer_callouts(&mut self, answer: impl Fn(&str) -> Option<CalloutAnswer>) -> usize {
        let mut made = Vec::new();
        self.events.retain(|event| match event {
            Event::Callout { callout, path, .. } => {
                made.push((*callout, path.clone()));
                false
            }
            _ => true,
        });
        for (callout, path) in &made {
            self.vms[self.current_vm].on_http_call_response(*callout, answer(path));
            self.settle();
        }
        made.len()
    }

    /// What the workers share.
    pub fn shared_data(&self) -> &SharedData {
        &self.shared
    }

    /// Every VM, for looking at its metrics and memory.
    pub fn vms(&mut self) -> &mut [Vm] {
        &mut self.vms
    }

    /// Request headers arrive.
    pub fn open(&mut self, id: &str, headers: HeaderMap, end: End) {
        let vm = self.current_vm;
        let context = self.vms[vm].create_stream();
        self.vms[vm].stream(context).request_headers = Some(headers.clone());
        let mut stream = Stream {
            vm,
            context,
            ..Stream::default()
        };
        stream.request_received.headers = headers;
        self.streams.insert(id.to_string(), stream);
        self.request_callback(id, |vm, context| vm.on_request_headers(context, end));
    }

    /// Part of a request body arrives.
    pub fn request_body(&mut self, id: &str, bytes: &[u8], end: End) {
        let Some(stream) = self.live(id) else { return };
        stream.request_received.body.extend_from_slice(bytes);
        stream.request_held.extend_from_slice(bytes);
        let held = stream.request_held.clone();
        self.host_stream(id).request_body = Some(held);
        self.request_callback(id, |vm, context| vm.on_request_body(context, end));
    }

    /// The request ends with trailers.
    pub fn request_trailers(&mut self, id: &str) {
        self.request_callback(id, Vm::on_request_trailers);
    }

    /// Response headers arrive.
    pub fn response_headers(&mut self, id: &str, headers: HeaderMap, end: End) {
        let Some(stream) = self.live(id) else { return };
        stream.response_received.headers = headers.clone();
        self.host_stream(id).response_headers = Some(headers);
        self.response_callback(id, |vm, context| vm.on_response_headers(context, end));
    }

    /// Part of a response body arrives.
    pub fn response_body(&mut self, id: &str, bytes: &[u8], end: End) {
        let Some(stream) = self.live(id) else { return };
        stream.response_received.body.extend_from_slice(bytes);
        stream.response_held.extend_from_slice(bytes);
        let held = stream.response_held.clone();
        self.host_stream(id).response_body = Some(held);
        self.response_callback(id, |vm, context| vm.on_response_body(context, end));
    }

    /// The response ends with trailers.
    pub fn response_trailers(&mut self, id: &str) {
        self.response_callback(id, Vm::on_response_trailers);
    }

    /// The stream is over, for whatever reason.
    pub fn close(&mut self, id: &str) {
        let Some(stream) = self.streams.remove(id) else {
            return;
        };
        let vm = &mut self.vms[stream.vm];
        vm.on_log(stream.context);
        vm.on_done(stream.context);
        vm.delete(stream.context);
        self.settle();
    }

    fn request_callback(&mut self, id: &str, call: impl FnOnce(&mut Vm, u32) -> Action) {
        let Some((vm, context)) = self.live(id).map(|stream| (stream.vm, stream.context)) else {
            return;
        };
        let action = call(&mut self.vms[vm], context);
        self.settle();
        if action == Action::Continue {
            self.pass_request(id);
        }
    }

    fn response_callback(&mut self, id: &str, call: impl FnOnce(&mut Vm, u32) -> Action) {
        let Some((vm, context)) = self.live(id).map(|stream| (stream.vm, stream.context)) else {
            return;
        };
        let action = call(&mut self.vms[vm], context);
        self.settle();
        if action == Action::Continue {
            self.pass_response(id);
        }
    }

    /// A stream that no local reply has ended.
    fn live(&mut self, id: &str) -> Option<&mut Stream> {
        self.streams.get_mut(id).filter(|stream| !stream.replied)
    }

    fn host_stream(&mut self, id: &str) -> &mut crate::wasm_host::Stream {
        let stream = &self.streams[id];
        self.vms[stream.vm].stream(stream.context)
    }

    /// Takes what the filter asked for during a callback and does it.
    fn settle(&mut self) {
        for vm in 0..self.vms.len() {
            let events = self.vms[vm].take_events();
            for event in &events {
                match event {
                    Event::Reply {
                        stream,
                        status,
                        headers,
                        body,
                    } => {
                        self.local_reply((vm, *stream), *status, headers, body);
                    }
                    Event::Resume { stream } => {
                        if let Some(id) = self.id_of((vm, *stream)) {
                            self.pass_request(&id);
                        }
                    }
                    _ => {}
                }
            }
            self.events.extend(events);
        }
    }

    fn local_reply(&mut self, at: (usize, u32), status: u32, headers: &HeaderMap, body: &[u8]) {
        let Some(id) = self.id_of(at) else { return };
        let (vm, context) = at;
        let mut all = vec![(":status".to_string(), status.to_string().into_bytes())];
        all.extend(headers.iter().cloned());
        let host_stream = self.vms[vm].stream(context);
        host_stream.response_headers = Some(all.clone());
        host_stream.response_body = Some(body.to_vec());
        let actions = [
            self.vms[vm].on_response_headers(context, End::No),
            self.vms[vm].on_response_body(context, End::Yes),
        ];
        assert_eq!(
            actions,
            [Action::Continue; 2],
            "the filter holds its own reply"
        );
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.replied = true;
            stream.to_client = Some(Passed {
                headers: all,
                body: body.to_vec(),
            });
        }
    }

    fn id_of(&self, (vm, context): (usize, u32)) -> Option<String> {
        let found = self
            .streams
            .iter()
            .find(|(_, s)| s.vm == vm && s.context == context);
        found.map(|(id, _)| id.clone())
    }

    fn pass_request(&mut self, id: &str) {
        let Some(stream) = self.streams.get_mut(id).filter(|stream| !stream.replied) else {
            return;
        };
        let host_stream = self.vms[stream.vm].stream(stream.context);
        let headers = host_stream.request_headers.clone().unwrap_or_default();
        let body = host_stream.request_body.take().unwrap_or_default();
        stream.request_held.clear();
        let passed = stream.to_upstream.get_or_insert(Passed {
            headers,
            body: Vec::new(),
        });
        passed.body.extend(body);
    }

    fn pass_response(&mut self, id: &str) {
        let Some(stream) = self.streams.get_mut(id).filter(|stream| !stream.replied) else {
            return;
        };
        let host_stream = self.vms[stream.vm].stream(stream.context);
        let headers = host_stream.response_headers.clone().unwrap_or_default();
        let body = host_stream.response_body.take().unwrap_or_default();
        stream.response_held.clear();
        let passed = stream.to_client.get_or_insert(Passed {
            headers,
            body: Vec::new(),
        });
        passed.body.extend(body);
    }
}
