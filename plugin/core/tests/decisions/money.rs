//! Amounts are read, shown and subtracted exactly.

use farthing_core::money::{MoneyError, Nanousd, NanousdDelta};
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

proptest! {
    #[test]
    fn what_is_shown_reads_back(nanousd: u64) {
        let shown = Nanousd(nanousd).to_string();
        prop_assert_eq!(Nanousd::parse_usd(&shown), Ok(Nanousd(nanousd)));
    }

    #[test]
    fn a_difference_is_exact_in_both_directions(a in 0..=Nanousd::MAX.0, b in 0..=Nanousd::MAX.0) {
        let delta = NanousdDelta::between(Nanousd(a), Nanousd(b));
        prop_assert_eq!(i128::from(delta.0), i128::from(a) - i128::from(b));
        prop_assert_eq!(i128::from(delta.gain()) - i128::from(delta.loss()), i128::from(delta.0));
        let shown = delta.to_string();
        let sign = if delta.0 < 0 { "-" } else { "" };
        prop_assert_eq!(shown, format!("{sign}{}", Nanousd(delta.0.unsigned_abs())));
    }
}
