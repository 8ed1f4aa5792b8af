//! How long a provider asks to be left alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farthing_backend::provider::hints::asked_wait;
use farthing_core::limits::PROVIDER_REST_MS_MAX;
use proptest::prelude::*;

/// 2026-01-31 12:00:00 UTC.
fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_769_860_800)
}

#[track_caller]
fn check(headers: &[(&str, &str)], expected_ms: Option<u64>) {
    let header = |name: &str| {
        let found = headers.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| *value)
    };
    let wait = asked_wait(header, noon());
    assert_eq!(wait, expected_ms.map(Duration::from_millis), "{headers:?}");
}

#[test]
fn what_is_said_outright() {
    check(&[], None);
    check(&[("retry-after", "7")], Some(7_000));
    check(&[("retry-after", "0.25")], Some(250));
    check(&[("retry-after", " 0 ")], Some(0));
    check(
        &[("retry-after-ms", "1500"), ("retry-after", "7")],
        Some(1_500),
    );
    check(
        &[("retry-after", "Sat, 31 Jan 2026 12:00:09 GMT")],
        Some(9_000),
    );
    // What is past is now.
    check(&[("retry-after", "Sat, 31 Jan 2026 11:00:00 GMT")], Some(0));
    for nothing in ["", "soon", "-1", "NaN", "inf", "1e300s", "Sat, 31 Feb 2026"] {
        check(&[("retry-after", nothing)], None);
    }
    check(&[("retry-after", "86400")], Some(PROVIDER_REST_MS_MAX));
    check(&[("retry-after", "1e18")], Some(PROVIDER_REST_MS_MAX));
}

#[test]
fn what_is_spent_says_when_it_is_renewed() {
    let requests = "x-ratelimit-remaining-requests";
    let reset = "x-ratelimit-reset-requests";
    for (text, ms) in [
        ("1s", 1_000),
        ("20ms", 20),
        ("1m30s", 90_000),
        ("4m1.5s", 241_500),
        ("12", 12_000),
    ] {
        check(&[(requests, "0"), (reset, text)], Some(ms));
        check(&[(requests, "1"), (reset, text)], None);
        check(&[(reset, text)], None);
    }
    for nothing in ["", "s", "1", "1x", "1m2", "m1s", "-1s"] {
        let expected = (nothing == "1").then_some(1_000);
        check(&[(requests, "0"), (reset, nothing)], expected);
    }
    // The later of two that are spent; what is said outright counts more.
    let tokens = [
        (requests, "0"),
        (reset, "1s"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "6s"),
    ];
    check(&tokens, Some(6_000));
    check(
        &[&tokens[..], &[("retry-after", "2")]].concat(),
        Some(2_000),
    );
}

#[test]
fn times_of_day() {
    let remaining = "anthropic-ratelimit-requests-remaining";
    let reset = "anthropic-ratelimit-requests-reset";
    for (text, ms) in [
        ("2026-01-31T12:00:30Z", Some(30_000)),
        ("2026-01-31t12:00:30.001z", Some(31_000)),
        ("2026-01-31T14:00:30+02:00", Some(30_000)),
        ("2026-01-31T10:30:30-01:30", Some(30_000)),
        ("2026-01-31T11:59:59Z", Some(0)),
        ("2026-02-01T00:00:00Z", Some(PROVIDER_REST_MS_MAX)),
        ("2026-13-01T00:00:00Z", None),
        ("2026-01-31T24:00:00Z", None),
        ("2026-01-31T12:00Z", None),
        ("2026-01-31", None),
        ("2026-01-31T12:00:30", None),
        ("now", None),
    ] {
        check(&[(remaining, "0"), (reset, text)], ms);
        check(&[(remaining, "9"), (reset, text)], None);
    }
}

proptest! {
    /// Nothing that a header holds breaks it, or keeps a provider away for long.
    #[test]
    fn any_text_is_bounded(text in ".{0,40}") {
        for name in ["retry-after", "retry-after-ms"] {
            let wait = asked_wait(|key| (key == name).then_some(&*text), noon());
            prop_assert!(wait.is_none_or(|wait| wait.as_millis() <= PROVIDER_REST_MS_MAX.into()));
        }
        let spent = |key: &str| match key.contains("remaining") {
            true => "0",
            false => &*text,
        };
        let limits = |key: &str| !key.starts_with("retry");
        let wait = asked_wait(|key| limits(key).then(|| spent(key)), noon());
        prop_assert!(wait.is_none_or(|wait| wait.as_millis() <= PROVIDER_REST_MS_MAX.into()));
    }
}
