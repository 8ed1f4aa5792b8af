//! One account after another: limits, windows, full tables, damage.

use super::{NEXT, WINDOW, reserve, sums, tenant, usd};
use farthing_core::budget::{
    Account, Enforcement, Expired, Limit, Refusal, Reservation, Settled, Unit, Window, read,
};
use farthing_core::limits::{BUDGET_BUCKET_RECORDS_MAX, BUDGET_BUCKETS};
use farthing_core::store::{MemoryStore, SharedStore};
use farthing_core::tenant::TenantId;

fn in_time(settled: u64, refunded: u64, overrun: u64) -> Settled {
    Settled::InTime {
        settled,
        refunded,
        overrun,
    }
}

#[test]
fn a_budget_for_ten_admits_ten() {
    let store = MemoryStore::new();
    let ask = || reserve(&store, WINDOW, tenant(1), 1_000, 100);
    let admitted: Vec<_> = (0..50).filter_map(|_| ask().ok()).collect();
    assert_eq!(admitted.len(), 10);
    assert_eq!(ask(), Err(Refusal::Exhausted));
}

#[test]
fn a_settlement_says_what_became_of_the_amount() {
    let store = MemoryStore::new();
    let settle = |cost| {
        let reserved = reserve(&store, WINDOW, tenant(1), 1_000, 100).unwrap();
        reserved.reservation.settle(&store, cost)
    };
    assert_eq!(settle(0), in_time(0, 100, 0));
    assert_eq!(settle(60), in_time(60, 40, 0));
    assert_eq!(settle(130), in_time(100, 0, 30));
    assert_eq!(sums(&store, WINDOW, tenant(1)), (0, 190));
}

#[test]
fn a_watched_budget_counts_beyond_its_limit() {
    let store = MemoryStore::new();
    let mut standing = read(&store, WINDOW, tenant(2), usd(10));
    assert!(!standing.covers(11));
    let reserved = standing.reserve(&store, 11, Enforcement::Watch).unwrap();
    assert_eq!(sums(&store, WINDOW, tenant(2)), (11, 0));
    assert_eq!(reserved.reservation.settle(&store, 12), in_time(11, 0, 1));
}

/// Money of a window that has ended is counted once: by its own request, or by who clears it away.
#[test]
fn a_new_window_starts_empty_and_what_was_left_in_the_old_one_expires() {
    for number in [1, 2] {
        let store = MemoryStore::new();
        let account = tenant(number);
        let orphan = reserve(&store, WINDOW, account, 100, 10).unwrap();
        let late = reserve(&store, WINDOW, account, 100, 20).unwrap();
        let still_in_time = reserve(&store, WINDOW, account, 100, 30).unwrap();
        assert_eq!(
            still_in_time.reservation.settle(&store, 5),
            in_time(5, 25, 0)
        );
        let new = reserve(&store, NEXT, account, 10, 10).unwrap();
        let left = Expired {
            nanousd: 30,
            tokens: 0,
        };
        assert_eq!(new.expired, left);
        assert_eq!(late.reservation.settle(&store, 20), Settled::Expired);
        drop(orphan);
        assert_eq!(sums(&store, NEXT, account), (10, 0));
        assert_eq!(new.reservation.settle(&store, 3), in_time(3, 7, 0));
        assert_eq!(sums(&store, NEXT, account), (0, 3));
        // A worker whose clock is a moment behind still finds the record of the new window.
        assert_eq!(sums(&store, WINDOW, account), (0, 3));
    }
}

#[test]
fn a_tenant_whose_unit_changes_starts_anew() {
    let store = MemoryStore::new();
    let old = reserve(&store, WINDOW, tenant(2), 100, 60).unwrap();
    let tokens = Limit {
        unit: Unit::Tokens,
        amount: 100,
    };
    let mut standing = read(&store, WINDOW, tenant(2), tokens);
    let new = standing.reserve(&store, 100, Enforcement::Refuse).unwrap();
    assert_eq!(new.expired.nanousd, 60);
    assert_eq!(old.reservation.settle(&store, 1), Settled::Expired);
    assert_eq!(new.reservation.settle(&store, 7), in_time(7, 93, 0));
}

