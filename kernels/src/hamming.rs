//! Distances between rows of bits: in how many places each of many rows differs from one. The signs
//! of a vector, a bit each, tell roughly how near it is at a twelfth of an int8 vector's bytes.

use crate::InstructionSet;
use crate::instruction_set::versions;

/// Adds to each of `distances` in how many bits the word of its row differs from `query`. `words`
/// holds the same word of all rows, one after the other, so that rows fill the lanes of a vector
/// register.
///
/// # Panics
/// If there is not one word a row.
pub fn add_hamming(query: u64, words: &[u64], distances: &mut [u16]) {
    assert_eq!(words.len(), distances.len(), "a row has one word here");
    add_differing(InstructionSet::best(), query, words, distances);
}

versions! {
    fn add_differing(query: u64, words: &[u64], distances: &mut [u16]) = add_differing_bits;
}

#[inline(always)]
fn add_differing_bits(query: u64, words: &[u64], distances: &mut [u16]) {
    for (distance, word) in distances.iter_mut().zip(words) {
        // A sum that is checked for overflow would be made one by one.
        *distance = distance.wrapping_add((word ^ query).count_ones() as u16);
    }
}
