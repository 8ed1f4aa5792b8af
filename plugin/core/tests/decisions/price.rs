//! Prices: exact sums, never cheaper for more, never zero by accident, and a catalogue that holds
//! nothing that breaks this.

use farthing_core::money::Nanousd;
use farthing_core::price::{Catalogue, Price, Rates, ServiceTier, Tariff, Tokens};
use proptest::prelude::*;
use proptest::sample::select;

const SERVICES: [ServiceTier; 4] = [
    ServiceTier::Standard,
    ServiceTier::Batch,
    ServiceTier::Flex,
    ServiceTier::Priority,
];

/// Prompt, cache read, cache write, write for an hour, completion.
fn tokens([prompt, cache_read, cache_write, cache_write_1h, completion]: [u64; 5]) -> Tokens {
    Tokens {
        prompt,
        cache_read,
        cache_write,
        cache_write_1h,
        completion,
    }
}

#[track_caller]
fn check(model: &str, service: ServiceTier, counts: [u64; 5], nanousd: u64) {
    let price = Catalogue::built_in().find(model).expect(model);
    assert_eq!(
        price.cost(service, &tokens(counts)),
        Nanousd(nanousd),
        "{model}, {service:?}, {counts:?}"
    );
}

/// Against sums made by hand from the providers' price lists.
#[test]
fn real_models_cost_what_their_providers_say() {
    use ServiceTier::{Batch, Flex, Priority, Standard};
    check("gpt-4o-mini", Standard, [1, 0, 0, 0, 0], 150);
    check("gpt-4o-mini", Standard, [1_000, 0, 0, 0, 500], 450_000);
    check("gpt-4o-mini", Standard, [1_000, 400, 0, 0, 500], 420_000);
    check("gpt-4o-mini", Batch, [1_000, 0, 0, 0, 500], 225_000);
    check("gpt-4o-mini", Priority, [1_000, 0, 0, 0, 500], 750_000);
    // No flex price is published, so the usual one holds.
    check("gpt-4o-mini", Flex, [1_000, 0, 0, 0, 500], 450_000);
    check("claude-sonnet-4-5", Standard, [100, 0, 0, 0, 10], 450_000);
    check("claude-sonnet-4-5", Standard, [100, 60, 40, 0, 0], 168_000);
    check("claude-sonnet-4-5", Standard, [100, 0, 0, 100, 0], 600_000);
    check(
        "gemini/gemini-2.5-pro",
        Standard,
        [200_000, 0, 0, 0, 1],
        250_010_000,
    );
    // One token more, and all of them cost the higher price.
    check(
        "gemini/gemini-2.5-pro",
        Standard,
        [200_001, 0, 0, 0, 1],
        500_017_500,
    );
    check(
        "gemini/gemini-2.5-pro",
        Batch,
        [200_001, 0, 0, 0, 0],
        250_001_250,
    );
    check(
        "text-embedding-3-small",
        Standard,
        [1_000, 0, 0, 0, 0],
        20_000,
    );
}

#[test]
fn an_upstream_that_reports_more_cached_tokens_than_prompt_is_paid_for_the_prompt() {
    check(
        "claude-sonnet-4-5",
        ServiceTier::Standard,
        [100, 80, 80, 80, 0],
        80 * 300 + 20 * 3_750,
    );
}

#[test]
fn the_catalogue_is_whole() {
    let entries = Catalogue::built_in().entries().unwrap();
    assert!(entries.len() > 800, "{}", entries.len());
    for (name, price) in &entries {
        assert!(price.base().input_nanousd_per_mtok > 0, "{name}");
        assert_eq!(
            Catalogue::built_in().find(name).as_ref(),
            Some(price),
            "{name}"
        );
        for service in SERVICES {
            // Of some tiers only the price of long prompts is published.
            let is_whole = service == ServiceTier::Standard
                || price
                    .tariffs()
                    .iter()
                    .any(|it| it.service == service && it.above_prompt_tokens == 0);
            let mut before = Rates::default();
            for prompt in [1, 100_001, 128_001, 200_001, 256_001, 272_001, 512_001] {
                let rates = price.rates(service, prompt);
                assert!(rates.input_nanousd_per_mtok > 0, "{name}");
                assert!(rates.cache_read_nanousd_per_mtok > 0, "{name}");
                assert!(rates.cache_write_nanousd_per_mtok >= rates.input_nanousd_per_mtok);
                assert!(
                    !is_whole || at_least(&rates, &before),
                    "{name} {service:?} above {prompt}"
                );
                before = rates;
            }
        }
    }
}