/// Tenants whose ids begin alike share a bucket.
fn alike(number: usize) -> Account {
    let mut id = [7; 32];
    id[31] = u8::try_from(number).unwrap();
    Account::Table(TenantId(id))
}

#[test]
fn where_a_bucket_is_full_tenants_share_one_budget_until_the_window_ends() {
    let store = MemoryStore::new();
    let ask = |window, number| reserve(&store, window, alike(number), 10, 4);
    let mut open: Vec<Reservation> = (0..BUDGET_BUCKET_RECORDS_MAX)
        .map(|number| ask(WINDOW, number).unwrap().reservation)
        .collect();
    let next = BUDGET_BUCKET_RECORDS_MAX;
    let shared = ask(WINDOW, next).unwrap().reservation;
    let also_shared = ask(WINDOW, next + 1).unwrap().reservation;
    assert_eq!(ask(WINDOW, next + 2), Err(Refusal::Exhausted));
    assert_eq!(sums(&store, WINDOW, alike(next + 9)), (8, 0));
    assert_eq!(shared.settle(&store, 0), in_time(0, 4, 0));
    assert_eq!(also_shared.settle(&store, 5), in_time(4, 0, 1));
    // A refunded record stays its tenant's, so nobody's money is counted in two places.
    assert_eq!(open.pop().unwrap().settle(&store, 0), in_time(0, 4, 0));
    let shared = ask(WINDOW, next + 3).unwrap().reservation;
    assert_eq!(sums(&store, WINDOW, alike(next + 3)), (4, 5));
    assert_eq!(shared.settle(&store, 1), in_time(1, 3, 0));
    let freed = ask(NEXT, next + 3).unwrap();
    assert_eq!(sums(&store, NEXT, alike(next + 3)), (4, 0));
    assert_eq!(
        freed.expired.nanousd,
        4 * (BUDGET_BUCKET_RECORDS_MAX as u64 - 1)
    );
}

#[test]
fn strangers_cannot_displace_a_tenant_with_a_name() {
    const STRANGERS: u32 = 20_000;
    let store = MemoryStore::new();
    for number in 0..STRANGERS {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_le_bytes());
        id[4..8].copy_from_slice(&number.to_le_bytes());
        let result = reserve(&store, WINDOW, Account::Table(TenantId(id)), 9, 1);
        assert!(matches!(result, Ok(_) | Err(Refusal::Exhausted)));
    }
    assert!(store.keys().len() <= BUDGET_BUCKETS as usize + 1);
    let held = reserve(&store, WINDOW, tenant(1), 9, 9).unwrap();
    assert_eq!(held.reservation.settle(&store, 7), in_time(7, 2, 0));
    assert_eq!(sums(&store, WINDOW, tenant(1)), (0, 7));
}

#[test]
fn a_damaged_record_is_no_record() {
    let store = MemoryStore::new();
    let held = reserve(&store, WINDOW, tenant(3), 10, 4).unwrap();
    let key = store.keys().pop().unwrap();
    let (good, _) = store.get(&key).unwrap();
    for position in 0..good.len() {
        let mut bad = good.clone();
        bad[position] ^= 1;
        store.set(&key, &bad, None).unwrap();
        let standing = read(&store, WINDOW, tenant(3), usd(10));
        assert_eq!(standing.record(), None, "byte {position}");
    }
    store.set(&key, &good, None).unwrap();
    assert_eq!(held.reservation.settle(&store, 2), in_time(2, 2, 0));
    assert_eq!(sums(&store, WINDOW, tenant(3)), (0, 2));
}

#[test]
fn a_window_is_aligned_and_ends() {
    let window = Window::at(7_205, 3_600);
    assert_eq!(window, WINDOW);
    assert_eq!(window.remaining_s(7_205), 3_595);
    assert_eq!(window.remaining_s(10_799), 1);
    assert_eq!(window.remaining_s(99_999), 1);
}
