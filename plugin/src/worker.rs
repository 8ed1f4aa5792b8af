//! What the streams of one worker share. A worker is one thread, so sharing is `Rc` and `RefCell`;
//! a borrow lasts for one pure decision and never spans a host call that could re-enter.

use crate::effects::{self, Held, Outcome, Telemetry};
use crate::embedded::VOCABULARIES;
use crate::held_headers::HeldHeaders;
use crate::host::{self, SharedData};
use farthing_core::config::Config;
use farthing_core::exchange::{Effect, Env, Exchange, Flow, Step, Vm};
use farthing_core::limits::FLIGHT_WAKES_PER_TICK_MAX;
use farthing_core::metrics::Metric;
use farthing_core::vocabulary::loading::{Fetch, Progress, Vocabularies};
use proxy_wasm::types::LogLevel;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// An exchange that both its stream and the worker's tick can reach.
pub type SharedExchange = Rc<RefCell<Exchange>>;

/// One configured root context.
pub struct Worker {
    root_id: u32,
    vm: RefCell<Vm>,
    telemetry: Telemetry,
    /// Streams that the tick looks after: those that hold their headers while the self-check is
    /// pending, and those that wait for an identical request. Bounded by the streams that Envoy
    /// admits.
    watched: RefCell<BTreeMap<u32, Watched>>,
    /// The interval of the tick that the host was last told; 0 is none.
    tick_ms: Cell<u64>,
    /// The time when it was last asked for.
    now_unix_ns: Cell<u64>,
    /// Which vocabulary each callout is for: as many at most as there are vocabularies.
    callouts: RefCell<BTreeMap<u32, usize>>,
}

/// A held stream.
#[derive(Clone)]
struct Watched {
    exchange: SharedExchange,
    /// What the host holds of its request.
    held: Held,
}

impl Worker {
    pub fn new(root_id: u32, config: Config) -> Worker {
        let telemetry = Telemetry::define(&config);
        Worker {
            root_id,
            vm: RefCell::new(Vm::with_embedded(config, VOCABULARIES)),
            telemetry,
            watched: RefCell::default(),
            tick_ms: Cell::new(0),
            now_unix_ns: Cell::new(0),
            callouts: RefCell::default(),
        }
    }

