//! The vector index of one partition: which entries are nearest to a vector.
//!
//! All are looked at, so nothing has to be rebuilt when one comes or goes. First by the signs of
//! their numbers, 48 bytes of 384, which is what memory delivers in the time that a look-up has;
//! then the nearest of these by all numbers, in int8. A neighbour of cosine 0.8 differs in a fifth
//! of its signs and a stranger in half of them, so the sieve keeps what counts.

use farthing_core::limits::SEMANTIC_RESCORED;
use farthing_kernels::add_hamming;
use serde::{Deserialize, Serialize};

/// Bits of one word of signs.
const WORD_BITS: usize = u64::BITS as usize;

/// A vector of length 1 in a byte a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quantized {
    pub scale: f32,
    pub numbers: Vec<i8>,
}

/// What is near.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Its place in the index.
    pub slot: usize,
    pub cosine: f32,
}

/// Vectors of one width, each in a slot.
#[derive(Debug, Default)]
pub struct VectorIndex {
    width: usize,
    /// The first word of every slot's signs, the second, and so on.
    signs: Vec<Vec<u64>>,
    scales: Vec<f32>,
    /// All slots' numbers, one slot after the other.
    numbers: Vec<i8>,
}

// === impl Quantized ===

impl Quantized {
    pub fn of(vector: &[f32]) -> Quantized {
        let largest = vector.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let scale = largest.max(f32::MIN_POSITIVE) / 127.0;
        let numbers = vector.iter().map(|x| (x / scale).round() as i8);
        Quantized {
            scale,
            numbers: numbers.collect(),
        }
    }

    /// The word `index` of its signs.
    fn sign_word(&self, index: usize) -> u64 {
        let numbers = self.numbers.iter().skip(index * WORD_BITS).take(WORD_BITS);
        let bits = numbers.enumerate();
        bits.fold(0, |word, (bit, number)| {
            word | u64::from(*number > 0) << bit
        })
    }

    /// The cosine of two vectors of length 1.
    pub fn cosine(&self, other: &Quantized) -> f32 {
        dot(&self.numbers, &other.numbers) as f32 * self.scale * other.scale
    }
}

fn dot(a: &[i8], b: &[i8]) -> i32 {
    let products = a.iter().zip(b);
    products.map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

// === impl VectorIndex ===

impl VectorIndex {
    /// An empty one for vectors of so many numbers.
    pub fn new(width: usize) -> VectorIndex {
        VectorIndex {
            width,
            signs: vec![Vec::new(); width.div_ceil(WORD_BITS)],
            ..VectorIndex::default()
        }
    }

    pub fn len(&self) -> usize {
        self.scales.len()
    }

    pub fn is_empty(&self) -> bool {
        self.scales.is_empty()
    }

    /// Adds a vector in the next slot. One of another width is refused.
    pub fn push(&mut self, vector: &Quantized) -> Option<usize> {
        if vector.numbers.len() != self.width {
            return None;
        }
        for (index, words) in self.signs.iter_mut().enumerate() {
            words.push(vector.sign_word(index));
        }
        self.scales.push(vector.scale);
        self.numbers.extend_from_slice(&vector.numbers);
        Some(self.len() - 1)
    }

    /// Removes a slot; the last slot's vector takes its place.
    pub fn swap_remove(&mut self, slot: usize) {
        if slot >= self.len() {
            return;
        }
        for words in &mut self.signs {
            words.swap_remove(slot);
        }
        self.scales.swap_remove(slot);
        let last = self.numbers.len() - self.width;
        self.numbers.copy_within(last.., slot * self.width);
        self.numbers.truncate(last);
    }

    /// The nearest, nearest first, `count` at most.
    pub fn nearest(&self, query: &Quantized, count: usize) -> Vec<Neighbour> {
        if query.numbers.len() != self.width {
            return Vec::new();
        }
        let mut found: Vec<Neighbour> = self
            .sieve(query)
            .into_iter()
            .map(|slot| {
                let numbers = &self.numbers[slot * self.width..(slot + 1) * self.width];
                let product = dot(numbers, &query.numbers) as f32;
                let cosine = product * self.scales[slot] * query.scale;
                Neighbour { slot, cosine }
            })
            .collect();
        found.sort_by(|a, b| b.cosine.total_cmp(&a.cosine).then(a.slot.cmp(&b.slot)));
        found.truncate(count);
        found
    }

    /// Slots of the fewest differing signs, `SEMANTIC_RESCORED` at most.
    fn sieve(&self, query: &Quantized) -> Vec<usize> {
        if self.len() <= SEMANTIC_RESCORED {
            return (0..self.len()).collect();
        }
        let mut distances = vec![0_u16; self.len()];
        for (index, words) in self.signs.iter().enumerate() {
            add_hamming(query.sign_word(index), words, &mut distances);
        }
        let mut counts = vec![0_usize; self.signs.len() * WORD_BITS + 1];
        for distance in &distances {
            counts[usize::from(*distance)] += 1;
        }
        let mut within = 0;
        let fits = |count: &&usize| {
            within += **count;
            within <= SEMANTIC_RESCORED
        };
        // At least the nearest distance, however many share it; `take` bounds those.
        let first = counts.iter().take_while(|count| **count == 0).count();
        let reach = counts.iter().take_while(fits).count().max(first + 1);
        let near = distances
            .iter()
            .enumerate()
            .filter(|(_, distance)| usize::from(**distance) < reach);
        near.map(|(slot, _)| slot).take(SEMANTIC_RESCORED).collect()
    }
}
