//! Budgets under contention: nothing is lost, nothing is counted twice, nothing is overspent.

use std::cell::Cell;

use farthing_core::budget::{Account, Refusal, Reservation, Window, record, reserve};
use farthing_core::limits::{BUDGET_PROBES_MAX, BUDGET_SLOTS};
use farthing_core::money::Nanousd;
use farthing_core::store::{CasMismatch, MemoryStore, SharedStore, Updated};
use farthing_core::tenant::TenantId;
use proptest::prelude::*;

/// A store in which another worker seems to write between a read and a write now and then.
struct Contended {
    inner: MemoryStore,
    /// Every so many writes the number no longer fits.
    every: u64,
    writes: Cell<u64>,
}

impl Contended {
    fn new(every: u64) -> Contended {
        Contended {
            inner: MemoryStore::new(),
            every,
            writes: Cell::new(0),
        }
    }
}

impl SharedStore for Contended {
    fn get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.inner.get(key)
    }

    fn set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch> {
        self.writes.set(self.writes.get() + 1);
        if self.every > 0 && self.writes.get().is_multiple_of(self.every) {
            return Err(CasMismatch);
        }
        self.inner.set(key, value, cas)
    }
}

const WINDOW: Window = Window {
    start_s: 7_200,
    length_s: 3_600,
};

/// Odd ones are named in the configuration.
fn tenant(number: u8) -> Account {
    let id = TenantId([number; 32]);
    match number % 2 {
        0 => Account::Table(id),
        _ => Account::Fixed(id),
    }
}

fn sums(store: &dyn SharedStore, tenant: Account) -> (u64, u64) {
    record(store, WINDOW, tenant).map_or((0, 0), |record| (record.reserved.0, record.spent.0))
}

#[derive(Clone, Debug)]
enum Event {
    Reserve { tenant: u8, amount: u64 },
    Settle { which: usize, cost: u64 },
    Refund { which: usize },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..4_u8, 0..400_u64).prop_map(|(tenant, amount)| Event::Reserve { tenant, amount }),
        (0..16_usize, 0..800_u64).prop_map(|(which, cost)| Event::Settle { which, cost }),
        (0..16_usize).prop_map(|which| Event::Refund { which }),
    ]
}

proptest! {
    /// The record is at all times exactly what the events say, whatever the other workers do.
    #[test]
    fn reserved_is_settled_or_refunded_to_the_nano_dollar(
        events in prop::collection::vec(event(), 0..120), every in 0..4_u64,
    ) {
        const LIMIT: u64 = 1_000;
        let store = Contended::new(if every == 1 { 2 } else { every });
        let mut open: Vec<(u8, Reservation)> = Vec::new();
        let (mut reserved, mut spent) = ([0_u64; 4], [0_u64; 4]);
        for event in events {
            match event {
                Event::Reserve { tenant: number, amount } => {
                    let index = usize::from(number);
                    let fits = reserved[index] + spent[index] + amount <= LIMIT;
                    let result =
                        reserve(&store, WINDOW, tenant(number), Nanousd(LIMIT), Nanousd(amount));
                    match result {
                        Ok(reservation) => {
                            prop_assert!(fits);
                            reserved[index] += amount;
                            open.push((number, reservation));
                        }
                        Err(refusal) => {
                            prop_assert_eq!(refusal, Refusal::Exhausted);
                            prop_assert!(!fits);
                        }
                    }
                }
                Event::Settle { which, cost } if which < open.len() => {
                    let (number, reservation) = open.swap_remove(which);
                    reserved[usize::from(number)] -= reservation.amount().0;
                    spent[usize::from(number)] += cost;
                    prop_assert_eq!(reservation.settle(&store, Nanousd(cost)), Updated::Written);
                }
                Event::Refund { which } if which < open.len() => {
                    let (number, reservation) = open.swap_remove(which);
                    reserved[usize::from(number)] -= reservation.amount().0;
                    prop_assert_eq!(reservation.refund(&store), Updated::Written);
                }
                _ => {}
            }
            for number in 0..4_u8 {
                let index = usize::from(number);
                prop_assert_eq!(sums(&store, tenant(number)), (reserved[index], spent[index]));
            }
        }
    }
}

#[test]
fn a_budget_for_ten_admits_ten() {
    let store = MemoryStore::new();
    let ask = || reserve(&store, WINDOW, tenant(1), Nanousd(1_000), Nanousd(100));
    let admitted: Vec<Reservation> = (0..50).filter_map(|_| ask().ok()).collect();
    assert_eq!(admitted.len(), 10);
    assert_eq!(ask(), Err(Refusal::Exhausted));
}

