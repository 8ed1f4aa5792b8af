//! Distances between rows of bits, against plain Rust.

mod tensors;

use farthing_kernels::add_hamming;
use tensors::Random;

#[test]
fn distances_are_those_of_plain_rust() {
    let mut random = Random::new(1);
    for rows in [0, 1, 3, 4, 7, 8, 15, 16, 17, 64, 1_000] {
        let rows_of_words: Vec<[u64; 6]> = (0..rows)
            .map(|row| match row % 5 {
                0 => [0; 6],
                1 => [u64::MAX; 6],
                _ => std::array::from_fn(|_| random.bits()),
            })
            .collect();
        let query: [u64; 6] = std::array::from_fn(|_| random.bits());
        let mut distances = vec![3_u16; rows];
        for (at, query) in query.iter().enumerate() {
            let words: Vec<u64> = rows_of_words.iter().map(|row| row[at]).collect();
            add_hamming(*query, &words, &mut distances);
        }
        for (row, distance) in rows_of_words.iter().zip(&distances) {
            let bits = |word: u64| (0..64).map(move |bit| word >> bit & 1);
            let (row, query) = (row.iter().copied(), query.iter().copied());
            let differing = row.flat_map(bits).zip(query.flat_map(bits));
            let expected = differing.filter(|(a, b)| a != b).count() + 3;
            assert_eq!(usize::from(*distance), expected, "of {rows} rows");
        }
    }
}

#[test]
#[should_panic(expected = "a row has one word here")]
fn a_row_without_a_word_is_refused() {
    add_hamming(0, &[0, 1], &mut [0]);
}
