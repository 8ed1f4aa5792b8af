//! What it costs to answer for less: embeddings, the verifier, answers that were not good enough,
//! samples. The filter bills it. What belongs to a request goes out with its answer; what is spent
//! after the answer, or for a request that got none, is owed by its tenant until that tenant's next
//! answer, which carries all of it. Each nano-dollar is in one answer's headers, or waits, or is
//! counted as lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use farthing_core::limits::OVERHEAD_TENANTS_MAX;
use farthing_core::money::Nanousd;
use farthing_core::price::{Price, ServiceTier, Tokens};
use farthing_core::tenant::TenantId;

use crate::config::Config;
use crate::metrics::Page;

/// What money goes to besides answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Questions, prompts and answers that are compared.
    Embedding,
    /// The verifier of the semantic cache.
    Verifier,
    /// Answers of the semantic cache that were generated again.
    Resample,
    /// Answers of a cascade's models that were not good enough.
    Cascade,
}

impl Purpose {
    const ALL: [Purpose; 4] = [
        Purpose::Embedding,
        Purpose::Verifier,
        Purpose::Resample,
        Purpose::Cascade,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Purpose::Embedding => "embedding",
            Purpose::Verifier => "verifier",
            Purpose::Resample => "resample",
            Purpose::Cascade => "cascade",
        }
    }
}

/// The accounts of all tenants.
#[derive(Debug, Default)]
pub struct Overheads {
    /// What models cost, by their ids; those without a price cost nothing.
    prices: HashMap<String, Price>,
    /// Tenants that owe something.
    owed: Mutex<HashMap<TenantId, Nanousd>>,
    spent: [AtomicU64; Purpose::ALL.len()],
    billed: AtomicU64,
    lost: AtomicU64,
}

impl Overheads {
    /// With the prices of a configuration.
    pub fn new(config: &Config) -> Overheads {
        let own = config.models.iter().map(|model| (&model.id, &model.price));
        let provided = config.provider_models.iter();
        let provided = provided.map(|model| (&model.id, &model.price));
        let priced = own.chain(provided);
        let prices = priced.filter_map(|(id, price)| Some((id.clone(), price.as_ref()?.price())));
        Overheads {
            prices: prices.collect(),
            ..Overheads::default()
        }
    }

    /// Adds to what a tenant owes. Without a tenant there is no answer to put it on, and with too
    /// many there is no room: it is counted as lost.
    fn owe(&self, tenant: Option<TenantId>, amount: Nanousd) {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = owed.len() < OVERHEAD_TENANTS_MAX;
        match tenant.filter(|tenant| has_room || owed.contains_key(tenant)) {
            Some(tenant) => {
                let sum = owed.entry(tenant).or_default();
                *sum = sum.saturating_add(amount);
            }
            None => {
                self.lost.fetch_add(amount.0, Relaxed);
            }
        }
    }

    /// Takes all that a tenant owes: nobody else gets it a second time.
    fn take(&self, tenant: Option<TenantId>) -> Nanousd {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = tenant.and_then(|tenant| owed.remove(&tenant));
        taken.unwrap_or_default()
    }

    /// What all tenants owe together.
    pub fn owed(&self) -> Nanousd {
        let owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        owed.values()
            .fold(Nanousd::ZERO, |sum, amount| sum.saturating_add(*amount))
    }

    /// Writes what was spent, and what became of it.
    pub fn write_metrics(&self, page: &mut Page) {
        let name = "farthing_overhead_nanousd_total";
        page.family(name, "counter", "Spent on answering for less.");
        for (purpose, spent) in Purpose::ALL.iter().zip(&self.spent) {
            let labels = format!("for=\"{}\"", purpose.as_str());
            page.sample(name, &labels, spent.load(Relaxed));
        }
        for (name, kind, help, value) in [
            (
                "farthing_overhead_billed_nanousd_total",
                "counter",
                "Of that, what answers have carried to the filter.",
                self.billed.load(Relaxed),
            ),
            (
                "farthing_overhead_lost_nanousd_total",
                "counter",
                "Of that, what no answer can carry: spent for nobody, or for too many tenants.",
                self.lost.load(Relaxed),
            ),
            (
                "farthing_overhead_owed_nanousd",
                "gauge",
                "Of that, what waits for a tenant's next answer.",
                self.owed().0,
            ),
        ] {
            page.family(name, kind, help);
            page.sample(name, "", value);
        }
    }
}

/// What one request costs besides its answer, or what is done after it. Whatever no answer has
/// carried when this is dropped is owed by the tenant.
#[derive(Debug)]
pub struct Overhead {
    all: Arc<Overheads>,
    tenant: Option<TenantId>,
    unbilled: AtomicU64,
}

