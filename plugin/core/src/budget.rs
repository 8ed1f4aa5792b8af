//! Budgets that hold across workers: what a request may cost at most is reserved before it is sent,
//! and settled to what it did cost, or refunded, when it ends. Each account has one record for each
//! window in the shared store, and every change is a compare-and-swap.
//!
//! Tenants that the configuration names have a key each, which nobody can take from them. All
//! others share a table of fixed size, because anybody can invent credentials: such a record lies
//! in one of [`BUDGET_PROBES_MAX`] slots that follow from its id. Slots never become absent again,
//! so a search may stop at an absent one. A record of a past window, or one in which nothing is
//! reserved or spent, may be overwritten by anybody. Where all slots are taken, the tenant spends
//! from one overflow record that all such tenants have together: a budget that is not counted is
//! no budget, and a full table must not turn everybody away.

use crate::limits::{BUDGET_PROBES_MAX, BUDGET_SLOTS, CAS_ATTEMPTS_MAX};
use crate::money::Nanousd;
use crate::store::{self, CAS_IF_ABSENT, SharedStore, Updated};
use crate::tenant::TenantId;

const MAGIC: [u8; 4] = *b"FBG1";

/// The tenants for which the table has no room, together.
const OVERFLOW: TenantId = TenantId([0xff; 32]);

/// A span of time with a budget of its own, aligned to multiples of its length since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start_s: u64,
    pub length_s: u32,
}

impl Window {
    pub fn at(now_unix_s: u64, length_s: u32) -> Window {
        let length_s = length_s.max(1);
        let into = now_unix_s.checked_rem(u64::from(length_s)).unwrap_or(0);
        Window {
            start_s: now_unix_s.saturating_sub(into),
            length_s,
        }
    }

    /// Seconds until the next window, at least 1.
    pub fn remaining_s(&self, now_unix_s: u64) -> u32 {
        let end = self.start_s.saturating_add(u64::from(self.length_s));
        u32::try_from(end.saturating_sub(now_unix_s))
            .unwrap_or(self.length_s)
            .max(1)
    }

    /// Is a record of that window still in force? Also one of the next window: two workers read
    /// the clock a moment apart. One further ahead is left over from a clock that was wrong.
    fn holds(&self, record_start_s: u64) -> bool {
        let latest = self.start_s.saturating_add(u64::from(self.length_s));
        (self.start_s..=latest).contains(&record_start_s)
    }
}

/// One tenant's sums in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub tenant: TenantId,
    pub window_start_s: u64,
    pub reserved: Nanousd,
    pub spent: Nanousd,
}

impl Record {
    const BYTES: usize = 56;

    fn seal(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(Self::BYTES);
        payload.extend_from_slice(&self.tenant.0);
        payload.extend_from_slice(&self.window_start_s.to_le_bytes());
        payload.extend_from_slice(&self.reserved.0.to_le_bytes());
        payload.extend_from_slice(&self.spent.0.to_le_bytes());
        store::seal(MAGIC, &payload)
    }

    fn open(sealed: &[u8]) -> Option<Record> {
        let (tenant, numbers) = store::open(MAGIC, sealed)?.split_first_chunk::<32>()?;
        let (window_start_s, numbers) = numbers.split_first_chunk::<8>()?;
        let (reserved, spent) = numbers.split_first_chunk::<8>()?;
        Some(Record {
            tenant: TenantId(*tenant),
            window_start_s: u64::from_le_bytes(*window_start_s),
            reserved: Nanousd(u64::from_le_bytes(*reserved)),
            spent: Nanousd(u64::from_le_bytes(spent.try_into().ok()?)),
        })
    }
}

/// Whose record it is, and so where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// A tenant that the configuration names, or all anonymous ones: under a key of its own. There
    /// are as many as names in the configuration, and one.
    Fixed(TenantId),
    /// Anybody else: in the table, or in the overflow record.
    Table(TenantId),
}

/// Money set aside for one request. It is consumed by being settled or refunded, so it cannot be
/// either twice.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "neither settled nor refunded, it blocks money until its window ends"]
pub struct Reservation {
    key: String,
    tenant: TenantId,
    window_start_s: u64,
    amount: Nanousd,
}

/// Why nothing could be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the budget of this window is exhausted")]
    Exhausted,
    #[error("too many workers changed this budget at the same time")]
    Contended,
}

/// Sets `amount` aside if `limit` allows it besides all that is spent and reserved.
pub fn reserve(
    store: &dyn SharedStore,
    window: Window,
    account: Account,
    limit: Nanousd,
    amount: Nanousd,
) -> Result<Reservation, Refusal> {
    for _ in 0..CAS_ATTEMPTS_MAX {
        let place = find(store, window, account);
        let mut record = place.record;
        let committed = record
            .spent
            .saturating_add(record.reserved)
            .saturating_add(amount);
        if committed > limit || committed.0 == u64::MAX {
            return Err(Refusal::Exhausted);
        }
        record.reserved += amount;
        if store
            .set(&place.key, &record.seal(), Some(place.cas))
            .is_err()
        {
            continue;
        }
        let reservation = Reservation {
            key: place.key,
            tenant: record.tenant,
            window_start_s: record.window_start_s,
            amount,
        };
        if place.kind == PlaceKind::Open || !has_twin(store, window, account, &reservation.key) {
            return Ok(reservation);
        }
        // Another worker opened a record for this tenant elsewhere. Both write before they look,
        // so at least one sees the other, and no two records are kept.
        reservation.refund(store);
    }
    Err(Refusal::Contended)
}

