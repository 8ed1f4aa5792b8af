//! The sampler against a naive one that sorts the whole vocabulary, and against the formulas.

use farthing_backend::engine::logprobs::{Logprobs, confidence};
use farthing_backend::engine::random::SplitMix64;
use farthing_backend::engine::sampler::{Sampler, SamplerScratch};
use farthing_core::wire::{Sampling, TokenConfidence};
use farthing_kernels::Softmax;
use proptest::prelude::*;

fn greedy() -> Sampling {
    Sampling {
        temperature: 0.0,
        ..Sampling::default()
    }
}

fn seeded(seed: u64) -> Sampling {
    Sampling {
        seed: Some(seed),
        ..Sampling::default()
    }
}

/// Samples `count` tokens, each from the same logits.
fn sample(sampling: &Sampling, choice: usize, logits: &[f32], count: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(sampling, choice, &[]);
    let mut scratch = SamplerScratch::default();
    (0..count)
        .map(|_| sampler.sample(&mut logits.to_vec(), &mut scratch))
        .collect()
}

fn logprobs(logits: &[f32], chosen: u32, k: usize) -> Logprobs {
    Logprobs::of(Softmax::of(logits).as_ref(), logits, chosen, k)
}

/// The tokens that min_p, top_k and top_p leave, likeliest first, by definition.
fn allowed(sampling: &Sampling, logits: &[f32]) -> Vec<(u32, f64)> {
    let temperature = f64::from(sampling.temperature);
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| ((f64::from(logit) - f64::from(max)) / temperature).exp();
    let mut tokens: Vec<(u32, f64)> = logits
        .iter()
        .enumerate()
        .map(|(id, &logit)| (id as u32, weight(logit)))
        .collect();
    tokens.retain(|(_, weight)| *weight >= f64::from(sampling.min_p) * 0.999_999);
    tokens.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if sampling.top_k > 0 {
        tokens.truncate(sampling.top_k as usize);
    }
    let total: f64 = tokens.iter().map(|(_, weight)| weight).sum();
    let mut sum = 0.0;
    let wanted = total * f64::from(sampling.top_p) * 1.000_001;
    let kept = tokens.iter().take_while(|(_, weight)| {
        let before = sum;
        sum += weight;
        before < wanted
    });
    let kept = kept.count();
    tokens.truncate(kept);
    tokens
}

#[test]
fn greedy_takes_the_first_of_the_likeliest() {
    let check = |logits: &[f32], expected| {
        assert_eq!(sample(&greedy(), 0, logits, 2), [expected; 2], "{logits:?}");
        // Sampling breaks on nothing either, and one candidate is no choice.
        let one = Sampling {
            top_k: 1,
            ..Sampling::default()
        };
        assert_eq!(sample(&one, 0, logits, 2), [expected; 2], "{logits:?}");
    };
    check(&[0.0, 2.0, 1.0], 1);
    check(&[3.0, 3.0, 3.0], 0);
    check(&[f32::NAN, -5.0, f32::NAN, -4.0], 3);
    check(&[0.0, f32::INFINITY, 5.0], 1);
    check(&[f32::NEG_INFINITY, -1e30], 1);
    check(&[f32::NAN, f32::NAN], 0);
    check(&[f32::NEG_INFINITY, f32::NEG_INFINITY], 0);
}

#[test]
fn a_tiny_temperature_is_greedy() {
    for temperature in [f32::from_bits(1), 1e-40, 1e-30, 1e-6, 1e-5] {
        let sampling = Sampling {
            temperature,
            ..seeded(1)
        };
        let tokens = sample(&sampling, 0, &[0.0, 1.0, 3.0, 2.0], 4);
        assert_eq!(tokens, [2; 4], "{temperature}");
    }
}

#[test]
fn a_seed_decides_everything() {
    let logits: Vec<f32> = (0..1_000).map(|id| (id % 7) as f32 * 0.1).collect();
    let first = sample(&seeded(7), 0, &logits, 50);
    assert_eq!(first, sample(&seeded(7), 0, &logits, 50));
    for (sampling, choice) in [(seeded(8), 0), (seeded(7), 1), (Sampling::default(), 0)] {
        assert_ne!(first, sample(&sampling, choice, &logits, 50));
    }
}

