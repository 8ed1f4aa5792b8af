//! One currency for money and risk: an action costs what it costs, and `V` times the probability
//! that its answer is wrong, where `V` is what a right answer is worth. Whatever costs least is
//! done: `argmin c_a + V * P(wrong | a)`, over an answer that is there, each dearer tier, and a
//! cached answer.

use farthing_core::money::Nanousd;
use farthing_core::price::{Price, ServiceTier, Tokens};

use super::calibration::{CascadeCalibration, log_odds};
use super::plan::Plan;

/// What a route's answers cost and are worth.
#[derive(Debug, Clone)]
pub struct Money {
    /// Of each tier.
    pub prices: Vec<Price>,
    /// What a right answer is worth: `V`.
    pub worth: Nanousd,
}

/// What is done with an answer, or with as much of it as there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is given to the client.
    Keep,
    /// This tier is asked.
    Ask(usize),
}

/// How likely an answer that is there is wrong, and those that dearer tiers would give.
#[derive(Debug, Clone, Copy)]
pub struct Doubt<'a> {
    pub p_wrong: f64,
    /// Of each dearer tier; what is known by `p_wrong` alone, where it is empty.
    pub dearer: &'a [f64],
}

/// Decides for one route.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    pub calibration: &'a CascadeCalibration,
    pub money: &'a Money,
    pub plan: &'a Plan,
}

impl Money {
    /// What an answer of a tier costs, in nano-dollars.
    pub fn cost(&self, tier: usize, prompt_tokens: u64, completion_tokens: u64) -> Nanousd {
        let tokens = Tokens {
            prompt: prompt_tokens,
            completion: completion_tokens,
            ..Tokens::default()
        };
        let price = self.prices.get(tier);
        price.map_or(Nanousd::MAX, |price| {
            price.cost(ServiceTier::Standard, &tokens)
        })
    }

    /// What a risk costs.
    pub fn risk(&self, p_wrong: f64) -> f64 {
        self.worth.0 as f64 * p_wrong
    }
}

impl Doubt<'_> {
    /// Nothing else is known.
    pub fn alone(p_wrong: f64) -> Self {
        Self {
            p_wrong,
            dearer: &[],
        }
    }
}

impl Policy<'_> {
    /// The tier that is asked first: the cheapest of the plan whose answer is likely enough to be
    /// kept. `priors` are the probabilities that each tier is wrong, by the prompt alone.
    pub fn start(&self, priors: &[f64]) -> usize {
        let last = self.plan.last();
        let worth_asking = |tier: &&usize| {
            **tier == last || priors.get(**tier).is_none_or(|p| *p < self.plan.skip_above)
        };
        let first = self.plan.tiers.iter().find(worth_asking);
        first.copied().unwrap_or(last)
    }

    /// Whether the tier that would be asked first is worth asking, where a pre-router says how
    /// likely it and the dearest of the plan are right: an answer that is kept saves asking the
    /// dearest, so it has to be right more often than `c_first / (c_dearest + V * P(wrong))`.
    pub fn is_worth_asking(
        &self,
        first: usize,
        (p_first_right, p_dearest_right): (f64, f64),
        prompt_tokens: u64,
    ) -> bool {
        let cost = self.expected(first, 0.0, prompt_tokens);
        let dearest = self.expected(self.plan.last(), 1.0 - p_dearest_right, prompt_tokens);
        p_first_right * dearest > cost
    }

    /// What to do with the whole answer of `tier`.
    pub fn done(&self, tier: usize, doubt: Doubt<'_>, prompt_tokens: u64) -> Step {
        match self.dearer(tier, doubt, prompt_tokens) {
            Some((next, cost)) if cost < self.money.risk(doubt.p_wrong) => Step::Ask(next),
            _ => Step::Keep,
        }
    }

    /// Whether the first tokens of an answer say that it is not worth waiting for the rest: another
    /// tier is then asked at once.
    pub fn early(&self, tier: usize, p_wrong: f64, prompt_tokens: u64) -> Option<usize> {
        let (next, cost) = self.dearer(tier, Doubt::alone(p_wrong), prompt_tokens)?;
        let margin = self.plan.abort_margin? * self.money.worth.0 as f64;
        (cost + margin < self.money.risk(p_wrong)).then_some(next)
    }

    /// Whether a cached answer costs less than what would be asked first.
    pub fn takes_cached(&self, p_wrong: f64, priors: &[f64], prompt_tokens: u64) -> bool {
        let tier = self.start(priors);
        let own = priors.get(tier).copied().unwrap_or(0.5);
        self.money.risk(p_wrong) <= self.expected(tier, own, prompt_tokens)
    }

    /// The tier after `tier` whose cost and risk together are least, with both.
    fn dearer(&self, tier: usize, doubt: Doubt<'_>, prompt_tokens: u64) -> Option<(usize, f64)> {
        let known = self.calibration.tiers.get(tier)?;
        let later = self.plan.tiers.iter().filter(|later| **later > tier);
        let costs = later.map(|later| {
            let at = later - tier - 1;
            let by_doubt = || {
                let by_doubt = known.dearer.get(at).map(|dearer| &dearer.by_doubt);
                by_doubt.map_or(doubt.p_wrong, |map| map.at(log_odds(doubt.p_wrong)))
            };
            let p_later = doubt.dearer.get(at).copied().unwrap_or_else(by_doubt);
            (*later, self.expected(*later, p_later, prompt_tokens))
        });
        costs.min_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// Cost and risk of a tier's answer together.
    fn expected(&self, tier: usize, p_wrong: f64, prompt_tokens: u64) -> f64 {
        let completion = self.calibration.tiers.get(tier);
        let completion = completion.map_or(0.0, |tier| tier.completion_tokens);
        let cost = self
            .money
            .cost(tier, prompt_tokens, completion.ceil() as u64);
        cost.0 as f64 + self.money.risk(p_wrong)
    }
}
