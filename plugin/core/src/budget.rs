//! Budgets that hold across workers: what a request may cost at most is reserved before it is sent,
//! and settled to what it did cost, or refunded, when it ends. Each tenant has one record for each
//! window in a table of fixed size in the shared store, and every change is a compare-and-swap.
//!
//! A tenant's record lies in one of [`BUDGET_PROBES_MAX`] slots that follow from its id. Slots
//! never become absent again, so a search may stop at an absent one; a record of a past window may
//! be overwritten by anybody. If all slots are taken by tenants of this window, the request is
//! refused: a budget that is not counted is no budget.

use crate::limits::{BUDGET_PROBES_MAX, BUDGET_SLOTS, CAS_ATTEMPTS_MAX};
use crate::money::Nanousd;
use crate::store::{self, CAS_IF_ABSENT, SharedStore, Updated};
use crate::tenant::TenantId;

const MAGIC: [u8; 4] = *b"FBG1";

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

/// Money set aside for one request. It is consumed by being settled or refunded, so it cannot be
/// either twice.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "neither settled nor refunded, it blocks money until its window ends"]
pub struct Reservation {
    slot: u32,
    tenant: TenantId,
    window_start_s: u64,
    amount: Nanousd,
}

/// Why nothing could be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the budget of this window is exhausted")]
    Exhausted,
    #[error("too many tenants have an open budget window")]
    TableFull,
    #[error("too many workers changed this budget at the same time")]
    Contended,
}

/// Sets `amount` aside if `limit` allows it besides all that is spent and reserved.
pub fn reserve(
    store: &dyn SharedStore,
    window: Window,
    tenant: TenantId,
    limit: Nanousd,
    amount: Nanousd,
) -> Result<Reservation, Refusal> {
    for _ in 0..CAS_ATTEMPTS_MAX {
        let place = find(store, window, tenant).ok_or(Refusal::TableFull)?;
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
            .set(&slot_key(place.slot), &record.seal(), Some(place.cas))
            .is_ok()
        {
            let window_start_s = record.window_start_s;
            return Ok(Reservation {
                slot: place.slot,
                tenant,
                window_start_s,
                amount,
            });
        }
    }
    Err(Refusal::Contended)
}

/// A tenant's record of the window, if it has one.
pub fn record(store: &dyn SharedStore, window: Window, tenant: TenantId) -> Option<Record> {
    find(store, window, tenant)
        .filter(|place| place.kind == PlaceKind::Open)
        .map(|p| p.record)
}

impl Reservation {
    pub fn amount(&self) -> Nanousd {
        self.amount
    }

    /// Replaces the reservation by what the request did cost, which may be more or less. A window
    /// that is over needs no settling. [`Updated::Contended`] leaves the amount reserved, so that
    /// trouble never makes a budget larger.
    pub fn settle(self, store: &dyn SharedStore, cost: Nanousd) -> Updated {
        store::update(store, &slot_key(self.slot), CAS_ATTEMPTS_MAX, |stored| {
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

/// Where a tenant's record is, or may be put.
struct Place {
    slot: u32,
    cas: u32,
    record: Record,
    kind: PlaceKind,
}

#[derive(PartialEq, Eq)]
enum PlaceKind {
    /// The tenant's record of this window.
    Open,
    /// Room for one.
    Free,
}

fn find(store: &dyn SharedStore, window: Window, tenant: TenantId) -> Option<Place> {
    let empty = Record {
        tenant,
        window_start_s: window.start_s,
        reserved: Nanousd::ZERO,
        spent: Nanousd::ZERO,
    };
    let room = |slot, cas| {
        Some(Place {
            slot,
            cas,
            record: empty,
            kind: PlaceKind::Free,
        })
    };
    let mut free: Option<Place> = None;
    for probe in 0..BUDGET_PROBES_MAX {
        let slot = home_slot(tenant).wrapping_add(probe) % BUDGET_SLOTS;
        let Some((sealed, cas)) = store.get(&slot_key(slot)) else {
            return free.or_else(|| room(slot, CAS_IF_ABSENT));
        };
        match Record::open(&sealed) {
            Some(record) if window.holds(record.window_start_s) => {
                if record.tenant == tenant {
                    return Some(Place {
                        slot,
                        cas,
                        record,
                        kind: PlaceKind::Open,
                    });
                }
            }
            // A past window or a damaged value: anybody may take the slot.
            _ => free = free.or_else(|| room(slot, cas)),
        }
    }
    free
}

fn home_slot(tenant: TenantId) -> u32 {
    let [a, b, c, d, ..] = tenant.0;
    u32::from_le_bytes([a, b, c, d]) % BUDGET_SLOTS
}

fn slot_key(slot: u32) -> String {
    format!("{}budget/{slot}", store::KEY_PREFIX)
}
