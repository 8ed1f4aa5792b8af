//! Stop strings: text that ends an answer and is not part of it, found across any split of the
//! text into tokens.

/// Whether a stop string has been found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopState {
    /// Not yet.
    Open,
    /// Yes: the text released so far is all there will be.
    Matched,
}

/// Holds back text that may be the start of a stop string. Of several stop strings the one that is
/// complete first wins, so the result does not depend on how the text was split.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
    /// Text not yet released: between calls, the longest end of the text that starts a stop string.
    held: String,
    state: StopState,
}

impl StopMatcher {
    /// A matcher for `stops`; empty ones are ignored. Their number and length are limited where
    /// requests are parsed (`STOP_STRINGS_MAX`, `STOP_STRING_BYTES_MAX`).
    pub fn new(stops: &[String]) -> StopMatcher {
        let stops = stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .cloned()
            .collect();
        StopMatcher {
            stops,
            held: String::new(),
            state: StopState::Open,
        }
    }

    /// Takes the next text and appends to `released` what can be shown. After a match the rest is
    /// dropped, and so is all that follows.
    pub fn push(&mut self, text: &str, released: &mut String) -> StopState {
        if self.state == StopState::Matched {
            return self.state;
        }
        self.held.push_str(text);
        if let Some(start) = self.first_match() {
            released.push_str(&self.held[..start]);
            self.held.clear();
            self.state = StopState::Matched;
        } else {
            let kept = self.held.len() - self.undecided_bytes();
            released.extend(self.held.drain(..kept));
        }
        self.state
    }

    /// The sequence has ended: what was held back was no stop string.
    pub fn finish(&mut self, released: &mut String) {
        released.push_str(&std::mem::take(&mut self.held));
    }

    /// Whether a stop string has been found.
    pub fn state(&self) -> StopState {
        self.state
    }

    /// Where the stop string that is complete first starts; the longest of several that end there.
    fn first_match(&self) -> Option<usize> {
        let found = self.stops.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start))
        });
        found.min().map(|(_, start)| start)
    }

    /// Bytes at the end of the held text that are the start of a stop string.
    fn undecided_bytes(&self) -> usize {
        let longest = |stop: &String| {
            let starts = stop.char_indices().map(|(bytes, _)| bytes).rev();
            starts
                .take_while(|bytes| *bytes > 0)
                .find(|b| self.held.ends_with(&stop[..*b]))
        };
        self.stops.iter().filter_map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run<'a>(stops: &[&str], pieces: impl IntoIterator<Item = &'a str>) -> (String, StopState) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut matcher = StopMatcher::new(&stops);
        let mut released = String::new();
        for piece in pieces {
            matcher.push(piece, &mut released);
        }
        matcher.finish(&mut released);
        (released, matcher.state())
    }

    #[test]
    fn text_ends_before_the_first_stop_string() {
        let check = |stops: &[&str], pieces: &[&str], text: &str, state: StopState| {
            assert_eq!(
                run(stops, pieces.iter().copied()),
                (text.to_owned(), state),
                "{pieces:?}"
            );
        };
        use StopState::{Matched, Open};
        check(&[], &["a", "b"], "ab", Open);
        check(&[""], &["ab"], "ab", Open);
        check(&["\n\n"], &["a\n", "b\n", "\nc", "d"], "a\nb", Matched);
        check(&["END"], &["the E", "N", "d"], "the ENd", Open);
        check(&["END"], &["the E", "N"], "the EN", Open);
        check(&["END"], &["EEN", "D"], "E", Matched);
        check(&["abc", "b"], &["abc"], "a", Matched);
        check(&["abc", "bc"], &["xabc"], "x", Matched);
        check(&["你好"], &["说你", "好"], "说", Matched);
    }

    #[test]
    fn nothing_is_shown_that_a_stop_string_may_take_back() {
        let mut matcher = StopMatcher::new(&["stop".to_owned()]);
        let mut released = String::new();
        assert_eq!(matcher.push("do not st", &mut released), StopState::Open);
        assert_eq!(released, "do not ");
        assert_eq!(matcher.push("op here", &mut released), StopState::Matched);
        assert_eq!(matcher.push("more", &mut released), StopState::Matched);
        assert_eq!(released, "do not ");
    }

    proptest! {
        #[test]
        fn the_split_does_not_matter(
            text in "[ab|é]{0,30}", stops in proptest::collection::vec("[ab|é]{1,4}", 0..4),
            size in 1_usize..4,
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let pieces: Vec<String> =
                text.chars().collect::<Vec<_>>().chunks(size).map(|c| c.iter().collect()).collect();
            let whole = run(&stops, [text.as_str()]);
            prop_assert_eq!(run(&stops, pieces.iter().map(String::as_str)), whole.clone());
            prop_assert!(text.starts_with(&whole.0));
        }
    }
}
