//! Which model steps next. Every model with work gets its share of the time, by weight: the one
//! that has had the least for its weight goes first (Goyal, Vin, Cheng, "Start-time Fair Queueing",
//! SIGCOMM 1996). A model that was idle has saved nothing up, so that what it did not use is the
//! others'.

use std::time::Duration;

/// The accounts of all models.
#[derive(Debug, Clone)]
pub struct FairShare {
    accounts: Vec<Account>,
}

#[derive(Debug, Clone)]
struct Account {
    weight: f64,
    /// Time that it has had, divided by its weight. Only comparisons of busy models matter.
    served_s: f64,
    /// Whether it had work when it was last looked at.
    busy: bool,
}

// === impl FairShare ===

impl FairShare {
    /// One model for each weight; a weight of zero counts as one.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> FairShare {
        let account = |weight: u32| Account {
            weight: f64::from(weight.max(1)),
            served_s: 0.0,
            busy: false,
        };
        FairShare {
            accounts: weights.into_iter().map(account).collect(),
        }
    }

    /// The model whose turn it is among those that are `busy`; none if none is.
    pub fn next(&mut self, busy: impl Fn(usize) -> bool) -> Option<usize> {
        // Those that were and are busy say how far the time has come.
        let mut now_s: Option<f64> = None;
        for (index, account) in self.accounts.iter().enumerate() {
            if account.busy && busy(index) {
                now_s = Some(now_s.map_or(account.served_s, |now_s| now_s.min(account.served_s)));
            }
        }
        for (index, account) in self.accounts.iter_mut().enumerate() {
            let was_busy = std::mem::replace(&mut account.busy, busy(index));
            account.served_s = match now_s {
                // A new beginning, which also keeps the sums small.
                None => 0.0,
                Some(now_s) if !was_busy => account.served_s.max(now_s),
                Some(_) => account.served_s,
            };
        }
        let busy = self
            .accounts
            .iter()
            .enumerate()
            .filter(|(_, account)| account.busy);
        let first = busy.min_by(|(_, a), (_, b)| a.served_s.total_cmp(&b.served_s));
        first.map(|(index, _)| index)
    }

    /// Books the time that a model's step took.
    pub fn charge(&mut self, index: usize, time: Duration) {
        let account = &mut self.accounts[index];
        account.served_s += time.as_secs_f64() / account.weight;
    }
}
