//! A host for the real .wasm, as small as proxy-wasm 0.2.1 allows: one [`Vm`] stands for the VM of
//! one Envoy worker, and VMs made with the same [`SharedData`] are workers of one Envoy. Time and
//! random numbers are the caller's. It refuses what Envoy refuses, because the SDK traps on it.

mod abi;
mod callouts;
mod guest;
mod shared_data;
mod state;
mod wasi;

pub use callouts::UNKNOWN_CLUSTER;
pub use shared_data::SharedData;
pub use state::{CalloutAnswer, Event, HeaderMap, Stream};

use farthing_host_tests::paths;
use state::HostState;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use wasmtime::{
    Config, Engine, Instance, InstancePre, Linker, Module, Store, WasmParams, WasmResults,
};

/// The root context of every VM.
const ROOT: u32 = 1;

/// What a stream callback lets the host do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Continue,
    Pause,
}

/// Whether a message ends with this part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Yes,
    No,
}

/// One worker's VM.
pub struct Vm {
    store: Store<HostState>,
    instance: Instance,
    next_context: u32,
}

impl Vm {
    /// Instantiates the module and starts its root context, without a configuration.
    pub fn start(shared: &SharedData, now_unix_ns: u64) -> Vm {
        let module = module();
        let state = HostState::new(shared.clone(), now_unix_ns, ROOT);
        let mut store = Store::new(module.module().engine(), state);
        store
            .set_fuel(u64::MAX)
            .expect("the engine counts instructions");
        let instance = module
            .instantiate(&mut store)
            .expect("the module instantiates");
        let mut vm = Vm {
            store,
            instance,
            next_context: ROOT,
        };
        vm.call::<(), ()>("_initialize", ROOT, ());
        vm.call::<(i32, i32), ()>("proxy_on_context_create", ROOT, (ROOT as i32, 0));
        vm.call::<(i32, i32), i32>("proxy_on_vm_start", ROOT, (ROOT as i32, 0));
        vm
    }

    /// Hands over the plugin configuration; false when the filter refuses it.
    pub fn configure(&mut self, configuration: &[u8]) -> bool {
        self.state().configuration = configuration.to_vec();
        let size = configuration.len() as i32;
        self.call::<(i32, i32), i32>("proxy_on_configure", ROOT, (ROOT as i32, size)) != 0
    }

    /// A new stream's context.
    pub fn create_stream(&mut self) -> u32 {
        self.next_context += 1;
        let id = self.next_context;
        self.state().streams.insert(id, Stream::default());
        self.call::<(i32, i32), ()>("proxy_on_context_create", id, (id as i32, ROOT as i32));
        id
    }

    /// What the host holds of a stream.
    pub fn stream(&mut self, id: u32) -> &mut Stream {
        self.state()
            .streams
            .get_mut(&id)
            .expect("the stream was created and not deleted")
    }

    /// Has this stream been created and not deleted?
    pub fn has_stream(&mut self, id: u32) -> bool {
        self.state().streams.contains_key(&id)
    }

    pub fn on_request_headers(&mut self, id: u32, end: End) -> Action {
        let count = self.stream(id).request_headers.as_ref().map_or(0, Vec::len);
        self.stream_call("proxy_on_request_headers", id, count, end)
    }

    pub fn on_request_body(&mut self, id: u32, end: End) -> Action {
        let size = self.stream(id).request_body.as_ref().map_or(0, Vec::len);
        self.stream_call("proxy_on_request_body", id, size, end)
    }

    pub fn on_request_trailers(&mut self, id: u32) -> Action {
        action(self.call::<(i32, i32), i32>("proxy_on_request_trailers", id, (id as i32, 1)))
    }

    pub fn on_response_headers(&mut self, id: u32, end: End) -> Action {
        let count = self
            .stream(id)
            .response_headers
            .as_ref()
            .map_or(0, Vec::len);
        self.stream_call("proxy_on_response_headers", id, count, end)
    }

