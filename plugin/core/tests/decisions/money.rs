//! Money is exact.

use farthing_core::money::{MoneyError, Nanousd, Price};
use proptest::prelude::*;

#[track_caller]
fn check(text: &str, expected: Result<u64, MoneyError>) {
    assert_eq!(
        Nanousd::parse_usd(text).map(|amount| amount.0),
        expected,
        "{text:?}"
    );
}

#[test]
fn dollars_are_read_exactly() {
    check("0", Ok(0));
    check("12", Ok(12_000_000_000));
    check("0.02", Ok(20_000_000));
    check(".5", Ok(500_000_000));
    check("1.", Ok(1_000_000_000));
    check("0.000000001", Ok(1));
    check("0.10000000000", Ok(100_000_000));
    check("18446744073.709551615", Ok(u64::MAX));
    check("18446744073.709551616", Err(MoneyError::TooLarge));
    check("99999999999999999999999", Err(MoneyError::TooLarge));
    check("0.0000000001", Err(MoneyError::TooFine));
    check("3e-6", Ok(3_000));
    check("1.5E-3", Ok(1_500_000));
    check("12.5e-1", Ok(1_250_000_000));
    check(".5e-1", Ok(50_000_000));
    check("1e-10", Err(MoneyError::TooFine));
    for text in [
        "",
        ".",
        "-1",
        "+1",
        "1e3",
        "1,5",
        " 1",
        "0x1",
        "NaN",
        "1.2.3",
        "\u{0663}",
        "1e-",
        "e-1x",
        "1e-999",
        "1.2.3e-2",
        "-1e-3",
        "\u{0663}e-1",
    ] {
        check(text, Err(MoneyError::NotDecimal));
    }
}

#[test]
fn a_cost_is_rounded_up_once() {
    let price = Price {
        input_nanousd_per_mtok: 20_000_000,
        output_nanousd_per_mtok: 333_333,
    };
    assert_eq!(price.cost(1, 0), Nanousd(20));
    assert_eq!(price.cost(0, 1), Nanousd(1));
    // 20 and a third and a third: 20.67, not 20 + 1 + 1.
    assert_eq!(price.cost(1, 2), Nanousd(21));
    assert_eq!(price.cost(0, 0), Nanousd::ZERO);
    assert_eq!(price.cost(u64::MAX, u64::MAX), Nanousd(u64::MAX));
}

proptest! {
    #[test]
    fn what_is_shown_reads_back(nanousd: u64) {
        let shown = Nanousd(nanousd).to_string();
        prop_assert_eq!(Nanousd::parse_usd(&shown), Ok(Nanousd(nanousd)));
    }

    #[test]
    fn more_tokens_never_cost_less(
        input in 0..10_u64.pow(12), output in 0..10_u64.pow(12),
        prompt in 0..10_u64.pow(9), completion in 0..10_u64.pow(9), more in 0..10_u64.pow(6),
    ) {
        let price = Price { input_nanousd_per_mtok: input, output_nanousd_per_mtok: output };
        let cost = price.cost(prompt, completion);
        prop_assert!(price.cost(prompt + more, completion) >= cost);
        prop_assert!(price.cost(prompt, completion + more) >= cost);
        // Splitting a request never makes it cheaper.
        let parts = price.cost(prompt, 0).saturating_add(price.cost(0, completion));
        prop_assert!(parts >= cost);
    }
}
