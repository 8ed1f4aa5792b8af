//! What a model's tokens cost. All prices are integers, in nano-dollars per million tokens (that is
//! 10^-15 dollars a token): every price in the catalogue is one exactly, and so is every sum. A
//! request is priced by
//!
//! ```text
//! C = (T_in - T_read - T_write)*p_in + T_read*p_read + T_write*p_write + T_out*p_out
//! ```
//!
//! rounded up once, to the nano-dollar. Reasoning tokens are part of `T_out`. The rates depend on
//! the service tier, and on the length of the whole prompt: above a step, all tokens of the request
//! cost what the step says.

mod catalogue;

pub use catalogue::{Catalogue, CatalogueError};

use crate::money::Nanousd;

const TOKENS_PER_MTOK: u64 = 1_000_000;

/// Tokens of one answer, by what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The whole prompt, the parts below included.
    pub prompt: u64,
    /// Of the prompt: read from the provider's cache.
    pub cache_read: u64,
    /// Of the prompt: written to the provider's cache for its usual time (5 minutes).
    pub cache_write: u64,
    /// Of the prompt: written to the provider's cache for an hour.
    pub cache_write_1h: u64,
    /// Generated, reasoning included.
    pub completion: u64,
}

impl Tokens {
    /// Prompt and completion together.
    pub fn total(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }
}

/// How soon the provider is to answer, which it charges for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceTier {
    #[default]
    Standard,
    Batch,
    Flex,
    Priority,
}

impl ServiceTier {
    /// The tier that a `service_tier` of a request or an answer names; other words (`auto`,
    /// `default`, a provider's own) are the standard one.
    pub fn named(word: &str) -> ServiceTier {
        match word {
            "batch" => ServiceTier::Batch,
            "flex" => ServiceTier::Flex,
            "priority" => ServiceTier::Priority,
            _ => ServiceTier::Standard,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            ServiceTier::Standard => "default",
            ServiceTier::Batch => "batch",
            ServiceTier::Flex => "flex",
            ServiceTier::Priority => "priority",
        }
    }
}

/// Nano-dollars for a million tokens of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub input_nanousd_per_mtok: u64,
    pub output_nanousd_per_mtok: u64,
    pub cache_read_nanousd_per_mtok: u64,
    pub cache_write_nanousd_per_mtok: u64,
    pub cache_write_1h_nanousd_per_mtok: u64,
}

impl Rates {
    /// The rates of a model that knows no prompt cache: what is read or written there is input.
    pub fn plain(input_nanousd_per_mtok: u64, output_nanousd_per_mtok: u64) -> Rates {
        Rates {
            input_nanousd_per_mtok,
            output_nanousd_per_mtok,
            cache_read_nanousd_per_mtok: input_nanousd_per_mtok,
            cache_write_nanousd_per_mtok: input_nanousd_per_mtok,
            cache_write_1h_nanousd_per_mtok: input_nanousd_per_mtok,
        }
    }

    /// Of each kind the dearer one.
    fn dearer(self, other: Rates) -> Rates {
        let max = |rate: fn(&Rates) -> u64| rate(&self).max(rate(&other));
        Rates {
            input_nanousd_per_mtok: max(|it| it.input_nanousd_per_mtok),
            output_nanousd_per_mtok: max(|it| it.output_nanousd_per_mtok),
            cache_read_nanousd_per_mtok: max(|it| it.cache_read_nanousd_per_mtok),
            cache_write_nanousd_per_mtok: max(|it| it.cache_write_nanousd_per_mtok),
            cache_write_1h_nanousd_per_mtok: max(|it| it.cache_write_1h_nanousd_per_mtok),
        }
    }

    /// What a prompt token costs at most.
    fn input_max(&self) -> u64 {
        self.input_nanousd_per_mtok
            .max(self.cache_read_nanousd_per_mtok)
            .max(self.cache_write_nanousd_per_mtok)
            .max(self.cache_write_1h_nanousd_per_mtok)
    }

    fn cost(&self, tokens: &Tokens) -> Nanousd {
        // An upstream that reports more cached tokens than the prompt has is not believed: no token
        // of the prompt is paid for twice.
        let mut rest = tokens.prompt;
        let mut part = |count: u64, rate: u64| {
            let count = count.min(rest);
            rest = rest.saturating_sub(count);
            product(count, rate)
        };
        let cached = part(tokens.cache_read, self.cache_read_nanousd_per_mtok)
            .saturating_add(part(tokens.cache_write, self.cache_write_nanousd_per_mtok))
            .saturating_add(part(
                tokens.cache_write_1h,
                self.cache_write_1h_nanousd_per_mtok,
            ));
        let plain = product(rest, self.input_nanousd_per_mtok);
        let generated = product(tokens.completion, self.output_nanousd_per_mtok);
        rounded(cached.saturating_add(plain).saturating_add(generated))
    }
}

