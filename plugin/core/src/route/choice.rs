//! The choice among models that all can take a request: by the shares of the traffic that they are
//! to get, or by what a right answer is worth.

use super::{Fit, Gain};
use crate::budget::Pressure;
use crate::config::{Config, Target, VirtualModel};
use crate::price::Tokens;
use crate::wire::Request;

/// The member of a virtual model that a request with this gain goes to. Of those it fits, in the
/// order of the list; `None` if there are none.
pub(super) fn choose<'a>(
    config: &Config,
    listed: &VirtualModel,
    fitting: &[&'a Fit],
    gain: Gain,
    pressure: Pressure,
    request: &Request,
) -> Option<&'a Fit> {
    match &listed.target {
        Target::Shares { thresholds } => {
            let rank = pressure.discount(gain.rank);
            let wanted = match pressure == Pressure::MAX {
                true => 0,
                false => thresholds.iter().filter(|edge| rank >= **edge).count(),
            };
            // The first that is at least as able as wanted, else the most able there is.
            let able = fitting.iter().find(|fit| fit.position >= wanted);
            able.or(fitting.last()).copied()
        }
        Target::Value(value) => {
            let last = listed.members.len().saturating_sub(1).max(1) as f64;
            let whole = pressure.discount(gain.value * value.0 as f64);
            // From the cheapest to the dearest the gain is taken to grow by equal steps.
            let worth = |fit: &Fit| whole * fit.position as f64 / last;
            let surplus = |fit: &Fit| worth(fit) - cost(config, fit, request);
            // Of equals the cheaper one stays.
            fitting
                .iter()
                .copied()
                .reduce(|best, fit| match surplus(fit) > surplus(best) {
                    true => fit,
                    false => best,
                })
        }
    }
}

/// Nano-dollars for the prompt and every token that may be generated.
fn cost(config: &Config, fit: &Fit, request: &Request) -> f64 {
    let tokens = Tokens {
        prompt: fit.prompt_tokens,
        completion: u64::from(fit.max_tokens).saturating_mul(u64::from(request.sampling.n)),
        ..Tokens::default()
    };
    config.model(fit.index).map_or(0.0, |model| {
        model.price.cost(request.service_tier, &tokens).0 as f64
    })
}