/// An account's record of the window, if anything is reserved or spent in it.
pub fn record(store: &dyn SharedStore, window: Window, account: Account) -> Option<Record> {
    let place = find(store, window, account);
    (place.kind == PlaceKind::Open).then_some(place.record)
}

impl Reservation {
    pub fn amount(&self) -> Nanousd {
        self.amount
    }

    /// Replaces the reservation by what the request did cost, which may be more or less. A window
    /// that is over needs no settling. [`Updated::Contended`] leaves the amount reserved, so that
    /// trouble never makes a budget larger.
    pub fn settle(self, store: &dyn SharedStore, cost: Nanousd) -> Updated {
        store::update(store, &self.key, CAS_ATTEMPTS_MAX, |stored| {
            let mut record = stored.and_then(Record::open)?;
            if record.tenant != self.tenant || record.window_start_s != self.window_start_s {
                return None;
            }
            record.reserved = record.reserved.saturating_sub(self.amount);
            record.spent += cost;
            Some(record.seal())
        })
    }

    /// Gives all of it back: the request cost nothing.
    pub fn refund(self, store: &dyn SharedStore) -> Updated {
        self.settle(store, Nanousd::ZERO)
    }
}

/// Where an account's record is, or may be put.
struct Place {
    key: String,
    cas: u32,
    record: Record,
    kind: PlaceKind,
}

#[derive(PartialEq, Eq)]
enum PlaceKind {
    /// The account's record of this window.
    Open,
    /// Room for one.
    Free,
}

fn find(store: &dyn SharedStore, window: Window, account: Account) -> Place {
    match account {
        Account::Fixed(tenant) => {
            let key = format!("{}budget/fixed/{}", store::KEY_PREFIX, tenant.to_hex());
            fixed_place(store, window, tenant, key)
        }
        Account::Table(tenant) => table_place(store, window, tenant).unwrap_or_else(|| {
            let key = format!("{}budget/overflow", store::KEY_PREFIX);
            fixed_place(store, window, OVERFLOW, key)
        }),
    }
}

/// The only place that a record with a key of its own may have.
fn fixed_place(store: &dyn SharedStore, window: Window, tenant: TenantId, key: String) -> Place {
    match store.get(&key) {
        None => Place::free(key, CAS_IF_ABSENT, window, tenant),
        Some((sealed, cas)) => match open_in(&sealed, window) {
            Some(record) if record.tenant == tenant => Place::open(key, cas, record),
            _ => Place::free(key, cas, window, tenant),
        },
    }
}

/// A tenant's slot of the table, else a free one, else none.
fn table_place(store: &dyn SharedStore, window: Window, tenant: TenantId) -> Option<Place> {
    let mut free: Option<Place> = None;
    for key in slot_keys(tenant) {
        let Some((sealed, cas)) = store.get(&key) else {
            return free.or_else(|| Some(Place::free(key, CAS_IF_ABSENT, window, tenant)));
        };
        match open_in(&sealed, window) {
            Some(record) if record.tenant == tenant => return Some(Place::open(key, cas, record)),
            Some(_) => {}
            None => free = free.or_else(|| Some(Place::free(key, cas, window, tenant))),
        }
    }
    free
}

/// Does the tenant have a record in force in another slot than the one under `key`?
fn has_twin(store: &dyn SharedStore, window: Window, account: Account, key: &str) -> bool {
    let Account::Table(tenant) = account else {
        return false;
    };
    slot_keys(tenant).filter(|other| other != key).any(|other| {
        store
            .get(&other)
            .and_then(|(sealed, _)| open_in(&sealed, window))
            .is_some_and(|record| record.tenant == tenant)
    })
}

impl Place {
    fn open(key: String, cas: u32, record: Record) -> Place {
        Place {
            key,
            cas,
            record,
            kind: PlaceKind::Open,
        }
    }

    fn free(key: String, cas: u32, window: Window, tenant: TenantId) -> Place {
        let record = Record {
            tenant,
            window_start_s: window.start_s,
            reserved: Nanousd::ZERO,
            spent: Nanousd::ZERO,
        };
        Place {
            key,
            cas,
            record,
            kind: PlaceKind::Free,
        }
    }
}

/// A record that is in force: of this window, undamaged, and not empty. An empty one belongs to
/// nobody, not even to the tenant that it names, so that a tenant never has two.
fn open_in(sealed: &[u8], window: Window) -> Option<Record> {
    Record::open(sealed).filter(|record| {
        window.holds(record.window_start_s)
            && (record.reserved > Nanousd::ZERO || record.spent > Nanousd::ZERO)
    })
}

/// The slots that a tenant's record may lie in, in the order of the search.
fn slot_keys(tenant: TenantId) -> impl Iterator<Item = String> {
    let [a, b, c, d, ..] = tenant.0;
    let home = u32::from_le_bytes([a, b, c, d]) % BUDGET_SLOTS;
    (0..BUDGET_PROBES_MAX).map(move |probe| {
        let slot = home.wrapping_add(probe) % BUDGET_SLOTS;
        format!("{}budget/{slot}", store::KEY_PREFIX)
    })
}
