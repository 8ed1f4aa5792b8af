//! Token counts that an answer reports about itself.

use super::json::Json;
use crate::limits::USAGE_BYTES_MAX;
use crate::price::{ServiceTier, Tokens};
use memchr::memmem;
use serde::{Serialize, Serializer};

/// What an answer of any of the APIs reports of itself, as far as money depends on it. The names
/// are those of OpenAI's chat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, those read from a prefix cache or written to one included.
    pub prompt_tokens: u64,
    /// Tokens generated, over all choices, reasoning included.
    pub completion_tokens: u64,
    /// Tokens of the prompt that a prefix cache held: `prompt_tokens_details.cached_tokens`, of
    /// Anthropic `cache_read_input_tokens`.
    pub cached_tokens: u64,
    /// Tokens of the prompt written to the provider's cache for its usual time: Anthropic's
    /// `cache_creation_input_tokens`, less those for an hour.
    pub cache_write_tokens: u64,
    /// Tokens of the prompt written to the provider's cache for an hour.
    pub cache_write_1h_tokens: u64,
    /// The service tier that answered, where the answer names one.
    pub service_tier: Option<ServiceTier>,
}

#[derive(Serialize)]
struct WireUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptTokensDetails,
}

#[derive(Serialize)]
struct PromptTokensDetails {
    cached_tokens: u64,
}

impl Usage {
    /// Prompt and completion together.
    pub const fn total_tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }

    /// The same, by what each token costs.
    pub const fn tokens(&self) -> Tokens {
        Tokens {
            prompt: self.prompt_tokens,
            cache_read: self.cached_tokens,
            cache_write: self.cache_write_tokens,
            cache_write_1h: self.cache_write_1h_tokens,
            completion: self.completion_tokens,
        }
    }

    /// Reads a `usage` object, whose names tell the API. `None` unless it has the prompt's count;
    /// embeddings report no completion tokens, and cached ones never exceed the prompt.
    pub fn from_json(usage: &Json) -> Option<Self> {
        if let Some(prompt_tokens) = count(usage, "prompt_tokens") {
            let detail = |key| detail(usage, "prompt_tokens_details", key);
            let cached = detail("cached_tokens").unwrap_or(0);
            // OpenRouter's and LiteLLM's names; OpenAI has none.
            let written = detail("cache_write_tokens").or_else(|| detail("cache_creation_tokens"));
            return Some(Self {
                prompt_tokens,
                completion_tokens: count(usage, "completion_tokens").unwrap_or(0),
                cached_tokens: cached.min(prompt_tokens),
                cache_write_tokens: written.unwrap_or(0),
                cache_write_1h_tokens: 0,
                service_tier: service_tier(usage),
            });
        }
        let input_tokens = count(usage, "input_tokens")?;
        // Anthropic counts what its cache read and wrote beside `input_tokens`, `/v1/responses`
        // counts it within. A cache that was not used is null or absent.
        let read = count(usage, "cache_read_input_tokens").unwrap_or(0);
        let written = count(usage, "cache_creation_input_tokens").unwrap_or(0);
        let for_an_hour = detail(usage, "cache_creation", "ephemeral_1h_input_tokens")
            .unwrap_or(0)
            .min(written);
        let prompt_tokens = input_tokens.saturating_add(read).saturating_add(written);
        let within = detail(usage, "input_tokens_details", "cached_tokens").unwrap_or(0);
        let cached = within.max(read);
        Some(Self {
            prompt_tokens,
            completion_tokens: count(usage, "output_tokens").unwrap_or(0),
            cached_tokens: cached.min(prompt_tokens),
            cache_write_tokens: written.saturating_sub(for_an_hour),
            cache_write_1h_tokens: for_an_hour,
            service_tier: service_tier(usage),
        })
    }

    /// The usage in a whole answer.
    pub fn of_answer(answer: &Json) -> Option<Self> {
        let usage = Self::from_json(answer.get("usage")?)?;
        Some(Self {
            service_tier: usage.service_tier.or_else(|| service_tier(answer)),
            ..usage
        })
    }

    /// The usage so far, in the data of one event of a stream of any API: at its top, in
    /// the `response` that ends a stream of `/v1/responses`, or in the `message` that begins one of
    /// `/v1/messages`, whose later events only count the output. Events without a usage are not
    /// parsed, as a stream has hundreds of them, and OpenAI's say `"usage":null` once asked for it.
    pub fn find_in_event(data: &[u8], before: Option<Self>) -> Option<Self> {
        if !has_usage_object(data) {
            return None;
        }
        let event = Json::parse(data).ok()?;
        let nested = |key: &str| event.get(key).and_then(|answer| answer.get("usage"));
        let usage = [event.get("usage"), nested("response"), nested("message")]
            .into_iter()
            .flatten()
            .find(|usage| usage.as_object().is_some())?;
        let output_only = || {
            Some(Self {
                completion_tokens: count(usage, "output_tokens")?,
                ..before?
            })
        };
        Self::from_json(usage).or_else(output_only)
    }

    /// The usage in the last bytes of a whole answer whose beginning is gone. A quote inside a
    /// JSON string is escaped, so text that a model wrote cannot be taken for the key.
    pub fn find_in_tail(tail: &[u8]) -> Option<Self> {
        let mut tail = tail;
        while let Some(at) = rfind_key(tail) {
            let (before, after) = tail.split_at_checked(at)?;
            if let Some(usage) = object_after_key(after).and_then(|json| Self::from_json(&json)) {
                return Some(usage);
            }
            tail = before;
        }
        None
    }

    /// The usage in an event that holds nothing else: `choices` is empty. This is the event that
    /// `stream_options.include_usage` adds.
    pub(super) fn alone_in(data: &[u8]) -> Option<Self> {
        if !has_usage_object(data) {
            return None;
        }
        let json = Json::parse(data).ok()?;
        let alone = json.get("choices")?.as_array()?.is_empty();
        alone.then(|| Self::from_json(json.get("usage")?)).flatten()
    }
}