#[test]
fn tokens_come_as_often_as_their_probability_says() {
    let logits = [0.0f32, 1.0, 2.0, f32::NEG_INFINITY, -1.0];
    for temperature in [0.5, 1.0, 2.0] {
        let sampling = Sampling {
            temperature,
            ..seeded(1)
        };
        let expected = allowed(&sampling, &logits);
        let total: f64 = expected.iter().map(|(_, weight)| weight).sum();
        let drawn = sample(&sampling, 0, &logits, 20_000);
        for (token, weight) in expected {
            let share = drawn.iter().filter(|&&id| id == token).count() as f64 / 20_000.0;
            // Four standard deviations of the share.
            assert!(
                (share - weight / total).abs() < 0.015,
                "{token} at {temperature}: {share}"
            );
        }
    }
}

#[test]
fn penalties_follow_their_formulas() {
    let check = |sampling: Sampling, prompt: &[u32], generated: u32, expected: [f32; 3]| {
        let mut sampler = Sampler::new(&sampling, 0, prompt);
        let mut scratch = SamplerScratch::default();
        for _ in 0..generated {
            // Token 0 is generated each time.
            sampler.sample(&mut [1e9, 0.0, 0.0], &mut scratch);
        }
        let mut logits = [4.0, 2.0, -2.0];
        sampler.sample(&mut logits, &mut scratch);
        assert_eq!(logits, expected);
    };
    let presence = Sampling {
        presence_penalty: 0.5,
        ..greedy()
    };
    check(presence.clone(), &[1, 2], 0, [4.0, 2.0, -2.0]);
    check(presence, &[1, 2], 3, [3.5, 2.0, -2.0]);
    let frequency = Sampling {
        frequency_penalty: 0.5,
        ..greedy()
    };
    check(frequency, &[1, 2], 3, [2.5, 2.0, -2.0]);
    let repetition = Sampling {
        repetition_penalty: 2.0,
        ..greedy()
    };
    check(repetition, &[1, 2], 3, [2.0, 1.0, -4.0]);
}

#[test]
fn logprobs_are_a_log_softmax() {
    let logits = [1.0f32, 3.0, f32::NAN, 3.0, -1000.0];
    let sum = (1.0f64.exp() + 2.0 * 3.0f64.exp()).ln();
    let result = logprobs(&logits, 0, 3);
    let near = |logprob: f32, logit: f64| (f64::from(logprob) - (logit - sum)).abs() < 1e-5;
    assert!(near(result.chosen, 1.0), "{result:?}");
    let ids: Vec<u32> = result.top.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [1, 3, 0]);
    assert!(near(result.top[1].1, 3.0), "{result:?}");
    assert_eq!(logprobs(&logits, 2, 0).chosen, -9999.0);
    assert_eq!(logprobs(&[f32::NAN], 0, 5).top, []);
    assert_eq!(logprobs(&logits, 1, 20).top.len(), 4);
}

#[test]
fn confidence_is_of_the_whole_distribution() {
    let of = |logits: &[f32]| match confidence(Softmax::of(logits).as_ref(), logits[0]) {
        TokenConfidence::Measured {
            logprob,
            entropy_nats,
            margin,
        } => (logprob, entropy_nats, margin),
        TokenConfidence::Forced => panic!("nothing was forced"),
    };
    // Three quarters and one quarter.
    let (logprob, entropy_nats, margin) = of(&[3.0f32.ln(), 0.0, f32::NEG_INFINITY]);
    let expected = -(0.75f32 * 0.75f32.ln() + 0.25 * 0.25f32.ln());
    assert!((logprob - 0.75f32.ln()).abs() < 1e-6);
    assert!((entropy_nats - expected).abs() < 1e-6 && (margin - 0.5).abs() < 1e-6);
    assert_eq!(of(&[f32::NAN]), (-9999.0, 0.0, 0.0));
}

