//! What an upstream's response headers say about storing its answer (RFC 9111, section 3). Answers
//! are shared among the clients of one tenant, so this is a shared cache; it never revalidates, so
//! an answer that would have to be is not stored.

use super::CacheControl;
use crate::exchange::Headers;

/// Request headers that an answer may vary by and still be stored: they change how it is sent, not
/// what it says. Any other name in `Vary` is of something that the cache key does not hold.
const VARY_HARMLESS: [&[u8]; 3] = [b"accept-encoding", b"accept", b"origin"];

const EVENT_STREAM: &[u8] = b"text/event-stream";

/// How old an answer is when it comes: another cache on its way may have kept it (RFC 9111, section
/// 5.1).
pub fn age_s(headers: &Headers<'_>) -> u64 {
    let age_s = headers.text("age").map(|age_s| age_s.trim().parse());
    match age_s {
        None => 0,
        // An age that cannot be read is taken for the oldest.
        Some(age_s) => age_s.unwrap_or(u64::MAX),
    }
}

/// For how long an answer with these headers may be stored, at most; `None` if it may not be. Its
/// life began when it was made.
pub fn storable_s(headers: &Headers<'_>, ttl_s: u32) -> Option<u32> {
    let control = CacheControl::read(headers);
    let forbidden = control.no_store
        || (control.no_cache && !is_stream(headers))
        || headers.first("set-cookie").is_some()
        || headers.all("cache-control").any(is_private)
        || headers.all("vary").any(|value| !varies_harmlessly(value));
    let max_age_s = control
        .max_age_s
        .map_or(u32::MAX, |age_s| u32::try_from(age_s).unwrap_or(u32::MAX));
    let age_s = u32::try_from(age_s(headers)).unwrap_or(u32::MAX);
    Some(ttl_s.min(max_age_s).saturating_sub(age_s)).filter(|life_s| !forbidden && *life_s > 0)
}

/// Servers say `no-cache` of every event stream, lest something on the way buffers it: our backend
/// does, and so do most. It is about the stream, not about the answer in it.
fn is_stream(headers: &Headers<'_>) -> bool {
    headers
        .first("content-type")
        .and_then(|value| value.get(..EVENT_STREAM.len()))
        .is_some_and(|media_type| media_type.eq_ignore_ascii_case(EVENT_STREAM))
}

/// `private`, or `private="field"`, which we do not take apart.
fn is_private(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|directive| {
        let name = directive.split(|byte| *byte == b'=').next();
        name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"private"))
    })
}

fn varies_harmlessly(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').all(|name| {
        let name = name.trim_ascii();
        name.is_empty()
            || VARY_HARMLESS
                .iter()
                .any(|harmless| name.eq_ignore_ascii_case(harmless))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&str, &str)], expected: Option<u32>) {
        let entries: Vec<(String, Vec<u8>)> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect();
        assert_eq!(
            storable_s(&Headers::new(&entries), 60),
            expected,
            "{headers:?}"
        );
    }

    #[test]
    fn the_upstream_bounds_the_life_of_its_answer() {
        check(&[], Some(60));
        check(&[("cache-control", "public")], Some(60));
        check(&[("cache-control", "max-age=61")], Some(60));
        check(&[("cache-control", "public, max-age=7")], Some(7));
        check(
            &[
                ("cache-control", "max-age=9"),
                ("cache-control", "max-age=8"),
            ],
            Some(8),
        );
        check(&[("cache-control", "max-age=99999999999999")], Some(60));
        check(&[("cache-control", "max-age=0")], None);
        check(&[("cache-control", "max-age=soon")], None);
        check(&[("cache-control", "no-store")], None);
        check(&[("cache-control", "max-age=9, No-Cache")], None);
        let stream = ("content-type", "text/event-stream; charset=utf-8");
        check(&[stream, ("cache-control", "no-cache")], Some(60));
        check(&[stream, ("cache-control", "no-cache, no-store")], None);
        check(&[("cache-control", "Private")], None);
        check(&[("cache-control", "max-age=9,private=\"x-a\"")], None);
        check(&[("set-cookie", "a=b")], None);
        check(&[("age", "20")], Some(40));
        check(&[("age", "20"), ("cache-control", "max-age=30")], Some(10));
        check(&[("age", "60")], None);
        check(&[("age", "old")], None);
    }

    #[test]
    fn an_answer_that_varies_by_what_is_not_in_the_key_is_not_stored() {
        check(&[("vary", "Origin, Accept-Encoding")], Some(60));
        check(&[("vary", "accept"), ("vary", "")], Some(60));
        check(&[("vary", "*")], None);
        check(&[("vary", "Accept-Language")], None);
        check(&[("vary", "origin"), ("vary", "authorization")], None);
    }
}
