//! The ranks of tokens of two bytes, by the bytes themselves: half of what merging asks for first.

use super::token_table::NONE;

const PAIRS: usize = 1 << 16;

/// One rank for each two bytes: 256 KiB, of which a text touches the rows of its own letters.
#[derive(Debug)]
pub(super) struct BytePairs(Vec<u32>);

impl BytePairs {
    pub(super) fn new() -> BytePairs {
        BytePairs(vec![NONE; PAIRS])
    }

    /// Enters a token; the first of two with the same bytes stays.
    pub(super) fn insert(&mut self, pair: u16, rank: u32) {
        if let Some(slot) = self
            .0
            .get_mut(usize::from(pair))
            .filter(|slot| **slot == NONE)
        {
            *slot = rank;
        }
    }

    /// The rank of these bytes, the first one lowest, or [`NONE`].
    #[inline]
    pub(super) fn rank(&self, pair: u16) -> u32 {
        self.0.get(usize::from(pair)).copied().unwrap_or(NONE)
    }

    /// Takes a token out.
    pub(super) fn forget(&mut self, pair: u16, rank: u32) {
        if let Some(slot) = self
            .0
            .get_mut(usize::from(pair))
            .filter(|slot| **slot == rank)
        {
            *slot = NONE;
        }
    }
}
