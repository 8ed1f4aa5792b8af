//! The ledger: one line for every request we judged, with what it cost, what it would have cost as
//! it was asked, and which decision saved the difference. No prompt, answer or credential is ever
//! part of it.

use serde::Serialize;

use crate::digits::Digits;
use crate::money::{Nanousd, NanousdDelta};
use crate::price::{Price, ServiceTier, Tokens};
use crate::wire::json::write_string;

/// What a line usually takes, and what `x-farthing-saved-by` does.
const LEDGER_LINE_BYTES: usize = 1_024;
const SAVED_BY_BYTES: usize = 128;

/// Where an answer came from, as in `x-farthing-source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Whose doing it is that an answer had not to be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// It was generated for this request, and is paid for.
    Paid,
    /// A cache had it.
    Cached,
    /// Another request in flight got it, and shared it.
    Shared,
}

/// All that the sums of an answered request follow from.
#[derive(Clone, Copy, Debug)]
pub struct Bill<'a> {
    pub generation: Generation,
    /// Of the model that answered, or would have.
    pub served: &'a Price,
    /// Of the model asked for.
    pub asked: &'a Price,
    pub service: ServiceTier,
    pub tokens: Tokens,
    /// What was spent besides the answer, on answers that were not good enough, say: the model that
    /// answered is dearer by this, and so is an answer that a cache behind us had.
    pub wasted: Nanousd,
    /// Prompt tokens that compaction took out before the answering model saw them.
    pub compacted_tokens: u64,
    /// Completion tokens that the model would certainly have generated without the cap on
    /// `max_tokens`. An answer that ends by itself before the cap was not shortened; of one that
    /// reaches it nobody knows how long it would have been, unless the request forbade it to end
    /// (see [`crate::wire::Request::min_tokens`]): what is not known is not claimed.
    pub capped_tokens: u64,
}

impl Bill<'_> {
    /// Takes one decision after the other away from the request as asked, in the order in which
    /// they were made. What each step changes is what that decision saved, so the parts sum to the
    /// whole whatever the prices are.
    pub fn sums(&self) -> Sums {
        let Tokens {
            prompt, completion, ..
        } = self.tokens;
        let uncapped = Tokens {
            prompt: prompt.saturating_add(self.compacted_tokens),
            completion: completion.saturating_add(self.capped_tokens),
            ..self.tokens
        };
        let uncompacted = Tokens {
            completion,
            ..uncapped
        };
        let as_asked = self.asked.cost(self.service, &uncapped);
        let capped = self.asked.cost(self.service, &uncompacted);
        let compacted = self.asked.cost(self.service, &self.tokens);
        let routed = self.served.cost(self.service, &self.tokens);
        let routed = routed.saturating_add(self.wasted).min(Nanousd::MAX);
        let cost = match self.generation {
            Generation::Paid => routed,
            Generation::Cached | Generation::Shared => self.wasted.min(Nanousd::MAX),
        };
        let avoided = |by: Generation| match self.generation == by {
            true => NanousdDelta::between(routed, cost),
            false => NanousdDelta::default(),
        };
        Sums {
            cost,
            as_asked,
            saved_by: SavedBy {
                cap_nanousd: NanousdDelta::between(as_asked, capped).0,
                compaction_nanousd: NanousdDelta::between(capped, compacted).0,
                route_nanousd: NanousdDelta::between(compacted, routed).0,
                cache_nanousd: avoided(Generation::Cached).0,
                single_flight_nanousd: avoided(Generation::Shared).0,
            },
        }
    }
}

/// What a request cost and would have cost. The parts of `saved_by` sum to `saved` exactly, and
/// `as_asked` is `cost` and `saved` together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub cost: Nanousd,
    /// The request as it was asked, from the model asked for, uncached by us.
    pub as_asked: Nanousd,
    pub saved_by: SavedBy,
}

impl Sums {
    /// Below zero where a split of the traffic sent a request to a dearer model than it asked for.
    pub fn saved(&self) -> NanousdDelta {
        NanousdDelta::between(self.as_asked, self.cost)
    }
}

/// How much each decision saved, in nano-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedBy {
    /// Of any level; `source` says which.
    pub cache_nanousd: i64,
    pub route_nanousd: i64,
    pub cap_nanousd: i64,
    pub compaction_nanousd: i64,
    pub single_flight_nanousd: i64,
}

