//! Budgets under contention: nothing is lost, nothing is counted twice, nothing is overspent.

mod accounting;
mod concurrency;
mod pressure;
mod records;

use farthing_core::budget::{Account, Enforcement, Limit, Refusal, Reserved, Unit, Window, read};
use farthing_core::store::SharedStore;
use farthing_core::tenant::TenantId;

const WINDOW: Window = Window {
    start_s: 7_200,
    length_s: 3_600,
};
const NEXT: Window = Window {
    start_s: 10_800,
    length_s: 3_600,
};

fn usd(amount: u64) -> Limit {
    Limit {
        unit: Unit::Nanousd,
        amount,
    }
}

/// Odd ones are named in the configuration.
fn tenant(number: u8) -> Account {
    let id = TenantId([number; 32]);
    match number % 2 {
        0 => Account::Table(id),
        _ => Account::Fixed(id),
    }
}

fn reserve(
    store: &dyn SharedStore,
    window: Window,
    account: Account,
    limit: u64,
    amount: u64,
) -> Result<Reserved, Refusal> {
    read(store, window, account, usd(limit)).reserve(store, amount, Enforcement::Refuse)
}

/// What is reserved and what is spent.
fn sums(store: &dyn SharedStore, window: Window, account: Account) -> (u64, u64) {
    read(store, window, account, usd(0))
        .record()
        .map_or((0, 0), |record| (record.reserved, record.spent))
}