/// How the sampler was written at first: every weight computed, every candidate listed.
fn draw_by_definition(sampling: &Sampling, logits: &[f32], random: &mut SplitMix64) -> u32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| ((logit - max) / sampling.temperature).exp();
    let mut kept: Vec<(u32, f32)> = logits
        .iter()
        .enumerate()
        .map(|(id, &logit)| (id as u32, weight(logit)))
        .filter(|(_, weight)| *weight > 0.0 && *weight >= sampling.min_p)
        .collect();
    let likeliest = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let total = |kept: &[(u32, f32)]| kept.iter().map(|(_, w)| f64::from(*w)).sum::<f64>();
    if sampling.top_k > 0 && (sampling.top_k as usize) < kept.len() {
        kept.sort_by(likeliest);
        kept.truncate(sampling.top_k as usize);
    }
    if sampling.top_p < 1.0 {
        let wanted = total(&kept) * f64::from(sampling.top_p);
        kept.sort_by(likeliest);
        let mut sum = 0.0;
        let enough = kept.iter().position(|(_, weight)| {
            sum += f64::from(*weight);
            sum >= wanted
        });
        kept.truncate(enough.map_or(kept.len(), |last| last + 1));
    }
    let target = random.unit() * total(&kept);
    let mut sum = 0.0;
    let drawn = kept.iter().find(|(_, weight)| {
        sum += f64::from(*weight);
        sum > target
    });
    drawn.or(kept.last()).map_or(0, |(id, _)| *id)
}

/// A seed means the same answer as it did before sampling was made faster. A random number that
/// falls within a rounding error of a boundary may decide otherwise, which is why a few may differ.
#[test]
fn a_seed_means_what_the_definition_says() {
    let mut noise = SplitMix64::new(99);
    let mut differ = 0;
    let mut drawn = 0;
    for vocabulary in [50, 1_000, 49_152] {
        let logits: Vec<f32> = (0..vocabulary)
            .map(|_| (noise.unit() + noise.unit() + noise.unit()) as f32 * 8.0)
            .collect();
        for (temperature, top_k, top_p, min_p) in [
            (1.0, 0, 1.0, 0.0),
            (0.7, 0, 0.9, 0.0),
            (1.3, 40, 1.0, 0.0),
            (1.0, 200, 0.5, 0.0),
            (0.8, 0, 0.95, 0.05),
            (2.0, 0, 0.999, 0.0),
            (1.0, 5_000, 1.0, 0.0),
            (0.3, 3, 0.99, 0.1),
        ] {
            let sampling = Sampling {
                temperature,
                top_k,
                top_p,
                min_p,
                ..seeded(7)
            };
            let mut random = SplitMix64::for_choice(7, 0);
            for token in sample(&sampling, 0, &logits, 50) {
                let expected = draw_by_definition(&sampling, &logits, &mut random);
                differ += usize::from(token != expected);
                drawn += 1;
            }
        }
    }
    println!("{differ} of {drawn} differ");
    assert!(differ * 500 <= drawn, "{differ} of {drawn}");
}

proptest! {
    /// Only tokens that the definition allows are drawn, also when more of the vocabulary is
    /// needed than is sorted at first.
    #[test]
    fn only_allowed_tokens_are_drawn(
        logits in prop::collection::vec(-8.0f32..8.0, 1..2_000),
        temperature in 0.2f32..2.0,
        top_k in prop_oneof![Just(0u32), 1..50u32, 1..2_500u32],
        top_p in prop_oneof![Just(1.0f32), 0.01f32..1.0],
        min_p in prop_oneof![Just(0.0f32), 0.0f32..1.0],
        seed in any::<u64>(),
    ) {
        let sampling = Sampling { temperature, top_k, top_p, min_p, ..seeded(seed) };
        let allowed = allowed(&sampling, &logits);
        for token in sample(&sampling, 0, &logits, 20) {
            prop_assert!(allowed.iter().any(|(id, _)| *id == token), "{token}");
        }
    }
}