impl SavedBy {
    /// Each part with the name that it has in headers and metrics.
    pub fn parts(&self) -> [(&'static str, NanousdDelta); 5] {
        [
            ("cache", self.cache_nanousd),
            ("route", self.route_nanousd),
            ("cap", self.cap_nanousd),
            ("compaction", self.compaction_nanousd),
            ("single_flight", self.single_flight_nanousd),
        ]
        .map(|(name, amount)| (name, NanousdDelta(amount)))
    }

    /// `cache=0.00012;route=0;cap=0;compaction=0;single_flight=0`, in dollars.
    pub fn to_header(&self) -> String {
        let mut header = String::with_capacity(SAVED_BY_BYTES);
        for (name, amount) in self.parts() {
            if !header.is_empty() {
                header.push(';');
            }
            header.push_str(name);
            header.push('=');
            amount.push_usd(&mut header);
            header.truncate(header.trim_end_matches('0').trim_end_matches('.').len());
        }
        header
    }
}

/// What policies in `shadow` would have done. Absent where they would have done nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shadow {
    /// What an answer from the cache would have saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_nanousd: Option<u64>,
    /// Prompt tokens that compaction would have taken out, estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compaction_tokens: Option<u64>,
    /// The model that the router would have chosen, and what that would have saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_nanousd: Option<i64>,
    /// The arm of a split that would have got the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_arm: Option<String>,
    /// Completion tokens beyond the cap, and what they cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap_nanousd: Option<i64>,
    /// The cap that these are beyond.
    #[serde(skip)]
    pub cap: Option<u32>,
    /// The `error.code` of the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_refuses: Option<&'static str>,
    /// The model to which a budget running low would have moved the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_model: Option<String>,
}

impl Shadow {
    /// The same, with what an answer of these tokens would have cost otherwise. `served` is the
    /// price of the model that answered, `routed` that of the one that routing would have chosen.
    #[must_use]
    pub fn with_costs(
        self,
        served: &Price,
        routed: Option<&Price>,
        service: ServiceTier,
        tokens: &Tokens,
        answers: u64,
    ) -> Shadow {
        let cost = served.cost(service, tokens);
        let saved = |other: Nanousd| NanousdDelta::between(cost, other).0;
        let capped = (self.cap)
            .map(|cap| u64::from(cap).saturating_mul(answers))
            .filter(|cap| tokens.completion > *cap)
            .map(|completion| Tokens {
                completion,
                ..*tokens
            });
        Shadow {
            route_nanousd: routed.map(|price| saved(price.cost(service, tokens))),
            cap_tokens: capped.map(|capped| tokens.completion.saturating_sub(capped.completion)),
            cap_nanousd: capped.map(|capped| saved(served.cost(service, &capped))),
            cap: None,
            ..self
        }
    }

    fn is_empty(&self) -> bool {
        *self == Shadow::default()
    }
}

/// One line.
#[derive(Clone, Debug)]
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
    /// Of the prompt's: read from the provider's cache, and written to it.
    pub cache_read_tokens: u64,
    pub cache_write_tokens: u64,
    pub completion_tokens: u64,
    pub service_tier: &'a str,
    /// Are the tokens an estimate, because no usage came back?
    pub estimated: bool,
    pub reserved_nanousd: u64,
    /// For a budget in tokens.
    pub reserved_tokens: u64,
    pub cost_nanousd: u64,
    pub as_asked_nanousd: u64,
    /// Below zero where a dearer model answered than the one asked for.
    pub saved_nanousd: i64,
    pub saved_by: SavedBy,
    /// Did the answer end where our cap on `max_tokens` did? The cap may then have saved more than
    /// `saved_by` claims.
    pub capped: bool,
    /// Is the model's price the configured default?
    pub price_default: bool,
    /// The group whose tenants share the cached answer.
    pub sharing_group: Option<&'a str>,
    /// The arm of a split that sent the request to this model.
    pub arm: Option<&'a str>,
    pub shadow: Shadow,
}

/// `,"name":`, for any field but the first.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

