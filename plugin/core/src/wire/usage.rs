//! Token counts that an answer reports about itself.

use super::json::Json;
use crate::limits::USAGE_BYTES_MAX;
use crate::price::{ServiceTier, Tokens};
use serde::{Serialize, Serializer};

/// What an answer reports of itself, as far as money depends on it: OpenAI's `usage` object, and
/// what other providers call the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, those read from a prefix cache or written to one included.
    pub prompt_tokens: u64,
    /// Tokens generated, over all choices, reasoning included.
    pub completion_tokens: u64,
    /// Tokens of the prompt that a prefix cache held: `prompt_tokens_details.cached_tokens`.
    pub cached_tokens: u64,
    /// Tokens of the prompt written to the provider's cache for its usual time.
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

    /// Reads a `usage` object. `None` unless it has the prompt's count; embeddings report no
    /// completion tokens, and cached ones never exceed the prompt.
    pub fn from_json(usage: &Json) -> Option<Self> {
        let count = |json: &Json, key: &str| json.get(key).and_then(Json::as_u64);
        let prompt_tokens = count(usage, "prompt_tokens")?;
        let completion_tokens = count(usage, "completion_tokens").unwrap_or(0);
        let details = usage.get("prompt_tokens_details");
        let detail = |key: &str| details.and_then(|details| count(details, key));
        let cached = detail("cached_tokens").unwrap_or(0);
        // OpenRouter's and LiteLLM's names; OpenAI has none.
        let written = detail("cache_write_tokens").or_else(|| detail("cache_creation_tokens"));
        Some(Self {
            prompt_tokens,
            completion_tokens,
            cached_tokens: cached.min(prompt_tokens),
            cache_write_tokens: written.unwrap_or(0),
            cache_write_1h_tokens: 0,
            service_tier: service_tier(usage),
        })
    }

    /// The usage in a whole answer, or in the data of one event of a stream. Events without the
    /// word are not parsed, as a stream has hundreds of them.
    pub fn find(data: &[u8]) -> Option<Self> {
        find_key(data)?;
        let answer = Json::parse(data).ok()?;
        let usage = Self::from_json(answer.get("usage")?)?;
        Some(Self {
            service_tier: usage.service_tier.or_else(|| service_tier(&answer)),
            ..usage
        })
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
        find_key(data)?;
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

fn find_key(data: &[u8]) -> Option<usize> {
    data.windows(KEY.len()).position(|window| window == KEY)
}

fn rfind_key(data: &[u8]) -> Option<usize> {
    data.windows(KEY.len()).rposition(|window| window == KEY)
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
