//! Questions whose answer is another one later, and how long answers of each class keep.

use std::num::NonZeroU32;

/// How long an answer stays right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Freshness {
    /// It depends on when it was asked: never given to another question.
    Now,
    /// About what is there for a while: prices, opening hours, versions.
    Slow,
    /// As good tomorrow.
    Lasting,
}

/// Words and pairs of words that make an answer depend on the moment.
const NOW: &[&str] = &[
    "today",
    "todays",
    "tonight",
    "now",
    "currently",
    "tomorrow",
    "yesterday",
    "nowadays",
    "weather",
    "forecast",
    "temperature",
    "traffic",
    "headlines",
    "news",
    "latest",
    "live",
    "breaking",
    "recently",
    "ago",
    "stock",
    "stocks",
    "bitcoin",
    "score",
    "scores",
    "this morning",
    "this afternoon",
    "this evening",
    "this week",
    "this weekend",
    "this month",
    "this year",
    "last night",
    "last week",
    "last month",
    "last year",
    "next week",
    "next month",
    "next year",
    "right now",
    "at the moment",
    "so far",
    "exchange rate",
    "just now",
    "my last",
    "up to date",
    "as of",
    "these days",
];

/// Questions about the clock that name no moment: "what time is it".
const CLOCK: &[&str] = &[
    "time is it",
    "day is it",
    "date is it",
    "what's the time",
    "what's the date",
];

/// Words about what changes at times.
const SLOW: &[&str] = &[
    "price",
    "prices",
    "cost",
    "costs",
    "fee",
    "fees",
    "rate",
    "rates",
    "open",
    "opening",
    "hours",
    "version",
    "release",
    "schedule",
    "deadline",
    "available",
    "availability",
    "limit",
    "offer",
    "discount",
    "current",
    "new",
    "when",
];

impl Freshness {
    /// Of a question.
    pub fn of(question: &str) -> Freshness {
        let lower = question.to_lowercase().replace('\u{2019}', "'");
        let words: Vec<&str> = lower
            .split(|c: char| !c.is_alphanumeric() && c != '\'')
            .filter(|word| !word.is_empty())
            .collect();
        let padded = format!(" {} ", words.join(" "));
        let says = |phrase: &&str| padded.contains(&format!(" {phrase} "));
        if CLOCK.iter().chain(NOW).any(&says) {
            Freshness::Now
        } else if SLOW.iter().any(says) {
            Freshness::Slow
        } else {
            Freshness::Lasting
        }
    }

    /// Seconds that an answer of this class keeps of those that a lasting one does.
    pub fn ttl_s(self, lasting_s: NonZeroU32) -> u64 {
        let lasting_s = u64::from(lasting_s.get());
        match self {
            Freshness::Now => 0,
            Freshness::Slow => (lasting_s / 24).max(1),
            Freshness::Lasting => lasting_s,
        }
    }
}
