//! Answers of `/v1/messages` that are fit for the cache.

use crate::limits::{CONTENT_PARTS_MAX, STREAM_COLLECT_BYTES_MAX};
use crate::wire::collect::Progress;
use crate::wire::json::Json;

/// Reasons that end a finished answer in text.
const FINISHED: [&str; 3] = ["end_turn", "max_tokens", "stop_sequence"];

/// Is it an answer in text that came to its end? Calls of tools, refusals and what the model
/// thought (which is signed) are not for the next client.
pub(in crate::wire) fn is_complete(message: &Json) -> bool {
    let field = |key: &str| message.get(key).and_then(Json::as_str);
    let finished = field("stop_reason").is_some_and(|reason| FINISHED.contains(&reason));
    let blocks = message.get("content").and_then(Json::as_array);
    let blocks = blocks.unwrap_or_default();
    let text = |block: &Json| {
        let of = |key: &str| block.get(key).and_then(Json::as_str);
        of("type") == Some("text") && of("text").is_some()
    };
    finished && field("role") == Some("assistant") && !blocks.is_empty() && blocks.iter().all(text)
}

/// Puts a message together from its events.
#[derive(Debug, Default)]
pub(in crate::wire) struct MessageCollector {
    /// As `message_start` had it, and as later events changed it.
    message: Vec<(String, Json)>,
    /// The blocks, with their texts apart.
    blocks: Vec<(Vec<(String, Json)>, String)>,
    bytes: usize,
}

impl MessageCollector {
    /// Merges one event; `None` if it cannot be merged without a guess.
    pub(in crate::wire) fn absorb(&mut self, data: &[u8]) -> Option<Progress> {
        self.bytes = self.bytes.saturating_add(data.len());
        // An event's frame is much larger than what it adds.
        if self.bytes > STREAM_COLLECT_BYTES_MAX.saturating_mul(4) {
            return None;
        }
        let event = Json::parse(data).ok()?;
        match event.get("type")?.as_str()? {
            "ping" | "content_block_stop" => {}
            "message_start" if self.message.is_empty() => {
                self.message = event.get("message")?.as_object()?.to_vec();
            }
            "content_block_start" => self.start_block(&event)?,
            "content_block_delta" => {
                let delta = event.get("delta")?;
                if delta.get("type")?.as_str()? != "text_delta" {
                    return None;
                }
                let index = usize::try_from(event.get("index")?.as_u64()?).ok()?;
                let (_, text) = self.blocks.get_mut(index)?;
                text.push_str(delta.get("text")?.as_str()?);
            }
            "message_delta" => {
                for (key, value) in event.get("delta")?.as_object()? {
                    set(&mut self.message, key, value);
                }
                self.merge_usage(event.get("usage"))?;
            }
            "message_stop" => return Some(Progress::Done),
            _ => return None,
        }
        Some(Progress::More)
    }

    /// Blocks come one after the other.
    fn start_block(&mut self, event: &Json) -> Option<()> {
        let block = event.get("content_block")?;
        let next = event.get("index")?.as_u64()? == self.blocks.len() as u64;
        let text = block.get("type")?.as_str()? == "text";
        if !next || !text || self.blocks.len() >= CONTENT_PARTS_MAX {
            return None;
        }
        let begun = block.get("text").and_then(Json::as_str).unwrap_or_default();
        self.blocks
            .push((block.as_object()?.to_vec(), begun.to_owned()));
        Some(())
    }

    /// Counts of later events are of the whole message so far, and replace earlier ones.
    fn merge_usage(&mut self, later: Option<&Json>) -> Option<()> {
        let Some(later) = later else {
            return Some(());
        };
        let mut usage = self.message.iter_mut().find(|(key, _)| key == "usage");
        let Some((_, Json::Object(counts))) = &mut usage else {
            return None;
        };
        for (key, value) in later.as_object()? {
            set(counts, key, value);
        }
        Some(())
    }

    /// The message, as it would have come whole.
    pub(in crate::wire) fn into_json(self) -> Option<Json> {
        let mut message = self.message;
        let blocks = self.blocks.into_iter().map(|(mut block, text)| {
            set(&mut block, "text", &Json::String(text));
            Json::Object(block)
        });
        let blocks = Json::Array(blocks.collect());
        set(&mut message, "content", &blocks);
        Some(Json::Object(message))
    }
}

fn set(entries: &mut Vec<(String, Json)>, key: &str, value: &Json) {
    match entries.iter_mut().find(|(name, _)| name == key) {
        Some((_, old)) => *old = value.clone(),
        None => entries.push((key.to_owned(), value.clone())),
    }
}
