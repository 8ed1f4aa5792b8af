//! What is set aside for one request, and what becomes of it.

use super::record::Bucket;
use super::{Record, Unit};
use crate::limits::CAS_ATTEMPTS_MAX;
use crate::store::{self, SharedStore, Updated};
use crate::tenant::TenantId;

/// A reservation, and what had to be cleared away for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Reserved {
    pub reservation: Reservation,
    pub expired: Expired,
}

/// What was still reserved in records of past windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    pub nanousd: u64,
    pub tokens: u64,
}

impl Expired {
    pub(super) fn of(past: &[Record]) -> Expired {
        let sum = |unit: Unit| {
            past.iter()
                .filter(|record| record.unit == unit)
                .fold(0_u64, |sum, record| sum.saturating_add(record.reserved))
        };
        Expired {
            nanousd: sum(Unit::Nanousd),
            tokens: sum(Unit::Tokens),
        }
    }
}

/// An amount set aside for one request. It is consumed by being settled, so that happens once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "unless it is settled, it blocks its amount until the window ends"]
pub struct Reservation {
    pub(super) key: String,
    pub(super) tenant: TenantId,
    pub(super) unit: Unit,
    pub(super) window_start_s: u64,
    pub(super) amount: u64,
}

/// What became of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// `settled` and `refunded` are its amount together.
    InTime {
        settled: u64,
        refunded: u64,
        overrun: u64,
    },
    /// Its window is over, and somebody has cleared it away.
    Expired,
    /// Other workers kept writing: the amount stays reserved until the window ends, so that trouble
    /// never makes a budget larger.
    Contended,
}

impl Reservation {
    pub fn amount(&self) -> u64 {
        self.amount
    }

    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Replaces the reservation by what the request did cost, which may be more or less; nothing
    /// refunds all of it.
    pub fn settle(self, store: &dyn SharedStore, cost: u64) -> Settled {
        let updated = store::update(store, &self.key, CAS_ATTEMPTS_MAX, |stored| {
            let mut bucket = Bucket::open(stored?);
            let record = bucket.records.iter_mut().find(|record| {
                record.tenant == self.tenant
                    && record.unit == self.unit
                    && record.window_start_s == self.window_start_s
            })?;
            record.reserved = record.reserved.saturating_sub(self.amount);
            record.spent = record.spent.saturating_add(cost);
            Some(bucket.seal())
        });
        let settled = cost.min(self.amount);
        match updated {
            Updated::Written => Settled::InTime {
                settled,
                refunded: self.amount.saturating_sub(settled),
                overrun: cost.saturating_sub(settled),
            },
            Updated::Declined => Settled::Expired,
            Updated::Contended => Settled::Contended,
        }
    }
}