/// Two factors of 64 bits always fit.
fn product(tokens: u64, rate: u64) -> u128 {
    u128::from(tokens) * u128::from(rate)
}

/// Up, so that no request is free by rounding.
fn rounded(sum: u128) -> Nanousd {
    let nanousd = match u64::try_from(sum) {
        // Wasm divides no more bits than this by itself.
        Ok(sum) => sum.div_ceil(TOKENS_PER_MTOK),
        Err(_) => u64::try_from(sum.div_ceil(u128::from(TOKENS_PER_MTOK))).unwrap_or(u64::MAX),
    };
    Nanousd(nanousd).min(Nanousd::MAX)
}

/// Rates that replace a model's usual ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tariff {
    pub service: ServiceTier,
    /// For prompts of more tokens than this.
    pub above_prompt_tokens: u64,
    pub rates: Rates,
}

/// All that a provider charges for one model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// The standard tier, for prompts up to the first step.
    base: Rates,
    tariffs: Vec<Tariff>,
}

impl Price {
    /// A price that is the same for every request.
    pub fn flat(rates: Rates) -> Price {
        Price {
            base: rates,
            tariffs: Vec::new(),
        }
    }

    pub fn new(base: Rates, tariffs: Vec<Tariff>) -> Price {
        Price { base, tariffs }
    }

    /// The rates of a prompt of that length at that tier. A tier of which the price says nothing is
    /// the standard one; where a tier has no step of its own at which the standard one has one, it
    /// is the dearer of the two that apply, so that a gap never undercharges.
    pub fn rates(&self, service: ServiceTier, prompt_tokens: u64) -> Rates {
        let step = |service: ServiceTier| {
            self.tariffs
                .iter()
                .filter(|tariff| {
                    tariff.service == service
                        && (tariff.above_prompt_tokens == 0
                            || prompt_tokens > tariff.above_prompt_tokens)
                })
                .max_by_key(|tariff| tariff.above_prompt_tokens)
                .map(|tariff| (tariff.above_prompt_tokens, tariff.rates))
        };
        let (standard_above, standard) = step(ServiceTier::Standard).unwrap_or((0, self.base));
        match step(service) {
            None => standard,
            Some((above, rates)) if above >= standard_above => rates,
            Some((_, rates)) => rates.dearer(standard),
        }
    }

    /// What these tokens cost.
    pub fn cost(&self, service: ServiceTier, tokens: &Tokens) -> Nanousd {
        self.rates(service, tokens.prompt).cost(tokens)
    }

    /// What a request costs at most that has no more tokens than these: its prompt may be written
    /// to the provider's cache, and a provider may serve a cheaper tier as the standard one.
    pub fn cost_max(
        &self,
        service: ServiceTier,
        prompt_tokens: u64,
        completion_tokens: u64,
    ) -> Nanousd {
        let rates = self
            .rates(service, prompt_tokens)
            .dearer(self.rates(ServiceTier::Standard, prompt_tokens));
        rounded(
            product(prompt_tokens, rates.input_max())
                .saturating_add(product(completion_tokens, rates.output_nanousd_per_mtok)),
        )
    }

    /// Do prompt and completion cost at least as much as with `other`, in the usual case?
    pub fn covers(&self, other: &Price) -> bool {
        self.base.input_nanousd_per_mtok >= other.base.input_nanousd_per_mtok
            && self.base.output_nanousd_per_mtok >= other.base.output_nanousd_per_mtok
    }

    /// The same price with some rates replaced in every tariff.
    #[must_use]
    pub fn with(mut self, replace: impl Fn(&mut Rates)) -> Price {
        replace(&mut self.base);
        for tariff in &mut self.tariffs {
            replace(&mut tariff.rates);
        }
        self
    }

    /// The standard tier's rates of a short prompt.
    pub fn base(&self) -> &Rates {
        &self.base
    }

    /// What differs from the base.
    pub fn tariffs(&self) -> &[Tariff] {
        &self.tariffs
    }
}