fn at_least(rates: &Rates, other: &Rates) -> bool {
    rates.input_nanousd_per_mtok >= other.input_nanousd_per_mtok
        && rates.output_nanousd_per_mtok >= other.output_nanousd_per_mtok
        && rates.cache_read_nanousd_per_mtok >= other.cache_read_nanousd_per_mtok
        && rates.cache_write_nanousd_per_mtok >= other.cache_write_nanousd_per_mtok
        && rates.cache_write_1h_nanousd_per_mtok >= other.cache_write_1h_nanousd_per_mtok
}

#[test]
fn a_catalogue_that_is_none_names_its_line() {
    let check = |text: &str, line: usize| {
        let error = Catalogue::new(text).entries().unwrap_err();
        assert_eq!(error.line, line, "{text:?}");
    };
    check("", 1);
    check("# farthing price catalogue 2\n1/2 = m", 1);
    for line in [
        "1 = m",
        "1/x = m",
        "1/2 x:1/2 = m",
        "1/2 b>x:1/2 = m",
        "1/2 b1/2 = m",
        " = m",
    ] {
        check(&format!("# farthing price catalogue 1\n1/2 = a\n{line}"), 3);
    }
}

fn rates() -> impl Strategy<Value = Rates> {
    // Up to a million dollars for a million tokens.
    prop::array::uniform5(0..10_u64.pow(15)).prop_map(|[input, output, read, write, write_1h]| {
        Rates {
            input_nanousd_per_mtok: input,
            output_nanousd_per_mtok: output,
            cache_read_nanousd_per_mtok: read,
            cache_write_nanousd_per_mtok: write,
            cache_write_1h_nanousd_per_mtok: write_1h,
        }
    })
}

fn price() -> impl Strategy<Value = Price> {
    let tariff = (
        select(SERVICES.to_vec()),
        select(vec![0, 100, 200_000]),
        rates(),
    )
        .prop_map(|(service, above_prompt_tokens, rates)| Tariff {
            service,
            above_prompt_tokens,
            rates,
        });
    (rates(), prop::collection::vec(tariff, 0..6))
        .prop_map(|(base, tariffs)| Price::new(base, tariffs))
}

/// The parts of the prompt do not exceed it.
fn some_tokens(max: u64) -> impl Strategy<Value = Tokens> {
    prop::array::uniform5(0..max).prop_map(|[plain, read, write, write_1h, completion]| {
        tokens([
            plain + read + write + write_1h,
            read,
            write,
            write_1h,
            completion,
        ])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// The formula, in numbers that cannot round.
    #[test]
    fn a_cost_is_the_sum_rounded_up_once(
        price in price(), service in select(SERVICES.to_vec()), tokens in some_tokens(1 << 20),
    ) {
        let rates = price.rates(service, tokens.prompt);
        let plain = tokens.prompt - tokens.cache_read - tokens.cache_write - tokens.cache_write_1h;
        let exact: u128 = [
            (plain, rates.input_nanousd_per_mtok),
            (tokens.cache_read, rates.cache_read_nanousd_per_mtok),
            (tokens.cache_write, rates.cache_write_nanousd_per_mtok),
            (tokens.cache_write_1h, rates.cache_write_1h_nanousd_per_mtok),
            (tokens.completion, rates.output_nanousd_per_mtok),
        ]
        .iter()
        .map(|(count, rate)| u128::from(*count) * u128::from(*rate))
        .sum();
        let cost = u128::from(price.cost(service, &tokens).0);
        prop_assert!(cost * 1_000_000 >= exact);
        prop_assert!(exact > cost.saturating_sub(1) * 1_000_000 || exact == 0);
    }

    /// Within one step, more of anything never costs less; and no request costs more than what is
    /// reserved for its size.
    #[test]
    fn more_tokens_never_cost_less(
        rates in rates(), tokens in some_tokens(1 << 20), more in 0..1_u64 << 20,
    ) {
        let price = Price::flat(rates);
        let cost = |tokens: &Tokens| price.cost(ServiceTier::Standard, tokens);
        let before = cost(&tokens);
        let longer = Tokens { prompt: tokens.prompt + more, ..tokens };
        prop_assert!(cost(&longer) >= before);
        let wordier = Tokens { completion: tokens.completion + more, ..tokens };
        prop_assert!(cost(&wordier) >= before);
        let most = price.cost_max(ServiceTier::Standard, tokens.prompt, tokens.completion);
        prop_assert!(before <= most);
    }

    /// However many tokens an upstream claims, there is an amount.
    #[test]
    fn nothing_overflows(
        price in price(), service in select(SERVICES.to_vec()), counts: [u64; 5],
    ) {
        let cost = price.cost(service, &tokens(counts));
        prop_assert!(cost <= Nanousd::MAX);
        prop_assert!(price.cost_max(service, counts[0], counts[4]) <= Nanousd::MAX);
    }
}