impl Line<'_> {
    /// A JSON object without a line break.
    pub fn to_json(&self) -> String {
        let mut json = Writer::begin("{\"request_id\":", self.request_id);
        json.optional(key!("tenant"), self.tenant.as_deref());
        json.text(key!("endpoint"), self.endpoint);
        json.optional(key!("model_asked"), self.model_asked);
        json.optional(key!("model"), self.model);
        json.optional(key!("tier"), self.tier);
        json.optional(key!("route"), self.route);
        json.value(key!("complexity"), &self.complexity);
        json.text(key!("source"), self.source.as_str());
        json.number(key!("status"), u64::from(self.status));
        json.optional(key!("error"), self.error);
        json.flag(key!("stream"), self.stream);
        json.flag(key!("aborted"), self.aborted);
        json.number(key!("prompt_tokens"), self.prompt_tokens);
        json.number(key!("cache_read_tokens"), self.cache_read_tokens);
        json.number(key!("cache_write_tokens"), self.cache_write_tokens);
        json.number(key!("completion_tokens"), self.completion_tokens);
        json.text(key!("service_tier"), self.service_tier);
        json.flag(key!("estimated"), self.estimated);
        self.write_sums(&mut json);
        json.flag(key!("capped"), self.capped);
        json.flag(key!("price_default"), self.price_default);
        if let Some(group) = self.sharing_group {
            json.text(key!("sharing_group"), group);
        }
        if let Some(arm) = self.arm {
            json.text(key!("arm"), arm);
        }
        if !self.shadow.is_empty() {
            json.value(key!("shadow"), &self.shadow);
        }
        json.finish()
    }

    fn write_sums(&self, json: &mut Writer) {
        json.number(key!("reserved_nanousd"), self.reserved_nanousd);
        json.number(key!("reserved_tokens"), self.reserved_tokens);
        json.number(key!("cost_nanousd"), self.cost_nanousd);
        json.number(key!("as_asked_nanousd"), self.as_asked_nanousd);
        json.signed(key!("saved_nanousd"), self.saved_nanousd);
        let saved_by = &self.saved_by;
        json.signed(
            concat!(key!("saved_by"), "{\"cache_nanousd\":"),
            saved_by.cache_nanousd,
        );
        json.signed(key!("route_nanousd"), saved_by.route_nanousd);
        json.signed(key!("cap_nanousd"), saved_by.cap_nanousd);
        json.signed(key!("compaction_nanousd"), saved_by.compaction_nanousd);
        json.signed(
            key!("single_flight_nanousd"),
            saved_by.single_flight_nanousd,
        );
        json.0.push(b'}');
    }
}

/// Writes a line field by field: every request has one, of some thirty fields.
struct Writer(Vec<u8>);

impl Writer {
    fn begin(key: &'static str, text: &str) -> Writer {
        let mut json = Writer(Vec::with_capacity(LEDGER_LINE_BYTES));
        json.text(key, text);
        json
    }

    fn text(&mut self, key: &'static str, text: &str) {
        self.0.extend_from_slice(key.as_bytes());
        write_string(text, &mut self.0);
    }

    fn optional(&mut self, key: &'static str, text: Option<&str>) {
        match text {
            Some(text) => self.text(key, text),
            None => self.word(key, "null"),
        }
    }

    fn number(&mut self, key: &'static str, number: u64) {
        self.word(key, Digits::of(number).as_str());
    }

    fn signed(&mut self, key: &'static str, number: i64) {
        self.0.extend_from_slice(key.as_bytes());
        if number < 0 {
            self.0.push(b'-');
        }
        let digits = Digits::of(number.unsigned_abs());
        self.0.extend_from_slice(digits.as_bytes());
    }

    fn flag(&mut self, key: &'static str, flag: bool) {
        self.word(key, if flag { "true" } else { "false" });
    }

    fn word(&mut self, key: &'static str, word: &str) {
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(word.as_bytes());
    }

    /// What needs a serializer.
    fn value(&mut self, key: &'static str, value: &impl Serialize) {
        self.0.extend_from_slice(key.as_bytes());
        // Plain fields cannot fail to serialize, nor memory to be written.
        let _ = serde_json::to_writer(&mut self.0, value);
    }

    fn finish(mut self) -> String {
        self.0.push(b'}');
        // All of it was text; an empty line would only be a missing one.
        String::from_utf8(self.0).unwrap_or_default()
    }
}
