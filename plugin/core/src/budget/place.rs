//! Where an account's record lies in the shared store.

use super::record::Bucket;
use super::{Account, Unit, Window};
use crate::limits::{BUDGET_BUCKET_RECORDS_MAX, BUDGET_BUCKETS};
use crate::store::{self, CAS_IF_ABSENT, SharedStore};
use crate::tenant::TenantId;

/// The tenants for which the table has no room, together.
const OVERFLOW: TenantId = TenantId([0xff; 32]);

/// The bucket of an account, as it was read.
#[derive(Debug)]
pub(super) struct Place {
    pub key: String,
    pub cas: u32,
    /// Whose record: the account's own, or that of all who overflow.
    pub tenant: TenantId,
    pub bucket: Bucket,
}

impl Place {
    pub fn find(store: &dyn SharedStore, window: Window, account: Account, unit: Unit) -> Place {
        let own = match account {
            Account::Fixed(tenant) => {
                let key = [store::KEY_PREFIX, "budget/fixed/", &tenant.to_hex()].concat();
                return Place::read(store, key, tenant);
            }
            Account::Table(tenant) => Place::read(store, bucket_key(tenant), tenant),
        };
        let has_room = own.bucket.records.len() < BUDGET_BUCKET_RECORDS_MAX;
        if has_room || own.bucket.get(window, own.tenant, unit).is_some() {
            return own;
        }
        let mut bucket = own.bucket.clone();
        let _ = bucket.take_past(window, own.tenant, unit);
        if bucket.records.len() < BUDGET_BUCKET_RECORDS_MAX {
            return own;
        }
        let key = format!("{}budget/overflow", store::KEY_PREFIX);
        Place::read(store, key, OVERFLOW)
    }

    fn read(store: &dyn SharedStore, key: String, tenant: TenantId) -> Place {
        let (bucket, cas) = match store.get(&key) {
            Some((sealed, cas)) => (Bucket::open(&sealed), cas),
            None => (Bucket::default(), CAS_IF_ABSENT),
        };
        Place {
            key,
            cas,
            tenant,
            bucket,
        }
    }
}

fn bucket_key(tenant: TenantId) -> String {
    let [a, b, c, d, ..] = tenant.0;
    let bucket = u32::from_le_bytes([a, b, c, d]) % BUDGET_BUCKETS;
    store::numbered_key("budget/table", bucket)
}
