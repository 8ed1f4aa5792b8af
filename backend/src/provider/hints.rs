//! How long a provider asks to be left alone, from the headers of its answer.
//!
//! `retry-after-ms` and `retry-after` (RFC 9110, section 10.2.3: seconds or a date) say it at once.
//! Else a limit of which nothing remains says when it is renewed: OpenAI's
//! `x-ratelimit-reset-requests` as a duration (`6m0s`, `20ms`), Anthropic's
//! `anthropic-ratelimit-requests-reset` as a time (`2026-01-31T12:00:00Z`). Without any that is
//! spent they are of no account: a limit in tokens is renewed bit by bit.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farthing_core::limits::PROVIDER_REST_MS_MAX;

/// Each limit by its three names: what remains, when it is renewed, and how that is written.
const LIMITS: [(&str, &str, Written); 6] = [
    (
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        Written::Duration,
    ),
    (
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
        Written::Duration,
    ),
    (
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
        Written::Time,
    ),
    (
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
        Written::Time,
    ),
    (
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
        Written::Time,
    ),
    (
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
        Written::Time,
    ),
];

#[derive(Debug, Clone, Copy)]
enum Written {
    Duration,
    Time,
}

/// What the headers ask for, `now` being the time of day. Never more than
/// `PROVIDER_REST_MS_MAX`: a mistake in a header must not silence a provider for days.
pub fn asked_wait<'a>(
    header: impl Fn(&str) -> Option<&'a str>,
    now: SystemTime,
) -> Option<Duration> {
    let outright = header("retry-after-ms")
        .and_then(|value| millis(value.trim().parse().ok()?))
        .or_else(|| retry_after(header("retry-after")?.trim(), now));
    let spent = LIMITS.iter().filter_map(|(remaining, reset, written)| {
        let remaining: f64 = header(remaining)?.trim().parse().ok()?;
        if remaining > 0.0 {
            return None;
        }
        let reset = header(reset)?.trim();
        match written {
            Written::Duration => duration(reset),
            Written::Time => until(unix_s(reset)?, now),
        }
    });
    let wait = outright.or_else(|| spent.max())?;
    Some(wait.min(Duration::from_millis(PROVIDER_REST_MS_MAX)))
}

fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.parse::<f64>() {
        return millis(seconds * 1_000.0);
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

/// A number of milliseconds; none if it is negative or no number.
fn millis(ms: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(ms / 1_000.0).ok()
}

/// A duration as Go writes it: `1h2m3.5s`, `20ms`; or bare seconds.
fn duration(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.parse::<f64>() {
        return millis(seconds * 1_000.0);
    }
    let mut total = 0.0;
    let mut rest = value;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit_and_more) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let letters = unit_and_more.find(|c: char| c.is_ascii_digit());
        let (unit, more) = unit_and_more.split_at(letters.unwrap_or(unit_and_more.len()));
        total += number
            * match unit {
                "ms" => 1.0,
                "s" => 1_000.0,
                "m" => 60_000.0,
                "h" => 3_600_000.0,
                _ => return None,
            };
        rest = more;
    }
    (!value.is_empty()).then(|| millis(total)).flatten()
}

fn until(at_unix_s: u64, now: SystemTime) -> Option<Duration> {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(at_unix_s))?;
    Some(at.duration_since(now).unwrap_or_default())
}

/// Seconds since 1970 of a time as RFC 3339 writes it; a fraction of a second is rounded up.
fn unix_s(value: &str) -> Option<u64> {
    let (date, clock) = value.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date)?;
    let zone_at = clock.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = clock.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let [hour, minute, second] = numbers(clock)?;
    let is_sane = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !is_sane {
        return None;
    }
    let up = i64::from(fraction.bytes().any(|byte| byte != b'0'));
    let days = days_since_1970(year, month, day);
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second + up;
    u64::try_from(seconds - offset_s(zone)?).ok()
}

/// `Z`, or `+02:00`.
fn offset_s(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Three numbers between two of the same marks: a date, or a time of day.
fn numbers(text: &str) -> Option<[i64; 3]> {
    let mut parts = text.split(['-', ':']).map(digits);
    let found = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(found)
}

fn digits(text: &str) -> Option<i64> {
    let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Days from 1970 to a day of the proleptic Gregorian calendar (Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms").
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}
