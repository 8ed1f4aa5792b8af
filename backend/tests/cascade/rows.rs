//! Rows whose truth is known because it was made up: the same for the same seed.

use farthing_backend::cascade::outcomes::{Row, TierAnswer};
use farthing_backend::cascade::signals::Token;
use farthing_backend::engine::random::SplitMix64;
use farthing_backend::labelled::check::Check;

/// How a made-up tier behaves.
#[derive(Debug, Clone, Copy)]
pub struct Behaviour {
    pub model: &'static str,
    /// How often it is right.
    pub right: f64,
    /// By how much it is surer of an answer that is right.
    pub tells: f32,
    pub completion_tokens: u64,
}

/// So many rows, answered by these tiers.
pub fn rows(count: usize, tiers: &[Behaviour], seed: u64) -> Vec<Row> {
    println!("seed {seed}");
    let mut random = SplitMix64::new(seed);
    (0..count)
        .map(|at| Row {
            prompt: format!("Question number {at}, of whom nobody knows more?").into(),
            answer: Some("yes".to_owned()),
            check: Some(Check::Exact),
            tiers: tiers.iter().map(|tier| answer(tier, &mut random)).collect(),
        })
        .collect()
}

fn answer(tier: &Behaviour, random: &mut SplitMix64) -> TierAnswer {
    let is_right = random.unit() < tier.right;
    let text = if is_right { "yes" } else { "no" };
    let sure = if is_right { tier.tells } else { -tier.tells };
    let count = tier.completion_tokens.min(40) as usize;
    let token = |random: &mut SplitMix64| {
        let noise = random.unit() as f32 - 0.5;
        let logprob = (-1.0 + 0.5 * sure + noise).min(-0.001);
        let margin = (0.5 + 0.25 * sure + 0.3 * noise).clamp(0.0, 1.0);
        Token::Measured(text.len() as u32, logprob, -logprob, margin)
    };
    TierAnswer {
        model: tier.model.to_owned(),
        text: text.to_owned(),
        is_complete: true,
        prompt_tokens: 100,
        completion_tokens: tier.completion_tokens,
        tokens: (0..count).map(|_| token(random)).collect(),
        ..TierAnswer::default()
    }
}
