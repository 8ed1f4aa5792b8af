//! The answer of an upstream as it comes in.

use super::{BodyNeed, EndOfStream, Flow, Headers};
use crate::config::{Config, ModelIndex};
use crate::ledger::Source;
use crate::limits::{RESPONSE_HOLD_BYTES_MAX, RESPONSE_TAIL_BYTES};
use crate::money::Nanousd;
use crate::wire::{PassingStream, Usage};

/// Bytes of an answer that count as one token when we cannot look inside.
const BYTES_PER_TOKEN: u64 = 4;

/// How far the answer is.
#[derive(Debug)]
pub(super) enum Answer {
    /// No headers yet.
    Awaited,
    /// JSON, held back until it is whole, so that its cost can go into its headers.
    Held { head: Head, held_bytes: usize },
    /// Something that passes unread but for its end.
    Unread { head: Head, tail: Tail },
    /// Server-sent events, passing as they come.
    Stream {
        head: Head,
        stream: Box<PassingStream>,
    },
    /// Settled: nothing of it concerns us any more.
    Settled,
}

/// What the headers of the answer said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub status: u16,
    pub source: Source,
    /// The model that answered, where that is another than the one that was asked: one of a
    /// backend's cascade, or in a provider's place.
    pub answered: Option<ModelIndex>,
    /// What the backend spent besides this answer: on answers that were not good enough, on
    /// comparing, and on samples since its last answer to the tenant.
    pub wasted: Nanousd,
}

impl Head {
    /// Reads the headers of an answer. Only an upstream that says where the answer comes from, as
    /// our backend does, is heard on who made it and what else it cost.
    pub(super) fn read(
        status: u16,
        headers: &Headers<'_>,
        asked: ModelIndex,
        config: &Config,
    ) -> Head {
        let said = headers.text("x-farthing-source");
        let source = Source::from_upstream(said);
        let is_ours = said == Some(source.as_str());
        let text = |name| headers.text(name).filter(|_| is_ours);
        let wasted = text("x-farthing-wasted-usd");
        Head {
            status,
            source,
            answered: text("x-farthing-model").and_then(|name| answered(name, asked, config)),
            wasted: wasted
                .and_then(|usd| Nanousd::parse_usd(usd).ok())
                .map_or(Nanousd::ZERO, |wasted| wasted.min(Nanousd::MAX)),
        }
    }
}

/// The model that an upstream calls by this name, if it is another than the one that was asked.
fn answered(name: &str, asked: ModelIndex, config: &Config) -> Option<ModelIndex> {
    let model = config.model(asked)?;
    if name == model.upstream_model {
        return None;
    }
    config.find_upstream(&model.cluster, name)
}

impl Answer {
    pub(super) fn body_need(&mut self, held_bytes: usize, end: EndOfStream) -> BodyNeed {
        match self {
            Answer::Held {
                held_bytes: known, ..
            } => {
                *known = held_bytes;
                match end {
                    EndOfStream::No if held_bytes <= RESPONSE_HOLD_BYTES_MAX => {
                        BodyNeed::Nothing(Flow::Pause)
                    }
                    _ => BodyNeed::Bytes,
                }
            }
            Answer::Unread { .. } | Answer::Stream { .. } => BodyNeed::Bytes,
            Answer::Awaited | Answer::Settled => BodyNeed::Nothing(Flow::Continue),
        }
    }

    /// What is known of an answer that is cut off here: its head, the usage if it came, and an
    /// estimate of the tokens generated.
    pub(super) fn so_far(&self) -> Option<(Head, Option<Usage>, u64)> {
        match self {
            Answer::Awaited | Answer::Settled => None,
            Answer::Held { head, held_bytes } => {
                Some((*head, None, *held_bytes as u64 / BYTES_PER_TOKEN))
            }
            Answer::Unread { head, tail } => Some((*head, tail.usage(), tail.generated_tokens())),
            Answer::Stream { head, stream } => {
                let meter = stream.meter();
                Some((*head, meter.usage(), meter.generated_tokens()))
            }
        }
    }
}

/// The last bytes of an answer, and how many there were.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    total: u64,
}

impl Tail {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.total = self.total.saturating_add(chunk.len() as u64);
        let skipped = chunk.len().saturating_sub(RESPONSE_TAIL_BYTES);
        let chunk = chunk.get(skipped..).unwrap_or(chunk);
        let overflow = (self.bytes.len().saturating_add(chunk.len()))
            .saturating_sub(RESPONSE_TAIL_BYTES)
            .min(self.bytes.len());
        self.bytes.drain(..overflow);
        self.bytes.extend_from_slice(chunk);
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        Usage::find_in_tail(&self.bytes)
    }

    pub(super) fn generated_tokens(&self) -> u64 {
        self.total / BYTES_PER_TOKEN
    }
}
