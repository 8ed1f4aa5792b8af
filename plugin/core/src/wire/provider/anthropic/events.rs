//! The events of a streamed message, as chunks. Events and deltas that we do not know are passed
//! over, as the API's versioning asks of its clients.

use super::answer;
use crate::limits::CONTENT_PARTS_MAX;
use crate::wire::json::Json;
use crate::wire::provider::chunks::ChunkWriter;
use crate::wire::provider::stream::Progress;
use crate::wire::provider::turns::field;
use crate::wire::provider::whole::{Report, ToolCall};
use crate::wire::response::AnswerHead;

/// The message so far.
#[derive(Debug)]
pub(in crate::wire::provider) struct AnthropicEvents {
    writer: ChunkWriter,
    started: bool,
    blocks: Vec<Block>,
    calls: usize,
    /// As the first event had it, with what later ones count anew.
    usage: Vec<(String, Json)>,
    finished: bool,
}

/// A block that has begun.
#[derive(Debug)]
enum Block {
    Text,
    Thinking,
    Call {
        nth: usize,
        /// What `content_block_start` had, which is all of it if no delta comes.
        input: String,
        has_delta: bool,
    },
    Other,
}

impl AnthropicEvents {
    pub(in crate::wire::provider) fn new(head: AnswerHead) -> Self {
        Self {
            writer: ChunkWriter::new(head),
            started: false,
            blocks: Vec::new(),
            calls: 0,
            usage: Vec::new(),
            finished: false,
        }
    }

    pub(in crate::wire::provider) fn writer(&self) -> &ChunkWriter {
        &self.writer
    }

    /// What the message took, so far.
    pub(in crate::wire::provider) fn report(&self) -> Option<Report> {
        answer::report(&Json::Object(self.usage.clone()))
    }

    /// Reads one event; `None` if it breaks the order of a message.
    pub(in crate::wire::provider) fn event(
        &mut self,
        event: &Json,
        out: &mut Vec<u8>,
    ) -> Option<Progress> {
        let kind = field(event, "type")?;
        match kind {
            "message_start" if !self.started => {
                self.started = true;
                self.count(event.get("message")?.get("usage"));
                self.writer.role(0, out);
            }
            "content_block_start" if self.started => self.start_block(event, out)?,
            "content_block_delta" if self.started => self.delta(event, out)?,
            "content_block_stop" if self.started => self.stop_block(event, out)?,
            "message_delta" if self.started => {
                self.count(event.get("usage"));
                let delta = event.get("delta");
                if let Some(reason) = delta.and_then(|delta| field(delta, "stop_reason"))
                    && !self.finished
                {
                    self.finished = true;
                    self.writer.finish(0, answer::finish(reason), out);
                }
            }
            "message_stop" if self.finished => return Some(Progress::Done),
            "message_start"
            | "content_block_start"
            | "content_block_delta"
            | "content_block_stop"
            | "message_delta"
            | "message_stop" => return None,
            _ => {}
        }
        Some(Progress::More)
    }

    /// Blocks come one after the other.
    fn start_block(&mut self, event: &Json, out: &mut Vec<u8>) -> Option<()> {
        let next = event.get("index")?.as_u64()? == self.blocks.len() as u64;
        if !next || self.blocks.len() >= CONTENT_PARTS_MAX {
            return None;
        }
        let begun = event.get("content_block")?;
        let block = match field(begun, "type")? {
            "text" => {
                self.text(field(begun, "text").unwrap_or_default(), out);
                Block::Text
            }
            "thinking" => Block::Thinking,
            "tool_use" => {
                let of = |key| field(begun, key).map(str::to_owned);
                let call = ToolCall::new(of("id")?, of("name")?, String::new());
                let nth = self.calls;
                self.calls = self.calls.saturating_add(1);
                self.writer.call(0, nth, call, out);
                let input = begun.get("input").map(Json::to_bytes);
                Block::Call {
                    nth,
                    input: String::from_utf8(input.unwrap_or_else(|| b"{}".to_vec())).ok()?,
                    has_delta: false,
                }
            }
            _ => Block::Other,
        };
        self.blocks.push(block);
        Some(())
    }

    fn delta(&mut self, event: &Json, out: &mut Vec<u8>) -> Option<()> {
        let index = usize::try_from(event.get("index")?.as_u64()?).ok()?;
        let delta = event.get("delta")?;
        let block = self.blocks.get_mut(index)?;
        match (field(delta, "type")?, block) {
            ("text_delta", Block::Text) => self.text(field(delta, "text")?, out),
            ("thinking_delta", Block::Thinking) => {
                self.writer.reasoning(0, field(delta, "thinking")?, out);
            }
            ("input_json_delta", Block::Call { nth, has_delta, .. }) => {
                let piece = field(delta, "partial_json")?;
                if !piece.is_empty() {
                    *has_delta = true;
                    self.writer.arguments(0, *nth, piece, out);
                }
            }
            _ => {}
        }
        Some(())
    }

    /// A call without arguments streams none, but its arguments are an object all the same.
    fn stop_block(&mut self, event: &Json, out: &mut Vec<u8>) -> Option<()> {
        let index = usize::try_from(event.get("index")?.as_u64()?).ok()?;
        if let Block::Call {
            nth,
            input,
            has_delta: false,
        } = self.blocks.get(index)?
        {
            self.writer.arguments(0, *nth, input, out);
        }
        Some(())
    }

    fn text(&self, text: &str, out: &mut Vec<u8>) {
        if !text.is_empty() {
            self.writer.text(0, text, out);
        }
    }

    /// Counts of later events are of the whole message so far, and replace earlier ones.
    fn count(&mut self, later: Option<&Json>) {
        let later = later.and_then(Json::as_object).unwrap_or_default();
        for (key, value) in later.iter().filter(|(_, value)| !value.is_null()) {
            match self.usage.iter_mut().find(|(known, _)| known == key) {
                Some((_, old)) => *old = value.clone(),
                None => self.usage.push((key.clone(), value.clone())),
            }
        }
    }
}
