//! Counting a prompt text by text, up to a limit of tokens and of bytes that are tokenized.

use super::framing::CONTROL_MARK;
use super::remembered::Remembered;
use crate::bpe::{Bpe, Scratch, Specials};
use crate::config::Secret;
use crate::limits::EXACT_COUNT_BYTES_MAX;

/// Memory of a counter that is used again.
#[derive(Debug)]
pub struct CountScratch {
    /// One for each vocabulary: the pieces that it keeps have other counts in another.
    bpe: Vec<Scratch>,
    /// Text that lies between two control tokens: the template's words and a message's together,
    /// because merges cross from one to the other.
    joined: String,
    remembered: Remembered,
    /// Which vocabulary counts, to tell its counts from those of others.
    vocabulary: usize,
    /// Bytes that may still be tokenized.
    bytes_left: usize,
}

impl Default for CountScratch {
    /// For one vocabulary; remembers no texts and counts everything.
    fn default() -> Self {
        CountScratch {
            bpe: vec![Scratch::default()],
            joined: String::new(),
            remembered: Remembered::default(),
            vocabulary: 0,
            bytes_left: usize::MAX,
        }
    }
}

impl CountScratch {
    /// One that remembers texts.
    pub fn remembering(secret: &Secret) -> CountScratch {
        CountScratch {
            remembered: Remembered::keyed(secret),
            ..CountScratch::default()
        }
    }

    /// From now on so many bytes are tokenized at most.
    pub fn allow(&mut self, bytes: usize) {
        self.bytes_left = bytes;
    }

    /// From now on the vocabulary of this number counts.
    pub(super) fn count_for(&mut self, vocabulary: usize) {
        self.vocabulary = vocabulary;
        while self.bpe.len() <= vocabulary {
            self.bpe.push(Scratch::default());
        }
    }
}

/// Why counting ended before the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// There are more tokens than the limit.
    Over,
    /// There are more bytes than may be tokenized.
    TooMuch,
}

/// The tokens so far.
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

    pub(super) fn add(&mut self, tokens: usize) -> Result<(), Stop> {
        self.tokens = self.tokens.saturating_add(tokens);
        if self.tokens <= self.limit {
            Ok(())
        } else {
            Err(Stop::Over)
        }
    }

    /// A text by itself, in which no control token is recognised.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Stop> {
        // What may not be tokenized whole was never counted.
        if text.len() > EXACT_COUNT_BYTES_MAX {
            return self.spelled(text, Specials::Plain);
        }
        let Some(name) = self.scratch.remembered.name(self.scratch.vocabulary, text) else {
            return self.spelled(text, Specials::Plain);
        };
        if let Some(tokens) = self.scratch.remembered.get(name) {
            return self.add(tokens);
        }
        let before = self.tokens;
        self.spelled(text, Specials::Plain)?;
        self.scratch.remembered.set(name, self.tokens - before);
        Ok(())
    }

    /// A text by itself.
    pub(super) fn spelled(&mut self, text: &str, specials: Specials) -> Result<(), Stop> {
        let bytes_left = self.scratch.bytes_left.checked_sub(text.len());
        self.scratch.bytes_left = bytes_left.ok_or(Stop::TooMuch)?;
        let left = self.limit.saturating_sub(self.tokens);
        let CountScratch {
            bpe, vocabulary, ..
        } = self.scratch;
        let scratch = bpe.get_mut(*vocabulary).ok_or(Stop::TooMuch)?;
        let tokens = self.bpe.count_until(text, specials, left, scratch);
        self.add(tokens.ok_or(Stop::Over)?)
    }

    /// A template's words, joined with what stands around them.
    pub(super) fn framed(&mut self, words: &str) -> Result<(), Stop> {
        for (index, words) in words.split(CONTROL_MARK).enumerate() {
            if index > 0 {
                self.flush()?;
                self.add(1)?;
            }
            self.joined(words);
        }
        Ok(())
    }

    /// Text that is joined with what stands around it.
    pub(super) fn joined(&mut self, text: &str) {
        self.scratch.joined.push_str(text);
    }

    /// Ends the joined text.
    pub(super) fn flush(&mut self) -> Result<(), Stop> {
        let joined = std::mem::take(&mut self.scratch.joined);
        let counted = self.text(&joined);
        self.scratch.joined = joined;
        self.scratch.joined.clear();
        counted
    }
}
