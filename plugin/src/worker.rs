//! What the streams of one worker share. A worker is one thread, so sharing is `Rc` and `RefCell`;
//! a borrow lasts for one pure decision and never spans a host call that could re-enter.

use crate::effects::{self, Held, Outcome, Telemetry};
use crate::host::{self, SharedData};
use farthing_core::config::Config;
use farthing_core::exchange::{Effect, Env, Exchange, Flow, Step, Vm};
use farthing_core::limits::SELF_CHECK_TICK_MS;
use std::cell::RefCell;
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
    /// Streams that hold their headers while the self-check is pending. Bounded by the streams that
    /// Envoy admits, and empty for ever once the check has ended.
    watched: RefCell<BTreeMap<u32, SharedExchange>>,
}

impl Worker {
    pub fn new(root_id: u32, config: Config) -> Worker {
        let telemetry = Telemetry::define(&config);
        Worker {
            root_id,
            vm: RefCell::new(Vm::new(config)),
            telemetry,
            watched: RefCell::default(),
        }
    }

    /// Asks `decide` for the next step of an exchange; `None` only if a borrow is still out, which
    /// would be a defect of this shell and must not become a trap.
    pub fn decide<T>(
        &self,
        exchange: &SharedExchange,
        decide: impl FnOnce(&mut Exchange, &mut Vm, &Env<'_>) -> T,
    ) -> Option<T> {
        let mut exchange = exchange.try_borrow_mut().ok()?;
        let mut vm = self.vm.try_borrow_mut().ok()?;
        let env = Env {
            store: &SharedData,
            now_unix_ns: host::now_unix_ns(),
        };
        Some(decide(&mut exchange, &mut vm, &env))
    }

    /// Applies effects and says whether the stream was answered.
    pub fn apply(&self, effects: Vec<Effect>, held: Held) -> Outcome {
        effects::apply(effects, held, &self.telemetry)
    }

    /// A stream holds its headers: while the self-check is pending the tick looks after it.
    pub fn watch(&self, stream: u32, exchange: &SharedExchange) {
        if !self.self_check_pending() {
            return;
        }
        if let Ok(mut watched) = self.watched.try_borrow_mut() {
            if watched.is_empty() {
                host::set_tick_interval(Duration::from_millis(SELF_CHECK_TICK_MS));
            }
            watched.insert(stream, Rc::clone(exchange));
        }
    }

    /// A stream no longer holds its headers.
    pub fn unwatch(&self, stream: u32) {
        let Ok(mut watched) = self.watched.try_borrow_mut() else {
            return;
        };
        if watched.remove(&stream).is_some() && watched.is_empty() {
            host::set_tick_interval(Duration::ZERO);
        }
    }

    /// Lets the self-check look at every watched stream. Returns the streams that go on without us.
    pub fn on_tick(&self) {
        let watched: Vec<_> = match self.watched.try_borrow() {
            Ok(watched) => watched.iter().map(|(id, e)| (*id, Rc::clone(e))).collect(),
            Err(_) => return,
        };
        for (stream, exchange) in watched {
            let step = self.decide(&exchange, |exchange, vm, env| exchange.on_tick(vm, env));
            let Some(Step { effects, flow }) = step else {
                continue;
            };
            host::act_for(stream);
            let outcome = self.apply(effects, Held::NoBody);
            if outcome == Outcome::Applied && flow == Flow::Continue {
                host::resume_request(stream);
            }
            host::act_for(self.root_id);
            if outcome == Outcome::Replied || flow == Flow::Continue {
                self.unwatch(stream);
            }
        }
    }

    fn self_check_pending(&self) -> bool {
        self.vm.try_borrow().is_ok_and(|vm| vm.self_check_pending())
    }
}
