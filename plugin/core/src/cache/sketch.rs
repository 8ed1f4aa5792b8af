//! How often each key was asked for lately, roughly and in little memory: a count-min sketch with
//! conservative update (Estan, Varghese 2002) that is halved now and then, as TinyLFU does
//! (Einziger, Friedman, Manes 2017). It lives in the worker's memory, because a count in the shared
//! store would cost a write of the whole entry at every hit.

use crate::cache_key::CacheKey;
use crate::limits::{
    CACHE_SKETCH_COUNT_MAX, CACHE_SKETCH_HALVE_AFTER, CACHE_SKETCH_WIDTH_MAX,
    CACHE_SKETCH_WIDTH_MIN,
};

/// Counters that one key adds to: the estimate is the least of them.
const ROWS: usize = 4;

/// Estimates are never below the true count since the last halving but for the counters' ceiling.
#[derive(Debug)]
pub(super) struct Sketch {
    /// `ROWS` counters side by side for each column.
    columns: Vec<[u8; ROWS]>,
    /// Until the next halving.
    left: u64,
}

impl Sketch {
    /// For a cache of so many entries; no counters at all for a cache of none.
    pub(super) fn new(entries_max: usize) -> Sketch {
        let width = match entries_max {
            0 => 0,
            entries => entries
                .saturating_mul(2)
                .next_power_of_two()
                .clamp(CACHE_SKETCH_WIDTH_MIN, CACHE_SKETCH_WIDTH_MAX),
        };
        Sketch {
            columns: vec![[0; ROWS]; width],
            left: halve_after(width),
        }
    }

    /// Counts one request for a key.
    pub(super) fn count(&mut self, key: &CacheKey) {
        let least = self.estimate(key);
        if least >= CACHE_SKETCH_COUNT_MAX {
            return;
        }
        let width = self.columns.len();
        for (row, column) in columns(key, width).enumerate() {
            let counter = (self.columns.get_mut(column)).and_then(|counters| counters.get_mut(row));
            if let Some(counter) = counter.filter(|counter| **counter == least) {
                *counter = counter.saturating_add(1);
            }
        }
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.halve();
        }
    }

    /// About how often a key was counted.
    pub(super) fn estimate(&self, key: &CacheKey) -> u8 {
        columns(key, self.columns.len())
            .enumerate()
            .filter_map(|(row, column)| self.columns.get(column)?.get(row).copied())
            .min()
            .unwrap_or(0)
    }

    /// What was asked for long ago shall not weigh for ever.
    fn halve(&mut self) {
        for counter in self.columns.iter_mut().flatten() {
            *counter /= 2;
        }
        self.left = halve_after(self.columns.len());
    }
}

fn halve_after(width: usize) -> u64 {
    (width as u64).saturating_mul(CACHE_SKETCH_HALVE_AFTER)
}

/// The column of each row. A key is a hash already: its second half serves as four, while the ring
/// takes its first half.
fn columns(key: &CacheKey, width: usize) -> impl Iterator<Item = usize> {
    let words = key.0.as_chunks::<4>().0.iter().skip(ROWS).take(ROWS);
    words.map(move |word| u32::from_le_bytes(*word) as usize % width.max(1))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)] // A test that panics has found something.
mod tests {
    use super::*;

    fn key(number: u32) -> CacheKey {
        let mut key = [0; 32];
        for (row, word) in key[16..].chunks_exact_mut(4).enumerate() {
            let mixed = (u64::from(number) + 1)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(11 * row as u32);
            word.copy_from_slice(&((mixed >> 29) as u32).to_le_bytes());
        }
        CacheKey(key)
    }

    #[test]
    fn what_is_asked_for_often_is_told_from_what_is_not() {
        let mut sketch = Sketch::new(1_000);
        for number in 0..500 {
            for _ in 0..=number % 10 {
                sketch.count(&key(number));
            }
        }
        let wrong =
            (0..500).filter(|number| sketch.estimate(&key(*number)) != (number % 10) as u8 + 1);
        assert!(wrong.count() < 10);
        assert!((0..500).all(|number| sketch.estimate(&key(number)) > (number % 10) as u8));
        assert!(
            (9_000..9_500)
                .filter(|number| sketch.estimate(&key(*number)) > 0)
                .count()
                < 25
        );
    }

    #[test]
    fn counts_have_a_ceiling_and_fade() {
        let mut sketch = Sketch::new(1);
        for _ in 0..100 {
            sketch.count(&key(7));
        }
        assert_eq!(sketch.estimate(&key(7)), CACHE_SKETCH_COUNT_MAX);
        for number in 0..u32::try_from(halve_after(CACHE_SKETCH_WIDTH_MIN)).unwrap_or(0) {
            sketch.count(&key(100 + number));
        }
        assert!(sketch.estimate(&key(7)) < CACHE_SKETCH_COUNT_MAX);
    }

    #[test]
    fn a_cache_of_nothing_counts_nothing() {
        let mut sketch = Sketch::new(0);
        sketch.count(&key(1));
        assert_eq!(sketch.estimate(&key(1)), 0);
    }
}