impl Serialize for Usage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WireUsage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            total_tokens: self.total_tokens(),
            prompt_tokens_details: PromptTokensDetails {
                cached_tokens: self.cached_tokens,
            },
        }
        .serialize(serializer)
    }
}

fn service_tier(json: &Json) -> Option<ServiceTier> {
    let word = json.get("service_tier")?.as_str()?;
    Some(ServiceTier::named(word))
}

const KEY: &[u8] = b"\"usage\"";

fn count(json: &Json, key: &str) -> Option<u64> {
    json.get(key).and_then(Json::as_u64)
}

fn detail(usage: &Json, of: &str, key: &str) -> Option<u64> {
    count(usage.get(of)?, key)
}

/// Is there a `usage` that is an object? A quote inside a JSON string is escaped, so what a model
/// wrote is never taken for the key.
pub(super) fn has_usage_object(data: &[u8]) -> bool {
    let mut rest = data;
    while let Some(at) = find_key(rest) {
        rest = rest.get(at.saturating_add(KEY.len())..).unwrap_or_default();
        let value = rest.trim_ascii_start().strip_prefix(b":");
        if value.is_some_and(|value| value.trim_ascii_start().first() == Some(&b'{')) {
            return true;
        }
    }
    false
}

fn find_key(data: &[u8]) -> Option<usize> {
    memmem::find(data, KEY)
}

fn rfind_key(data: &[u8]) -> Option<usize> {
    memmem::rfind(data, KEY)
}

/// The object that follows `"usage":`; it holds at most one more level (the details), so its end is
/// found by counting braces outside strings.
fn object_after_key(bytes: &[u8]) -> Option<Json> {
    let value = bytes
        .strip_prefix(KEY)?
        .trim_ascii_start()
        .strip_prefix(b":")?
        .trim_ascii_start();
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for (index, byte) in value.iter().enumerate().take(USAGE_BYTES_MAX) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' => depth += 1,
            b'}' if depth == 1 => return Json::parse(value.get(..=index)?).ok(),
            b'}' => depth = depth.checked_sub(1)?,
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}
