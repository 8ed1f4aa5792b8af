//! Budgets that hold across workers: what a request may cost at most is reserved before it is sent,
//! and settled to what it did cost, or refunded, when it ends. Each account has one record for each
//! window in the shared store, and every change is a compare-and-swap.
//!
//! Tenants that the configuration names have a key each, which nobody can take from them. All
//! others share a table of `BUDGET_BUCKETS` buckets of `BUDGET_BUCKET_RECORDS_MAX` records,
//! because anybody can invent credentials. A bucket is one value, so no race can give a tenant two
//! records; and a record stays until its window ends, so a tenant that once found its bucket full
//! stays with the one overflow record that all such tenants have together: a budget that is not
//! counted is no budget, and a full table must not turn everybody away.
//!
//! # What becomes of a reservation
//!
//! Exactly one of three things, each counted:
//! * *settled*: up to its amount, what the request cost; the rest is *refunded*, and what it cost
//!   beyond is *overrun* (spent, and never reserved);
//! * *expired*: the window ended first. That happens to requests that last into the next window,
//!   and to those whose VM trapped: nobody is left to settle them, so their money stays set aside,
//!   as if it were spent, until the first reservation in a later window finds the old record and
//!   clears it away.
//!
//! So at any time, in the unit of the budget and to the last one,
//! `Σ reserved = Σ settled + Σ refunded + Σ expired + what records still hold as reserved`.
//! Nothing is counted but by whoever wrote the change, and a reservation whose record has expired
//! settles into nothing.

mod place;
mod pressure;
mod record;
mod reservation;
mod window;

pub use pressure::{Low, Pressure};
pub use record::Record;
pub use reservation::{Expired, Reservation, Reserved, Settled};
pub use window::Window;

use crate::limits::CAS_ATTEMPTS_MAX;
use crate::store::SharedStore;
use crate::tenant::TenantId;
use place::Place;

/// What a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Nanousd = 0,
    Tokens = 1,
}

/// What may be spent in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub unit: Unit,
    pub amount: u64,
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

/// Does a limit refuse, or is it only watched?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    Refuse,
    Watch,
}

/// Why nothing could be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the budget of this window is exhausted")]
    Exhausted,
    #[error("too many workers changed this budget at the same time")]
    Contended,
}

/// An account as it was read: the read serves the shadow price and the reservation alike.
#[derive(Debug)]
pub struct Standing {
    account: Account,
    window: Window,
    limit: Limit,
    place: Place,
}

/// Reads an account.
pub fn read(store: &dyn SharedStore, window: Window, account: Account, limit: Limit) -> Standing {
    Standing {
        account,
        window,
        limit,
        place: Place::find(store, window, account, limit.unit),
    }
}

impl Standing {
    /// The record of this window, if anything was ever reserved in it.
    pub fn record(&self) -> Option<Record> {
        let Place { bucket, tenant, .. } = &self.place;
        bucket.get(self.window, *tenant, self.limit.unit).copied()
    }

    fn committed(&self) -> u64 {
        self.record().map_or(0, |record| record.committed())
    }

    /// Would this amount be reserved?
    pub fn covers(&self, amount: u64) -> bool {
        let sum = self.committed().checked_add(amount);
        sum.is_some_and(|sum| sum <= self.limit.amount)
    }

    pub fn pressure(&self, low: &Low, now_unix_s: u64) -> Pressure {
        let committed = self.committed();
        Pressure::of(low, self.limit.amount, committed, self.window, now_unix_s)
    }

    pub fn unit(&self) -> Unit {
        self.limit.unit
    }

    /// Sets `amount` aside if the limit allows it besides all that is spent and reserved. Reads
    /// again only if another worker wrote meanwhile.
    pub fn reserve(
        &mut self,
        store: &dyn SharedStore,
        amount: u64,
        enforcement: Enforcement,
    ) -> Result<Reserved, Refusal> {
        for _ in 0..CAS_ATTEMPTS_MAX {
            if enforcement == Enforcement::Refuse && !self.covers(amount) {
                return Err(Refusal::Exhausted);
            }
            let Limit { unit, .. } = self.limit;
            let Place {
                key,
                cas,
                tenant,
                bucket,
            } = &self.place;
            let mut bucket = bucket.clone();
            let past = bucket.take_past(self.window, *tenant, unit);
            let window_start_s = bucket.add(self.window, *tenant, unit, amount);
            if store.set(key, &bucket.seal(), Some(*cas)).is_ok() {
                let reservation = Reservation {
                    key: key.clone(),
                    tenant: *tenant,
                    unit,
                    window_start_s,
                    amount,
                };
                return Ok(Reserved {
                    reservation,
                    expired: Expired::of(&past),
                });
            }
            self.place = Place::find(store, self.window, self.account, unit);
        }
        Err(Refusal::Contended)
    }
}
