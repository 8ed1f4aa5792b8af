//! The client's `cache-control` (RFC 9111, section 5.2.1), as far as an exact cache can honour it.

use crate::exchange::Headers;

/// What the client asks of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// Do not answer from the cache. The fresh answer may be stored.
    pub no_cache: bool,
    /// Do not store the answer. An answer stored before may be served.
    pub no_store: bool,
    /// Oldest acceptable answer.
    pub max_age_s: Option<u64>,
}

impl CacheControl {
    /// Reads every `cache-control` header of a message; directives we do not know are ignored, as
    /// the RFC asks. A `max-age` that is no number is read as 0: the client wants something fresh.
    pub fn read(headers: &Headers<'_>) -> CacheControl {
        let mut control = CacheControl::default();
        for value in headers.all("cache-control") {
            for directive in value.split(|byte| *byte == b',') {
                control.apply(&String::from_utf8_lossy(directive).to_ascii_lowercase());
            }
        }
        control
    }

    fn apply(&mut self, directive: &str) {
        let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim() {
            "no-cache" => self.no_cache = true,
            "no-store" => self.no_store = true,
            "max-age" => {
                let age_s = argument.trim().trim_matches('"').parse().unwrap_or(0);
                self.max_age_s = Some(self.max_age_s.map_or(age_s, |before| before.min(age_s)));
            }
            _ => {}
        }
    }

    /// May an answer of that age be served?
    pub fn accepts_age(&self, age_s: u64) -> bool {
        !self.no_cache && self.max_age_s.is_none_or(|max_age_s| age_s < max_age_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[&str], no_cache: bool, no_store: bool, max_age_s: Option<u64>) {
        let entries: Vec<(String, Vec<u8>)> = values
            .iter()
            .map(|v| ("cache-control".to_owned(), v.as_bytes().to_vec()))
            .collect();
        let expected = CacheControl {
            no_cache,
            no_store,
            max_age_s,
        };
        assert_eq!(
            CacheControl::read(&Headers::new(&entries)),
            expected,
            "{values:?}"
        );
    }

    #[test]
    fn directives() {
        check(&[], false, false, None);
        check(&["no-cache"], true, false, None);
        check(&["No-Store"], false, true, None);
        check(&["no-cache, no-store , max-age=5"], true, true, Some(5));
        check(&["max-age=60", "max-age=7"], false, false, Some(7));
        check(&["max-age=\"9\""], false, false, Some(9));
        check(&["max-age=soon"], false, false, Some(0));
        check(&["private, only-if-cached, no-cachexx"], false, false, None);
        check(&["\u{fffd}"], false, false, None);
    }

    #[test]
    fn ages() {
        let within = |max_age_s| CacheControl {
            max_age_s,
            ..CacheControl::default()
        };
        assert!(within(None).accepts_age(u64::MAX));
        assert!(within(Some(5)).accepts_age(4));
        assert!(!within(Some(5)).accepts_age(5));
        assert!(!within(Some(0)).accepts_age(0));
    }
}
