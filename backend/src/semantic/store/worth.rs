//! Which record goes first when there is no room: GreedyDual-Size-Frequency (Cherkasova, "Improving
//! WWW proxies performance with GreedyDual-Size-Frequency caching policy", HP Labs, 1998).

use std::collections::{BTreeSet, HashMap};

use super::RecordId;

/// Parts of a token that worth is counted in, so that whole numbers do.
const PARTS: u64 = 1 << 20;

/// Records by what they are worth: `L + times * tokens / bytes`, where `L` is what the last one
/// that went was worth, so that what was worth much once and is no longer asked for goes at last.
#[derive(Debug, Default)]
pub(super) struct Worth {
    inflation: u64,
    order: BTreeSet<(u64, RecordId)>,
    of: HashMap<RecordId, Standing>,
}

#[derive(Debug, Clone, Copy)]
struct Standing {
    worth: u64,
    times: u64,
    /// What one answer saves for each byte.
    each: u64,
}

// === impl Worth ===

impl Worth {
    /// A record comes, as if asked for once.
    pub(super) fn add(&mut self, id: RecordId, cost_tokens: u64, bytes: u64) {
        self.remove(id);
        let each = (cost_tokens.saturating_mul(PARTS) / bytes.max(1)).max(1);
        self.place(
            id,
            Standing {
                worth: 0,
                times: 0,
                each,
            },
        );
    }

    /// It answered a question.
    pub(super) fn asked(&mut self, id: RecordId) {
        if let Some(standing) = self.take(id) {
            self.place(id, standing);
        }
    }

    pub(super) fn remove(&mut self, id: RecordId) {
        self.take(id);
    }

    /// Takes the one that is worth least.
    pub(super) fn evict(&mut self) -> Option<RecordId> {
        let (worth, id) = self.order.first().copied()?;
        self.inflation = worth;
        self.remove(id);
        Some(id)
    }

    fn take(&mut self, id: RecordId) -> Option<Standing> {
        let standing = self.of.remove(&id)?;
        self.order.remove(&(standing.worth, id));
        Some(standing)
    }

    fn place(&mut self, id: RecordId, before: Standing) {
        let times = before.times.saturating_add(1);
        let worth = self
            .inflation
            .saturating_add(times.saturating_mul(before.each));
        self.order.insert((worth, id));
        let standing = Standing {
            worth,
            times,
            ..before
        };
        self.of.insert(id, standing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dear_the_small_and_the_asked_for_stay() {
        let mut worth = Worth::default();
        worth.add(1, 100, 1_000);
        worth.add(2, 100, 10_000);
        worth.add(3, 1_000, 1_000);
        worth.add(4, 100, 1_000);
        worth.asked(4);
        assert_eq!(worth.evict(), Some(2), "large");
        assert_eq!(worth.evict(), Some(1), "asked for once");
        // What comes now is worth more than those that went.
        worth.add(5, 110, 1_000);
        assert_eq!(worth.evict(), Some(4), "as old as the others");
        assert_eq!(worth.evict(), Some(5));
        assert_eq!(worth.evict(), Some(3));
        assert_eq!(worth.evict(), None);
    }
}