impl Overhead {
    pub fn of(all: &Arc<Overheads>, tenant: Option<TenantId>) -> Overhead {
        Overhead {
            all: Arc::clone(all),
            tenant,
            unbilled: AtomicU64::new(0),
        }
    }

    /// Adds what a model's tokens cost.
    pub fn spend(&self, purpose: Purpose, model: &str, service: ServiceTier, tokens: &Tokens) {
        if let Some(price) = self.all.prices.get(model) {
            self.add(purpose, price.cost(service, tokens));
        }
    }

    /// Adds what embedding so many tokens cost.
    pub fn embedded(&self, model: &str, tokens: usize) {
        let tokens = Tokens {
            prompt: tokens as u64,
            ..Tokens::default()
        };
        self.spend(Purpose::Embedding, model, ServiceTier::Standard, &tokens);
    }

    /// Adds an amount.
    pub fn add(&self, purpose: Purpose, amount: Nanousd) {
        let spent = Purpose::ALL.iter().zip(&self.all.spent);
        for (_, spent) in spent.filter(|(of, _)| **of == purpose) {
            spent.fetch_add(amount.0, Relaxed);
        }
        self.unbilled.fetch_add(amount.0, Relaxed);
    }

    /// Takes all of it, and all that the tenant owes, for an answer that begins now.
    pub fn bill(&self) -> Nanousd {
        let own = Nanousd(self.unbilled.swap(0, Relaxed));
        let amount = own.saturating_add(self.all.take(self.tenant));
        self.all.billed.fetch_add(amount.0, Relaxed);
        amount
    }
}

impl Drop for Overhead {
    fn drop(&mut self) {
        let left = Nanousd(self.unbilled.swap(0, Relaxed));
        if left > Nanousd::ZERO {
            self.all.owe(self.tenant, left);
        }
    }
}

/// Tokens that are being computed. They are paid for whatever comes of it: who does not wait for
/// the end has had them computed all the same.
#[derive(Debug)]
pub struct Running<'a> {
    pub overhead: &'a Overhead,
    pub purpose: Purpose,
    pub model: &'a str,
    pub service: ServiceTier,
    pub tokens: Tokens,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.overhead
            .spend(self.purpose, self.model, self.service, &self.tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: usize) -> TenantId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        TenantId(id)
    }

    fn add(overhead: &Overhead, nanousd: u64) {
        overhead.add(Purpose::Resample, Nanousd(nanousd));
    }

    #[test]
    fn each_amount_is_billed_once_to_whom_it_belongs() {
        let all = Arc::new(Overheads::default());
        let (alice, bob) = (Some(tenant(1)), Some(tenant(2)));
        add(&Overhead::of(&all, alice), 70);
        add(&Overhead::of(&all, alice), 5);
        assert_eq!(all.owed(), Nanousd(75));
        let next = Overhead::of(&all, alice);
        add(&next, 3);
        assert_eq!(Overhead::of(&all, bob).bill(), Nanousd::ZERO);
        assert_eq!(next.bill(), Nanousd(78));
        assert_eq!(next.bill(), Nanousd::ZERO);
        drop(next);
        assert_eq!(Overhead::of(&all, alice).bill(), Nanousd::ZERO);
        assert_eq!((all.owed(), all.lost.load(Relaxed)), (Nanousd::ZERO, 0));
    }

    #[test]
    fn nobodys_cost_and_that_of_too_many_is_counted() {
        let all = Arc::new(Overheads::default());
        add(&Overhead::of(&all, None), 7);
        assert_eq!(all.lost.load(Relaxed), 7);
        for number in 0..=OVERHEAD_TENANTS_MAX {
            add(&Overhead::of(&all, Some(tenant(number))), 2);
        }
        assert_eq!(all.lost.load(Relaxed), 7 + 2);
        // Who has an account keeps it.
        add(&Overhead::of(&all, Some(tenant(0))), 2);
        assert_eq!(Overhead::of(&all, Some(tenant(0))).bill(), Nanousd(4));
        assert_eq!(all.lost.load(Relaxed), 7 + 2);
    }

    #[test]
    fn answers_side_by_side_share_no_nanodollar() {
        let all = Arc::new(Overheads::default());
        let billed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (all, billed) = (&all, &billed);
                scope.spawn(move || {
                    for round in 0..500 {
                        let overhead = Overhead::of(all, Some(tenant(round % 3)));
                        add(&overhead, thread + 1);
                        if round % 2 == 0 {
                            billed.fetch_add(overhead.bill().0, Relaxed);
                        }
                    }
                });
            }
        });
        let spent: u64 = (1..=8).map(|each| each * 500).sum();
        let billed = billed.load(Relaxed);
        assert_eq!(billed, all.billed.load(Relaxed));
        assert_eq!(billed + all.owed().0, spent);
    }
}
