//! A stream on its way to the client: what is read of it, and what is taken out.

use super::alike::{Likeness, said};
use super::collect::StreamCollector;
use super::completed::Completed;
use super::endpoint::Endpoint;
use super::json::scan::is_same;
use super::meter::StreamMeter;
use super::strip::UsageStripper;

/// Watches a stream pass by. Events that are like those before them are not read again.
#[derive(Debug)]
pub struct PassingStream {
    meter: StreamMeter,
    /// Takes out the usage event that only we asked for.
    stripper: Option<UsageStripper>,
    /// Rebuilds the answer for the cache.
    collector: Option<StreamCollector>,
    likeness: Likeness,
}

/// Is there more of the stream?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    Follows,
    Ended,
}

impl PassingStream {
    pub fn new(
        endpoint: Endpoint,
        stripper: Option<UsageStripper>,
        collector: Option<StreamCollector>,
    ) -> PassingStream {
        PassingStream {
            meter: StreamMeter::new(endpoint),
            stripper,
            collector,
            likeness: Likeness::new(endpoint),
        }
    }

    /// What it has shown so far.
    pub fn meter(&self) -> &StreamMeter {
        &self.meter
    }

    /// The answer that it adds up to, once it has ended and if it was to be collected.
    pub fn take_completed(&mut self) -> Option<Completed> {
        self.collector.take().and_then(StreamCollector::finish)
    }

    /// Takes the next bytes; returns what the client gets in their place, if that differs.
    pub fn push(&mut self, chunk: &[u8], more: More) -> Option<Vec<u8>> {
        let rest = self.skim(chunk);
        if rest.is_empty() && more == More::Follows {
            return None;
        }
        let is_between_events = self.is_between_events();
        self.meter.push(rest);
        if let Some(collector) = &mut self.collector {
            collector.push(rest);
        }
        let passed = self.strip(chunk, rest, more);
        if is_between_events {
            self.likeness.learn(rest);
        }
        passed
    }

    /// Takes the events at the beginning of a chunk that are like those before; returns the rest.
    fn skim<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        let mut rest = chunk;
        if !self.is_between_events() {
            return rest;
        }
        while let Some((alike, text, after)) = self.likeness.split(rest) {
            if let Some(collector) = &mut self.collector {
                let collected = said(text).is_some_and(|text| collector.push_alike(alike, &text));
                if !collected {
                    break;
                }
            }
            self.meter.push_alike(text);
            rest = after;
        }
        rest
    }

    /// Passes on the part of a chunk before `rest`, and of `rest` all but the usage event.
    fn strip(&mut self, chunk: &[u8], rest: &[u8], more: More) -> Option<Vec<u8>> {
        let stripper = self.stripper.as_mut()?;
        let mut passed = Vec::with_capacity(chunk.len());
        let skimmed = chunk.len().saturating_sub(rest.len());
        passed.extend_from_slice(chunk.get(..skimmed).unwrap_or_default());
        stripper.push(rest, &mut passed);
        if more == More::Ended {
            stripper.finish(&mut passed);
        }
        (!is_same(&passed, chunk)).then_some(passed)
    }

    fn is_between_events(&self) -> bool {
        let stripped = self.stripper.as_ref();
        self.meter.is_between_events() && stripped.is_none_or(UsageStripper::is_between_events)
    }
}
