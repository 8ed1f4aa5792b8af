//! The ledger: one line for every request we judged, with what it cost, what it would have cost as
//! it was asked, and which decision saved the difference. No prompt, answer or credential is ever
//! part of it.

use serde::Serialize;

use crate::money::{Nanousd, Price};

/// Where an answer came from, as in `x-farthing-source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    EdgeCache,
    ResponseStore,
    SemanticCache,
    Model,
    Provider,
    /// Refused by the filter; no answer was made.
    Refused,
}

impl Source {
    pub const fn as_str(self) -> &'static str {
        match self {
            Source::EdgeCache => "edge-cache",
            Source::ResponseStore => "response-store",
            Source::SemanticCache => "semantic-cache",
            Source::Model => "model",
            Source::Provider => "provider",
            Source::Refused => "refused",
        }
    }

    /// The upstream's own word for where its answer came from; anything else is the model.
    pub fn from_upstream(word: Option<&str>) -> Source {
        [
            Source::ResponseStore,
            Source::SemanticCache,
            Source::Provider,
        ]
        .into_iter()
        .find(|source| Some(source.as_str()) == word)
        .unwrap_or(Source::Model)
    }

    /// Was nothing generated for this answer?
    pub const fn is_cache(self) -> bool {
        matches!(
            self,
            Source::EdgeCache | Source::ResponseStore | Source::SemanticCache
        )
    }
}

/// What a request cost and would have cost. The parts of `saved_by` sum to `saved` exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub cost: Nanousd,
    /// The same tokens from the model asked for, uncached. What a lower `max_tokens` saved is not
    /// known, so it is not claimed.
    pub as_asked: Nanousd,
    pub saved_by_cache: Nanousd,
    pub saved_by_route: Nanousd,
    pub saved_by_single_flight: Nanousd,
}

impl Sums {
    /// Sums of an answer of so many tokens. `served` is the price of the model that answered or
    /// would have, `asked` that of the model asked for, which is never cheaper.
    pub fn new(source: Source, served: &Price, asked: &Price, tokens: Tokens) -> Sums {
        let generated = served.cost(tokens.prompt, tokens.completion);
        let as_asked = asked.cost(tokens.prompt, tokens.completion);
        let (cost, saved_by_cache) = match source {
            Source::Refused => return Sums::default(),
            source if source.is_cache() => (Nanousd::ZERO, generated),
            _ => (generated, Nanousd::ZERO),
        };
        Sums {
            cost,
            as_asked,
            saved_by_cache,
            saved_by_route: as_asked.saturating_sub(generated),
            saved_by_single_flight: Nanousd::ZERO,
        }
    }

    /// The same sums of an answer that was had by waiting for an identical request.
    #[must_use]
    pub fn by_single_flight(self) -> Sums {
        Sums {
            saved_by_cache: Nanousd::ZERO,
            saved_by_single_flight: self.saved_by_cache,
            ..self
        }
    }

    pub fn saved(&self) -> Nanousd {
        self.saved_by_cache
            .saturating_add(self.saved_by_route)
            .saturating_add(self.saved_by_single_flight)
    }
}

/// Tokens that an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    pub prompt: u64,
    pub completion: u64,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub struct Line<'a> {
    pub request_id: &'a str,
    /// Opaque; absent without an identity.
    pub tenant: Option<String>,
    pub endpoint: &'a str,
    pub model_asked: Option<&'a str>,
    pub model: Option<&'a str>,
    pub tier: Option<&'a str>,
    /// Why this model.
    pub route: Option<&'a str>,
    pub complexity: Option<f64>,
    pub source: Source,
    pub status: u16,
    /// `error.code` of a refusal.
    pub error: Option<&'a str>,
    pub stream: bool,
    /// Did the stream end before its answer did?
    pub aborted: bool,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// Are the tokens an estimate, because no usage came back?
    pub estimated: bool,
    pub reserved_nanousd: u64,
    pub cost_nanousd: u64,
    pub as_asked_nanousd: u64,
    pub saved_nanousd: u64,
    pub saved_by: SavedBy,
    /// The group whose tenants share the cached answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sharing_group: Option<&'a str>,
    #[serde(skip_serializing_if = "Shadow::is_empty")]
    pub shadow: Shadow,
}

/// What policies that only record would have saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shadow {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_nanousd: Option<u64>,
}

impl Shadow {
    fn is_empty(&self) -> bool {
        *self == Shadow::default()
    }
}

/// How much each decision saved.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct SavedBy {
    pub cache_nanousd: u64,
    pub route_nanousd: u64,
    pub single_flight_nanousd: u64,
}

impl Line<'_> {
    /// A JSON object without a line break.
    pub fn to_json(&self) -> String {
        // Plain fields cannot fail to serialize; an empty line would only be a missing one.
        serde_json::to_string(self).unwrap_or_default()
    }
}