#[test]
fn a_new_window_starts_empty_and_an_old_one_settles_into_nothing() {
    let store = MemoryStore::new();
    let next = Window {
        start_s: WINDOW.start_s + 3_600,
        ..WINDOW
    };
    let old = reserve(&store, WINDOW, tenant(1), Nanousd(10), Nanousd(10)).unwrap();
    let new = reserve(&store, next, tenant(1), Nanousd(10), Nanousd(10)).unwrap();
    assert_eq!(old.settle(&store, Nanousd(10)), Updated::Declined);
    assert_eq!(
        record(&store, next, tenant(1)).unwrap().spent,
        Nanousd::ZERO
    );
    assert_eq!(new.settle(&store, Nanousd(3)), Updated::Written);
    assert_eq!(record(&store, next, tenant(1)).unwrap().spent, Nanousd(3));
    // A worker whose clock is a moment behind still finds the record of the new window.
    assert_eq!(record(&store, WINDOW, tenant(1)).unwrap().spent, Nanousd(3));
}

/// Tenants whose ids begin alike compete for the same slots.
fn alike(number: u8) -> Account {
    let mut id = [7; 32];
    id[31] = number;
    Account::Table(TenantId(id))
}

#[test]
fn where_the_table_is_full_tenants_share_one_budget_until_the_window_ends() {
    let store = MemoryStore::new();
    let ask = |window, number| reserve(&store, window, alike(number), Nanousd(10), Nanousd(4));
    let slots = u8::try_from(BUDGET_PROBES_MAX).unwrap();
    let mut open: Vec<Reservation> = (0..slots)
        .map(|number| ask(WINDOW, number).unwrap())
        .collect();
    let shared = ask(WINDOW, slots).unwrap();
    let also_shared = ask(WINDOW, slots + 1).unwrap();
    assert_eq!(ask(WINDOW, slots + 2), Err(Refusal::Exhausted));
    assert_eq!(sums(&store, alike(slots + 9)), (8, 0));
    assert_eq!(shared.refund(&store), Updated::Written);
    assert_eq!(also_shared.settle(&store, Nanousd(5)), Updated::Written);
    assert_eq!(sums(&store, alike(slots + 9)), (0, 5));
    // A refunded record is free for whoever comes next.
    assert_eq!(open.pop().unwrap().refund(&store), Updated::Written);
    let freed = ask(WINDOW, slots + 3).unwrap();
    assert_eq!(sums(&store, alike(slots + 3)), (4, 0));
    assert_eq!(freed.settle(&store, Nanousd(1)), Updated::Written);
    let later = Window {
        start_s: WINDOW.start_s + 2 * 3_600,
        ..WINDOW
    };
    assert!(ask(later, slots).is_ok());
}

#[test]
fn strangers_cannot_displace_a_tenant_with_a_name() {
    const STRANGERS: u32 = 20_000;
    let store = MemoryStore::new();
    for number in 0..STRANGERS {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_le_bytes());
        id[4..8].copy_from_slice(&number.to_le_bytes());
        let result = reserve(
            &store,
            WINDOW,
            Account::Table(TenantId(id)),
            Nanousd(9),
            Nanousd(1),
        );
        assert!(matches!(result, Ok(_) | Err(Refusal::Exhausted)));
    }
    assert!(store.keys().len() <= BUDGET_SLOTS as usize + 1);
    let held = reserve(&store, WINDOW, tenant(1), Nanousd(9), Nanousd(9)).unwrap();
    assert_eq!(held.settle(&store, Nanousd(7)), Updated::Written);
    assert_eq!(sums(&store, tenant(1)), (0, 7));
}

#[test]
fn a_damaged_record_is_no_record() {
    let store = MemoryStore::new();
    let held = reserve(&store, WINDOW, tenant(3), Nanousd(10), Nanousd(4)).unwrap();
    let key = store.keys().pop().unwrap();
    let (good, _) = store.get(&key).unwrap();
    for position in 0..good.len() {
        let mut bad = good.clone();
        bad[position] ^= 1;
        store.set(&key, &bad, None).unwrap();
        assert_eq!(record(&store, WINDOW, tenant(3)), None, "byte {position}");
    }
    store.set(&key, &good, None).unwrap();
    assert_eq!(held.settle(&store, Nanousd(2)), Updated::Written);
    assert_eq!(sums(&store, tenant(3)), (0, 2));
}

#[test]
fn a_window_is_aligned_and_ends() {
    let window = Window::at(7_205, 3_600);
    assert_eq!(window, WINDOW);
    assert_eq!(window.remaining_s(7_205), 3_595);
    assert_eq!(window.remaining_s(10_799), 1);
    assert_eq!(window.remaining_s(99_999), 1);
}
