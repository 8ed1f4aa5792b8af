//! Counting a prompt piece by piece, up to a limit.

use super::framing::CONTROL_MARK;
use crate::bpe::{Bpe, Scratch, Specials};

/// Memory of a counter that is used again.
#[derive(Debug, Default)]
pub struct CountScratch {
    bpe: Scratch,
    /// Text that lies between two control tokens: the template's words and a message's together,
    /// because merges cross from one to the other.
    joined: String,
}

/// The tokens so far. Everything that adds to it gives `None` once there are more than the limit.
pub(super) struct Tally<'a> {
    bpe: &'a Bpe,
    scratch: &'a mut CountScratch,
    tokens: usize,
    limit: usize,
}

impl<'a> Tally<'a> {
    pub(super) fn new(bpe: &'a Bpe, scratch: &'a mut CountScratch, limit: usize) -> Tally<'a> {
        scratch.joined.clear();
        Tally {
            bpe,
            scratch,
            tokens: 0,
            limit,
        }
    }

    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    pub(super) fn add(&mut self, tokens: usize) -> Option<()> {
        self.tokens = self.tokens.saturating_add(tokens);
        (self.tokens <= self.limit).then_some(())
    }

    /// A text by itself, in which no control token is recognised.
    pub(super) fn text(&mut self, text: &str) -> Option<()> {
        self.spelled(text, Specials::Plain)
    }

    /// A text by itself.
    pub(super) fn spelled(&mut self, text: &str, specials: Specials) -> Option<()> {
        let left = self.limit.saturating_sub(self.tokens);
        let tokens = (self.bpe).count_until(text, specials, left, &mut self.scratch.bpe)?;
        self.add(tokens)
    }

    /// A template's words, joined with what stands around them.
    pub(super) fn framed(&mut self, words: &str) -> Option<()> {
        for (index, words) in words.split(CONTROL_MARK).enumerate() {
            if index > 0 {
                self.flush()?;
                self.add(1)?;
            }
            self.joined(words);
        }
        Some(())
    }

    /// Text that is joined with what stands around it.
    pub(super) fn joined(&mut self, text: &str) {
        self.scratch.joined.push_str(text);
    }

    /// Ends the joined text.
    pub(super) fn flush(&mut self) -> Option<()> {
        let joined = std::mem::take(&mut self.scratch.joined);
        let counted = self.text(&joined);
        self.scratch.joined = joined;
        self.scratch.joined.clear();
        counted
    }
}
