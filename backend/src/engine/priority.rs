//! In which order requests are served: by when they are due. Each is due some time after it came,
//! the later the more patient its service tier is, and the longer its prompt: short prompts need
//! not wait behind a long one. As time passes every request comes to be due before all that arrive,
//! whatever their tier, so none starves (earliest deadline first: Liu, Layland, "Scheduling
//! algorithms for multiprogramming in a hard-real-time environment", JACM 20(1), 1973).

use farthing_core::limits::{
    PATIENCE_BATCH_MS, PATIENCE_FLEX_MS, PATIENCE_PROMPT_TOKEN_US, PATIENCE_STANDARD_MS,
};
use farthing_core::price::ServiceTier;

/// When a request is due that came at `arrived_ms`, on the same clock.
pub fn due_ms(arrived_ms: u64, tier: ServiceTier, prompt_tokens: usize) -> u64 {
    let prompt_ms = prompt_tokens as u64 * PATIENCE_PROMPT_TOKEN_US / 1_000;
    arrived_ms
        .saturating_add(patience_ms(tier))
        .saturating_add(prompt_ms)
}

/// How much later than one of the tier `priority` a request may be served: OpenAI's `service_tier`.
pub fn patience_ms(tier: ServiceTier) -> u64 {
    match tier {
        ServiceTier::Priority => 0,
        ServiceTier::Standard => PATIENCE_STANDARD_MS,
        ServiceTier::Flex => PATIENCE_FLEX_MS,
        ServiceTier::Batch => PATIENCE_BATCH_MS,
    }
}
