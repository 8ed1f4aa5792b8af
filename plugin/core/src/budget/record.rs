//! What is kept of budgets in the shared store: records, several under one key where tenants share
//! a bucket.

use super::{Unit, Window};
use crate::store;
use crate::tenant::TenantId;

const MAGIC: [u8; 4] = *b"FBG2";

/// One tenant's sums in one window, in its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub tenant: TenantId,
    pub unit: Unit,
    pub window_start_s: u64,
    /// Set aside for requests that have not ended.
    pub reserved: u64,
    pub spent: u64,
}

impl Record {
    const BYTES: usize = 57;

    /// All that the tenant can no longer spend.
    pub fn committed(&self) -> u64 {
        self.reserved.saturating_add(self.spent)
    }

    /// Is it that tenant's, and in force?
    fn is_of(&self, window: Window, tenant: TenantId, unit: Unit) -> bool {
        self.tenant == tenant && self.unit == unit && window.holds(self.window_start_s)
    }

    fn write(&self, payload: &mut Vec<u8>) {
        payload.extend_from_slice(&self.tenant.0);
        payload.push(self.unit as u8);
        for number in [self.window_start_s, self.reserved, self.spent] {
            payload.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Option<Record> {
        let (tenant, numbers) = bytes.split_first_chunk::<32>()?;
        let (unit, numbers) = numbers.split_first()?;
        let (window_start_s, numbers) = numbers.split_first_chunk::<8>()?;
        let (reserved, spent) = numbers.split_first_chunk::<8>()?;
        Some(Record {
            tenant: TenantId(*tenant),
            unit: match unit {
                0 => Unit::Nanousd,
                1 => Unit::Tokens,
                _ => return None,
            },
            window_start_s: u64::from_le_bytes(*window_start_s),
            reserved: u64::from_le_bytes(*reserved),
            spent: u64::from_le_bytes(spent.try_into().ok()?),
        })
    }
}

/// Every record under one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    pub records: Vec<Record>,
}

impl Bucket {
    pub fn seal(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.records.len().saturating_mul(Record::BYTES));
        for record in &self.records {
            record.write(&mut payload);
        }
        store::seal(MAGIC, &payload)
    }

    /// What cannot be read is an empty bucket: it is not one of ours, or it is damaged.
    pub fn open(sealed: &[u8]) -> Bucket {
        let payload = store::open(MAGIC, sealed).unwrap_or_default();
        let records = payload
            .chunks(Record::BYTES)
            .map(Record::read)
            .collect::<Option<Vec<Record>>>();
        Bucket {
            records: records.unwrap_or_default(),
        }
    }

    /// The record of a tenant that is in force.
    pub fn get(&self, window: Window, tenant: TenantId, unit: Unit) -> Option<&Record> {
        self.records
            .iter()
            .find(|record| record.is_of(window, tenant, unit))
    }

    /// Takes out the records whose window is over, and those of this tenant in another unit, which
    /// a former configuration had.
    pub fn take_past(&mut self, window: Window, tenant: TenantId, unit: Unit) -> Vec<Record> {
        let (present, past) = std::mem::take(&mut self.records)
            .into_iter()
            .partition(|record| {
                window.holds(record.window_start_s)
                    && (record.tenant != tenant || record.unit == unit)
            });
        self.records = present;
        past
    }

    /// Adds to what a tenant has reserved; returns the window that the record is of.
    pub fn add(&mut self, window: Window, tenant: TenantId, unit: Unit, amount: u64) -> u64 {
        let mut records = self.records.iter_mut();
        let found = records.find(|record| record.is_of(window, tenant, unit));
        if let Some(record) = found {
            record.reserved = record.reserved.saturating_add(amount);
            return record.window_start_s;
        }
        self.records.push(Record {
            tenant,
            unit,
            window_start_s: window.start_s,
            reserved: amount,
            spent: 0,
        });
        window.start_s
    }
}