    pub fn on_response_body(&mut self, id: u32, end: End) -> Action {
        let size = self.stream(id).response_body.as_ref().map_or(0, Vec::len);
        self.stream_call("proxy_on_response_body", id, size, end)
    }

    pub fn on_response_trailers(&mut self, id: u32) -> Action {
        action(self.call::<(i32, i32), i32>("proxy_on_response_trailers", id, (id as i32, 1)))
    }

    pub fn on_log(&mut self, id: u32) {
        self.call::<i32, ()>("proxy_on_log", id, id as i32);
    }

    pub fn on_done(&mut self, id: u32) {
        self.call::<i32, i32>("proxy_on_done", id, id as i32);
    }

    /// Forgets a stream.
    pub fn delete(&mut self, id: u32) {
        self.call::<i32, ()>("proxy_on_delete", id, id as i32);
        self.state().streams.remove(&id);
    }

    /// The worker's timer, if the filter has set one.
    pub fn on_tick(&mut self) {
        if self.state().tick_period_ms > 0 {
            self.call::<i32, ()>("proxy_on_tick", ROOT, ROOT as i32);
        }
    }

    /// What the filter did since the last time this was asked, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.state().events)
    }

    pub fn set_now_unix_ns(&mut self, now_unix_ns: u64) {
        self.state().now_unix_ns = now_unix_ns;
    }

    /// Bytes of linear memory, which never shrinks.
    pub fn memory_bytes(&mut self) -> usize {
        let memory = self.instance.get_memory(&mut self.store, "memory");
        memory
            .expect("the module exports its memory")
            .data_size(&self.store)
    }

    /// Instructions so far, as wasmtime counts them: one for most.
    pub fn instructions(&mut self) -> u64 {
        let left = self.store.get_fuel();
        u64::MAX - left.expect("the engine counts instructions")
    }

    /// How often each import was called so far.
    pub fn host_calls(&self) -> &BTreeMap<&'static str, u64> {
        &self.store.data().calls
    }

    fn stream_call(&mut self, callback: &str, id: u32, size: usize, end: End) -> Action {
        let end = i32::from(end == End::Yes);
        action(self.call::<(i32, i32, i32), i32>(callback, id, (id as i32, size as i32, end)))
    }

    /// Calls an export about a context; a trap fails the test with what the filter did last.
    fn call<P, R>(&mut self, name: &str, context: u32, arguments: P) -> R
    where
        P: WasmParams,
        R: WasmResults,
    {
        self.state().effective_context = context;
        let function = self.instance.get_typed_func::<P, R>(&mut self.store, name);
        let function = function.unwrap_or_else(|error| panic!("export {name}: {error}"));
        match function.call(&mut self.store, arguments) {
            Ok(result) => result,
            Err(trap) => panic!("{name} trapped: {trap:?}\n{:?}", self.state().events.last()),
        }
    }

    fn state(&mut self) -> &mut HostState {
        self.store.data_mut()
    }
}

fn action(code: i32) -> Action {
    match code {
        0 => Action::Continue,
        1 => Action::Pause,
        other => panic!("no action has the number {other}"),
    }
}

/// Compiling takes seconds, so every test shares one module.
fn module() -> &'static InstancePre<HostState> {
    static MODULE: OnceLock<InstancePre<HostState>> = OnceLock::new();
    MODULE.get_or_init(|| {
        let path = paths::require("the filter", paths::wasm()).unwrap_or_else(|e| panic!("{e}"));
        let mut metered = Config::new();
        metered.consume_fuel(true);
        let engine = Engine::new(&metered).expect("an engine that counts instructions");
        let module = Module::from_file(&engine, &path).expect("the module compiles");
        let mut linker = Linker::new(&engine);
        abi::define(&mut linker)
            .and_then(|()| callouts::define(&mut linker))
            .and_then(|()| wasi::define(&mut linker))
            .expect("imports");
        // What the SDK links but the filter never calls.
        linker
            .define_unknown_imports_as_traps(&module)
            .expect("imports can be defined");
        linker
            .instantiate_pre(&module)
            .expect("every import is defined")
    })
}
