//! The ledger's sums: what was saved is split among the decisions without a rest, whatever the
//! prices are.

use farthing_core::ledger::{Bill, Generation, Sums};
use farthing_core::price::{Price, Rates, ServiceTier, Tokens};
use proptest::prelude::*;
use proptest::sample::select;

fn flat(input: u64, output: u64) -> Price {
    Price::flat(Rates::plain(input * 1_000_000, output * 1_000_000))
}

/// A bill over prices of 1 and 2 (served) and 10 and 20 (asked) nano-dollars a token.
fn sums(generation: Generation, compacted_tokens: u64, capped_tokens: u64) -> Sums {
    let tokens = Tokens {
        prompt: 100,
        completion: 10,
        ..Tokens::default()
    };
    let (served, asked) = (flat(1, 2), flat(10, 20));
    let bill = Bill {
        generation,
        served: &served,
        asked: &asked,
        service: ServiceTier::Standard,
        tokens,
        compacted_tokens,
        capped_tokens,
    };
    bill.sums()
}

#[track_caller]
fn check(sums: &Sums, cost: u64, as_asked: u64, header: &str) {
    assert_eq!((sums.cost.0, sums.as_asked.0), (cost, as_asked));
    assert_eq!(sums.saved_by.to_header(), header);
}

#[test]
fn each_decision_is_credited_with_what_it_changed() {
    check(
        &sums(Generation::Paid, 0, 0),
        120,
        1_200,
        "cache=0;route=0.00000108;cap=0;compaction=0;single_flight=0",
    );
    check(
        &sums(Generation::Cached, 7, 0),
        0,
        1_270,
        "cache=0.00000012;route=0.00000108;cap=0;compaction=0.00000007;single_flight=0",
    );
    check(
        &sums(Generation::Shared, 0, 5),
        0,
        1_300,
        "cache=0;route=0.00000108;cap=0.0000001;compaction=0;single_flight=0.00000012",
    );
}

/// Sorted so that a dearer kind of cached token is possible, and a dearer served model too.
fn price() -> impl Strategy<Value = Price> {
    prop::array::uniform5(0..10_u64.pow(13)).prop_map(|[input, output, read, write, write_1h]| {
        Price::flat(Rates {
            input_nanousd_per_mtok: input,
            output_nanousd_per_mtok: output,
            cache_read_nanousd_per_mtok: read,
            cache_write_nanousd_per_mtok: write,
            cache_write_1h_nanousd_per_mtok: write_1h,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn the_parts_sum_to_the_whole(
        generation in select(vec![Generation::Paid, Generation::Cached, Generation::Shared]),
        served in price(), asked in price(),
        counts in prop_oneof![
            prop::array::uniform5(0..1_u64 << 24),
            any::<[u64; 5]>(),
        ],
        compacted_tokens in 0..1_u64 << 20, capped_tokens in 0..1_u64 << 20,
    ) {
        let [prompt, cache_read, cache_write, cache_write_1h, completion] = counts;
        let bill = Bill {
            generation,
            served: &served,
            asked: &asked,
            service: ServiceTier::Standard,
            tokens: Tokens { prompt, cache_read, cache_write, cache_write_1h, completion },
            compacted_tokens,
            capped_tokens,
        };
        let sums = bill.sums();
        let parts: i128 = sums.saved_by.parts().iter().map(|(_, part)| i128::from(part.0)).sum();
        prop_assert_eq!(parts, i128::from(sums.saved().0));
        prop_assert_eq!(i128::from(sums.cost.0) + parts, i128::from(sums.as_asked.0));
        prop_assert_eq!(sums.cost.0 == 0 || generation == Generation::Paid, true);
    }
}
