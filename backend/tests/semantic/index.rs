//! The vector index beside a plain scan of all vectors.

use farthing_backend::semantic::index::{Quantized, VectorIndex};

const WIDTH: usize = 384;

/// Vectors of length 1, the same in every run: around some centres, as questions are.
fn vector(seed: u64, spread: f32) -> Vec<f32> {
    let draw = |stream: u64| {
        let mut state = stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        }
    };
    let (mut centre, mut noise) = (draw(seed % 50 + 1), draw(seed + 1_000));
    let numbers: Vec<f32> = (0..WIDTH).map(|_| centre() + spread * noise()).collect();
    let length = numbers.iter().map(|x| x * x).sum::<f32>().sqrt();
    numbers.iter().map(|x| x / length).collect()
}

#[test]
fn the_sieve_finds_what_is_near() {
    let mut index = VectorIndex::new(WIDTH);
    let vectors: Vec<Vec<f32>> = (0..5_000).map(|seed| vector(seed, 0.6)).collect();
    for vector in &vectors {
        index.push(&Quantized::of(vector)).expect("of this width");
    }
    for seed in 0..50 {
        let query = vector(seed + 100_000, 0.6);
        let cosine = |other: &[f32]| query.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
        let exact = vectors.iter().map(|other| cosine(other));
        let best = exact.fold(f32::MIN, f32::max);
        let found = index.nearest(&Quantized::of(&query), 16);
        assert_eq!(found.len(), 16);
        assert!(
            (found[0].cosine - best).abs() < 0.005,
            "{} for {best}",
            found[0].cosine
        );
        assert!(found.is_sorted_by(|a, b| a.cosine >= b.cosine));
    }
}

#[test]
fn what_is_removed_is_not_found() {
    let mut index = VectorIndex::new(WIDTH);
    for seed in 0..100 {
        index
            .push(&Quantized::of(&vector(seed, 1.0)))
            .expect("of this width");
    }
    let of = |seed| Quantized::of(&vector(seed, 1.0));
    assert_eq!(index.nearest(&of(3), 1)[0].slot, 3);
    index.swap_remove(3);
    let found = index.nearest(&of(99), 1)[0];
    assert_eq!((found.slot, index.len()), (3, 99), "the last one moved");
    assert!(index.nearest(&of(3), 1)[0].cosine < 0.99);
    index.swap_remove(1_000);
    assert_eq!(index.len(), 99);
    assert!(index.push(&Quantized::of(&[1.0])).is_none());
    assert!(index.nearest(&Quantized::of(&[1.0]), 1).is_empty());
    let same = VectorIndex::new(WIDTH);
    assert!(same.is_empty() && same.nearest(&of(0), 4).is_empty());
}

#[test]
fn equal_vectors_beyond_the_sieve_are_found() {
    let mut index = VectorIndex::new(WIDTH);
    for _ in 0..2_000 {
        index
            .push(&Quantized::of(&vector(1, 1.0)))
            .expect("of this width");
    }
    assert_eq!(index.nearest(&Quantized::of(&vector(1, 1.0)), 16).len(), 16);
}
