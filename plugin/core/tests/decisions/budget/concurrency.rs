//! Several workers at once: between any read and write of one, others write.

use std::cell::{Cell, RefCell};
use std::sync::{Barrier, Mutex};
use std::thread;

use super::{NEXT, WINDOW, reserve, sums, tenant};
use farthing_core::budget::{Account, Refusal, Reservation, Settled};
use farthing_core::store::{CasMismatch, MemoryStore, SharedStore};
use farthing_core::tenant::TenantId;
use proptest::prelude::*;

/// Operations of the other workers, each with the store that it runs on.
type Others<'a> = RefCell<Vec<Box<dyn FnOnce(&dyn SharedStore) + 'a>>>;

/// A store in which other workers act whole between a read and the write that follows it.
struct Interleaved<'a, 'b> {
    inner: &'b MemoryStore,
    others: &'b Others<'a>,
    /// Every so many writes one of them acts.
    every: u64,
    writes: Cell<u64>,
}

impl SharedStore for Interleaved<'_, '_> {
    fn get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.inner.get(key)
    }

    fn set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch> {
        self.writes.set(self.writes.get() + 1);
        if self.every > 0 && self.writes.get().is_multiple_of(self.every) {
            let other = self.others.borrow_mut().pop();
            if let Some(other) = other {
                // The other worker is interrupted by the next one in the same way.
                other(self);
            }
        }
        self.inner.set(key, value, cas)
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Reserve { tenant: u8, amount: u64 },
    Settle { which: usize, cost: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..4_u8, 0..400_u64).prop_map(|(tenant, amount)| Event::Reserve { tenant, amount }),
        (0..16_usize, 0..800_u64).prop_map(|(which, cost)| Event::Settle { which, cost }),
        (0..16_usize).prop_map(|which| Event::Settle { which, cost: 0 }),
    ]
}

/// What the events must have made of the records.
#[derive(Default)]
struct Model {
    open: Vec<(u8, Reservation)>,
    reserved: [u64; 4],
    spent: [u64; 4],
}

const LIMIT: u64 = 1_000;

fn apply(event: Event, store: &dyn SharedStore, model: &RefCell<Model>) {
    match event {
        Event::Reserve {
            tenant: number,
            amount,
        } => {
            let index = usize::from(number);
            let result = reserve(store, WINDOW, tenant(number), LIMIT, amount);
            let mut model = model.borrow_mut();
            match result {
                Ok(reserved) => {
                    model.reserved[index] += amount;
                    model.open.push((number, reserved.reservation));
                }
                Err(refusal) => assert_eq!(refusal, Refusal::Exhausted),
            }
        }
        Event::Settle { which, cost } => {
            let mut state = model.borrow_mut();
            if which >= state.open.len() {
                return;
            }
            let (number, reservation) = state.open.swap_remove(which);
            drop(state);
            let amount = reservation.amount();
            let settled = reservation.settle(store, cost);
            assert!(matches!(settled, Settled::InTime { .. }));
            let mut model = model.borrow_mut();
            model.reserved[usize::from(number)] -= amount;
            model.spent[usize::from(number)] += cost;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever the others do in between, the records are what all events together say.
    #[test]
    fn no_write_of_anybody_is_lost(
        events in prop::collection::vec(event(), 0..80),
        others in prop::collection::vec(event(), 0..40), every in 0..4_u64,
    ) {
        let inner = MemoryStore::new();
        let model = RefCell::new(Model::default());
        let queued: Others<'_> = RefCell::default();
        for event in others {
            let model = &model;
            queued.borrow_mut().push(Box::new(move |store| apply(event, store, model)));
        }
        let store = Interleaved { inner: &inner, others: &queued, every, writes: Cell::new(0) };
        for event in events {
            apply(event, &store, &model);
            let model = model.borrow();
            for number in 0..4_u8 {
                let index = usize::from(number);
                let expected = (model.reserved[index], model.spent[index]);
                prop_assert_eq!(sums(&inner, WINDOW, tenant(number)), expected);
            }
        }
    }
}

/// Threads that share a store, as Envoy's workers do.
#[derive(Default)]
struct Shared(Mutex<MemoryStore>);

impl SharedStore for Shared {
    fn get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.0.lock().unwrap().get(key)
    }

    fn set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch> {
        self.0.lock().unwrap().set(key, value, cas)
    }
}

/// 1,000 requests at once, on eight workers, against a budget for ten: ten are admitted, and what
/// they cost in the end is in the record.
#[test]
fn a_thousand_at_once_do_not_overspend() {
    const WORKERS: usize = 8;
    const EACH: usize = 125;
    for account in [tenant(1), tenant(2)] {
        let store = Shared::default();
        let (start, all_asked) = (Barrier::new(WORKERS), Barrier::new(WORKERS));
        let work = || {
            start.wait();
            let ask = || reserve(&store, WINDOW, account, 1_000, 100).ok();
            let held: Vec<_> = (0..EACH).filter_map(|_| ask()).collect();
            all_asked.wait();
            let count = held.len();
            for reserved in held {
                let settled = reserved.reservation.settle(&store, 99);
                assert!(matches!(settled, Settled::InTime { settled: 99, .. }));
            }
            count
        };
        let admitted: usize = thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .sum()
        });
        assert_eq!(admitted, 10);
        assert_eq!(sums(&store, WINDOW, account), (0, 990));
    }
}

/// The race that a table of single slots cannot exclude: several workers open a record for one
/// tenant while others open and refund theirs around it. Each tenant then has one.
#[test]
fn a_tenant_never_has_two_records() {
    const WORKERS: u8 = 4;
    for round in 0..200_u8 {
        let store = Shared::default();
        let start = Barrier::new(usize::from(WORKERS));
        let account = |number: u8| {
            let mut id = [round; 32];
            id[31] = number;
            Account::Table(TenantId(id))
        };
        let work = |worker: u8| {
            start.wait();
            // Old records, of other tenants of the bucket, have to be cleared away meanwhile.
            let other = reserve(&store, WINDOW, account(100 + worker), 10, 1);
            let first = reserve(&store, NEXT, account(0), 1_000, 10).unwrap();
            let other = other.map(|reserved| reserved.reservation.settle(&store, 0));
            assert!(matches!(other, Ok(_) | Err(Refusal::Exhausted)));
            first.reservation
        };
        let open: Vec<Reservation> = thread::scope(|scope| {
            let spawn = |worker| scope.spawn(move || work(worker));
            let workers: Vec<_> = (0..WORKERS).map(spawn).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .collect()
        });
        assert_eq!(sums(&store, NEXT, account(0)), (40, 0));
        for reservation in open {
            assert!(matches!(
                reservation.settle(&store, 10),
                Settled::InTime { .. }
            ));
        }
        assert_eq!(sums(&store, NEXT, account(0)), (0, 40));
    }
}