    /// Asks `decide` for the next step of an exchange; `None` only if a borrow is still out, which
    /// would be a defect of this shell and must not become a trap.
    pub fn decide<T>(
        &self,
        exchange: &SharedExchange,
        decide: impl FnOnce(&mut Exchange, &mut Vm, &Env<'_>) -> T,
    ) -> Option<T> {
        self.now_unix_ns.set(host::now_unix_ns());
        let decided = self.decide_part(exchange, decide);
        self.set_tick();
        decided
    }

    /// The same for a part in the middle of a message: nothing about it depends on the time, so the
    /// host is not asked for that, and nothing that it changes is waited for.
    pub fn decide_part<T>(
        &self,
        exchange: &SharedExchange,
        decide: impl FnOnce(&mut Exchange, &mut Vm, &Env<'_>) -> T,
    ) -> Option<T> {
        let mut exchange = exchange.try_borrow_mut().ok()?;
        let mut vm = self.vm.try_borrow_mut().ok()?;
        let env = Env {
            store: &SharedData,
            now_unix_ns: self.now_unix_ns.get(),
        };
        Some(decide(&mut exchange, &mut vm, &env))
    }

    /// Applies effects and says whether the stream was answered. Changes of headers wait in
    /// `headers`; without it they are made at once.
    pub fn apply(
        &self,
        effects: Vec<Effect>,
        held: Held,
        headers: Option<&mut HeldHeaders>,
    ) -> Outcome {
        effects::apply(effects, held, &self.telemetry, headers)
    }

    /// A stream holds its request, of which the host has this: the tick looks after it.
    pub fn watch(&self, stream: u32, exchange: &SharedExchange, held: Held) {
        if let Ok(mut watched) = self.watched.try_borrow_mut() {
            let exchange = Rc::clone(exchange);
            watched.insert(stream, Watched { exchange, held });
        }
        self.set_tick();
    }

    /// A stream no longer holds its request.
    pub fn unwatch(&self, stream: u32) {
        if let Ok(mut watched) = self.watched.try_borrow_mut() {
            watched.remove(&stream);
        }
        self.set_tick();
    }

    /// Looks at every watched stream. Some go on then, or are answered.
    ///
    /// Only the tick acts for other streams than the one whose callback it is, never the callback
    /// that made the difference: Envoy does it right after the callback, and were that the end of a
    /// connection with several streams, they would be acted for while they are torn down.
    pub fn on_tick(&self) {
        self.look_after_vocabularies();
        let watched: Vec<_> = match self.watched.try_borrow() {
            Ok(watched) => watched.iter().map(|(id, w)| (*id, w.clone())).collect(),
            Err(_) => return,
        };
        let mut woken = 0;
        for (stream, Watched { exchange, held }) in watched {
            if woken >= FLIGHT_WAKES_PER_TICK_MAX {
                break;
            }
            let step = self.decide(&exchange, |exchange, vm, env| exchange.on_tick(vm, env));
            let Some(Step { effects, flow }) = step else {
                continue;
            };
            host::act_for(stream);
            let outcome = self.apply(effects, held, None);
            if outcome == Outcome::Applied && flow == Flow::Continue {
                host::resume_request(stream);
            }
            host::act_for(self.root_id);
            if outcome == Outcome::Replied || flow == Flow::Continue {
                self.unwatch(stream);
                woken += 1;
            }
        }
    }

    /// Tells the host how often to tick, if that has changed.
    pub fn set_tick(&self) {
        let idle = self
            .watched
            .try_borrow()
            .is_ok_and(|watched| watched.is_empty());
        let Ok(vm) = self.vm.try_borrow() else {
            return;
        };
        let tick_ms = if idle {
            vm.idle_tick_ms()
        } else {
            vm.tick_ms()
        };
        if self.tick_ms.replace(tick_ms) != tick_ms {
            host::set_tick_interval(Duration::from_millis(tick_ms));
        }
    }

    /// Reads the vocabularies of this build, so that the first request is counted. Each takes some
    /// tens of milliseconds, which delay a new configuration and no request.
    pub fn read_embedded_vocabularies(&self) {
        loop {
            let progress = match self.vm.try_borrow_mut() {
                Ok(mut vm) => vm.vocabularies.read_embedded(host::now_unix_ns()),
                Err(_) => return,
            };
            match progress {
                Progress::Nothing | Progress::Fetch(_) => return,
                Progress::Loaded { name, loaded } => self.tell_loaded(&name, loaded),
                Progress::Refused { name, reason } => tell_refused(&name, &reason),
            }
        }
    }

    /// Takes one step towards the vocabularies that are not loaded. Reading one takes some tens of
    /// milliseconds, so each tick reads one at most.
    fn look_after_vocabularies(&self) {
        loop {
            let now_ns = host::now_unix_ns();
            let progress = match self.vm.try_borrow_mut() {
                Ok(mut vm) => vm.vocabularies.step(now_ns),
                Err(_) => return,
            };
            match progress {
                Progress::Nothing => break,
                Progress::Fetch(fetch) => self.fetch(&fetch, now_ns),
                Progress::Loaded { name, loaded } => {
                    self.tell_loaded(&name, loaded);
                    break;
                }
                Progress::Refused { name, reason } => {
                    tell_refused(&name, &reason);
                    break;
                }
            }
        }
        self.set_tick();
    }

    fn tell_loaded(&self, name: &str, loaded: usize) {
        let loaded = u64::try_from(loaded).unwrap_or(u64::MAX);
        self.telemetry.count(Metric::VocabulariesLoaded, loaded);
        host::log(LogLevel::Info, &format!("vocabulary {name}: loaded"));
    }

    fn fetch(&self, fetch: &Fetch, now_ns: u64) {
        let timeout = Duration::from_millis(u64::from(fetch.timeout_ms));
        match host::get(&fetch.cluster, &fetch.path, timeout) {
            Some(callout) => {
                if let Ok(mut callouts) = self.callouts.try_borrow_mut() {
                    callouts.insert(callout, fetch.entry);
                }
            }
            None => self.fetch_failed(fetch.entry, now_ns),
        }
    }

    /// The answer to a callout has come, or will not come.
    pub fn on_vocabulary(&self, callout: u32, headers: usize, body_bytes: usize) {
        let entry = match self.callouts.try_borrow_mut() {
            Ok(mut callouts) => callouts.remove(&callout),
            Err(_) => None,
        };
        let Some(entry) = entry else { return };
        let status = if headers > 0 {
            host::callout_status()
        } else {
            Vec::new()
        };
        if !Vocabularies::is_welcome(&status, body_bytes) {
            return self.fetch_failed(entry, host::now_unix_ns());
        }
        let file = host::callout_body(body_bytes);
        if let Ok(mut vm) = self.vm.try_borrow_mut() {
            vm.vocabularies.arrived(entry, file);
        }
    }

    fn fetch_failed(&self, entry: usize, now_ns: u64) {
        if let Ok(mut vm) = self.vm.try_borrow_mut() {
            vm.vocabularies.failed(entry, now_ns);
        }
        let message = "a vocabulary could not be fetched; it will be asked for again";
        host::log(LogLevel::Warn, message);
    }

    /// Is it still unknown whether request bodies arrive while headers are held?
    pub fn self_check_pending(&self) -> bool {
        self.vm.try_borrow().is_ok_and(|vm| vm.self_check_pending())
    }
}

fn tell_refused(name: &str, reason: &str) {
    host::log(LogLevel::Warn, &format!("vocabulary {name}: {reason}"));
}
