//! Byte-level BPE: text to tokens and back, exactly as the vocabulary's own tokenizer does it.
//!
//! Encoding has three steps, each linear or nearly so in the text:
//!
//! 1. control and user-defined tokens are cut out ([`special`]);
//! 2. the text between them is cut into pieces ([`pre_tokenizer`]), which merges never cross;
//! 3. a piece that is a token is that token; else its bytes are merged pair by pair in order of
//!    rank ([`merge`]).
//!
//! Counting does the same and keeps no tokens. The vocabularies are those of tiktoken
//! (<https://github.com/openai/tiktoken>), where a token's rank is its id, and those of GPT-2
//! (<https://github.com/openai/gpt-2/blob/master/src/encoder.py>) as GGUF files carry them
//! (`tokenizer.ggml.tokens`, `.merges`, `.token_type`, `.pre`), which are brought into that form
//! ([`from_merges`]). No Unicode normalisation is applied, as in llama.cpp: decoding what was
//! encoded gives the same bytes.

mod byte_alphabet;
mod byte_pairs;
mod char_class;
mod error;
mod from_merges;
mod gguf;
mod long_tokens;
mod memo;
mod merge;
mod merge_long;
mod merge_short;
pub mod pre_tokenizer;
mod short_tokens;
pub mod special;
mod token_filter;
mod token_table;

pub use error::BpeError;
pub use pre_tokenizer::PreTokenizer;
pub use special::{Segment, SpecialKind, SpecialToken, Specials};

use from_merges::{Pair, Ranking};
use memo::Memo;
use merge::{Merge, MergeScratch};
use special::SpecialTable;
use std::borrow::Cow;
use std::ops::Range;
use token_table::{Key, NONE, TokenTable};

/// A byte-level BPE vocabulary, ready to encode and decode. Immutable and shareable.
#[derive(Debug)]
pub struct Bpe {
    table: TokenTable,
    /// Tokens that merges lead to: the first of the table.
    ranks: u32,
    ids: Ids,
    /// Which bytes have a token, and whether all have.
    covered: Box<[bool; 256]>,
    covers_all: bool,
    specials: SpecialTable,
    pre_tokenizer: PreTokenizer,
}

/// Between places in the table and ids.
#[derive(Debug)]
enum Ids {
    /// They are the same: tiktoken.
    Places,
    Listed {
        by_place: Vec<u32>,
        places: Vec<u32>,
    },
}

/// Tokens in order of rank, as a vocabulary file holds them.
#[derive(Debug)]
pub struct Table {
    /// What the ranges are of.
    pub data: Cow<'static, [u8]>,
    /// One length for each token.
    pub lengths: Range<usize>,
    /// The tokens' bytes, one after the other.
    pub bytes: Range<usize>,
    /// Tokens that merges lead to; those after them are whole pieces only.
    pub ranks: usize,
}

/// Memory of an encoder that is used again: keep one for each vocabulary and thread.
#[derive(Debug, Default)]
pub struct Scratch {
    merge: MergeScratch,
    memo: Memo,
    /// A piece without the bytes that have no token.
    piece: Vec<u8>,
}

impl Bpe {
    /// Builds a vocabulary from raw token bytes (index = id), merges in order of rank, and the
    /// tokens that are matched in the text before it is cut into pieces.
    ///
    /// # Errors
    /// [`BpeError`] when a limit is exceeded or a merge or special token is not of the vocabulary.
    pub fn new(
        tokens: &[Vec<u8>],
        merges: &[(u32, u32)],
        specials: Vec<SpecialToken>,
        pre_tokenizer: PreTokenizer,
    ) -> Result<Bpe, BpeError> {
        let is_text = |id: u32| !specials.iter().any(|special| special.id == id);
        Bpe::from_merges(tokens, is_text, merges, specials.clone(), pre_tokenizer)
    }

    /// Builds a tiktoken vocabulary: tokens in order of rank, which is their id. A piece that is a
    /// token is that token, and two neighbours merge where together they are one.
    ///
    /// # Errors
    /// [`BpeError`] when a limit is exceeded.
    pub fn from_ranks<'a>(
        tokens: impl Iterator<Item = &'a [u8]>,
        specials: Vec<SpecialToken>,
        pre_tokenizer: PreTokenizer,
    ) -> Result<Bpe, BpeError> {
        let tokens: Vec<&[u8]> = tokens.collect();
        let table = TokenTable::of_tokens(tokens.iter().copied(), tokens.len())?;
        let ranks = table.indexed();
        Bpe::assemble(table, ranks, Ids::Places, specials, pre_tokenizer)
    }

    /// Builds a vocabulary from a table. A token's id is its place in it.
    ///
    /// # Errors
    /// [`BpeError`] when the table does not hold what it says or a limit is exceeded.
    pub fn from_table(
        table: Table,
        specials: Vec<SpecialToken>,
        pre_tokenizer: PreTokenizer,
    ) -> Result<Bpe, BpeError> {
        let Table {
            data,
            lengths,
            bytes,
            ranks,
        } = table;
        let indexed = lengths.len();
        if ranks > indexed {
            return Err(BpeError::Empty);
        }
        let table = TokenTable::new(data, bytes, lengths, indexed)?;
        Bpe::assemble(table, ranks, Ids::Places, specials, pre_tokenizer)
    }

    /// The tokens that text may become, for [`Bpe::from_table`].
    pub fn to_table(&self) -> Table {
        let (lengths, bytes) = self.table.parts();
        Table {
            data: Cow::Owned([lengths, bytes].concat()),
            lengths: 0..lengths.len(),
            bytes: lengths.len()..lengths.len() + bytes.len(),
            ranks: self.ranks as usize,
        }
    }

    /// How its text is cut into pieces.
    pub fn pre_tokenizer(&self) -> PreTokenizer {
        self.pre_tokenizer
    }

    fn from_merges(
        tokens: &[Vec<u8>],
        is_text: impl Fn(u32) -> bool,
        merges: &[Pair],
        specials: Vec<SpecialToken>,
        pre_tokenizer: PreTokenizer,
    ) -> Result<Bpe, BpeError> {
        let by_id: Vec<&[u8]> = tokens.iter().map(Vec::as_slice).collect();
        let Ranking {
            merged,
            out_of_reach,
        } = from_merges::rank(&by_id, is_text, merges)?;
        let ranks = merged.len();
        let mut by_place = merged;
        if pre_tokenizer.takes_whole_pieces() {
            by_place.extend_from_slice(&out_of_reach);
        }
        let indexed = by_place.len();
        let mut places = vec![NONE; tokens.len()];
        let set = |places: &mut Vec<u32>, (place, id): (u32, u32)| {
            if let Some(slot) = places.get_mut(id as usize) {
                *slot = place;
            }
        };
        (0..)
            .zip(by_place.iter().copied())
            .for_each(|at| set(&mut places, at));
        let unplaced = (0..).zip(&places).filter(|(_, place)| **place == NONE);
        let rest: Vec<u32> = unplaced.map(|(id, _)| id).collect();
        let first = by_place.len() as u32;
        (first..)
            .zip(rest.iter().copied())
            .for_each(|at| set(&mut places, at));
        by_place.extend(rest);
        let bytes = |id: &u32| by_id.get(*id as usize).copied().unwrap_or_default();
        let table = TokenTable::of_tokens(by_place.iter().map(bytes), indexed)?;
        let ids = Ids::Listed { by_place, places };
        Bpe::assemble(table, ranks, ids, specials, pre_tokenizer)
    }

    fn assemble(
        table: TokenTable,
        ranks: usize,
        ids: Ids,
        specials: Vec<SpecialToken>,
        pre_tokenizer: PreTokenizer,
    ) -> Result<Bpe, BpeError> {
        if table.len() == 0 {
            return Err(BpeError::Empty);
        }
        let outside = |special: &&SpecialToken| {
            let known = match &ids {
                Ids::Places => true,
                Ids::Listed { places, .. } => (special.id as usize) < places.len(),
            };
            special.text.is_empty() || !known
        };
        if let Some(special) = specials.iter().find(outside) {
            return Err(BpeError::Special {
                text: special.text.clone(),
                id: special.id,
            });
        }
        let mut covered = Box::new([false; 256]);
        for (byte, covered) in (0..=u8::MAX).zip(covered.iter_mut()) {
            *covered = table.rank(&[byte], 0, 1) != NONE;
        }
        Ok(Bpe {
            table,
            ranks: ranks as u32,
            ids,
            covers_all: covered.iter().all(|covered| *covered),
            covered,
            specials: SpecialTable::new(specials),
            pre_tokenizer,
        })
    }

    /// The tokens of `text`. Never adds a token that the text does not spell (no BOS, no EOS).
    ///
    /// A byte that the vocabulary has no token for is left out, as in the reference tokenizers;
    /// vocabularies lack only bytes that do not occur in text (SmolLM2: eight control characters
    /// and the lead bytes of unassigned planes).
    pub fn encode(&self, text: &str, specials: Specials) -> Vec<u32> {
        let mut out = Vec::with_capacity(text.len() / 3 + 1);
        self.encode_into(text, specials, &mut out);
        out
    }

    /// Appends the tokens of `text` to `out`; see [`Bpe::encode`].
    pub fn encode_into(&self, text: &str, specials: Specials, out: &mut Vec<u32>) {
        let mut scratch = Scratch::default();
        for segment in self.segments(text, specials) {
            match segment {
                Segment::Text(text) => self.encode_ordinary(text.as_bytes(), &mut scratch, out),
                Segment::Special(token) => out.push(token.id),
            }
        }
    }

    /// How many tokens [`Bpe::encode`] gives.
    pub fn count(&self, text: &str, specials: Specials, scratch: &mut Scratch) -> usize {
        self.count_until(text, specials, usize::MAX, scratch)
            .unwrap_or(usize::MAX)
    }

    /// The same, unless there are more than `limit`: it stops soon after.
    pub fn count_until(
        &self,
        text: &str,
        specials: Specials,
        limit: usize,
        scratch: &mut Scratch,
    ) -> Option<usize> {
        let mut tokens = 0;
        for segment in self.segments(text, specials) {
            match segment {
                Segment::Text(text) => {
                    tokens += self.count_ordinary(text.as_bytes(), limit - tokens, scratch)?;
                }
                Segment::Special(_) => tokens += 1,
            }
            if tokens > limit {
                return None;
            }
        }
        Some(tokens)
    }

    /// Cuts `text` at its special tokens.
    pub fn segments<'a>(&'a self, text: &'a str, specials: Specials) -> special::Segments<'a> {
        self.specials.segments(text, specials)
    }

    /// Encodes text in which no special token is left.
    fn encode_ordinary(&self, text: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) {
        let mut at = 0;
        while at < text.len() {
            let end = self.pre_tokenizer.piece_end(text, at).max(at + 1);
            self.encode_piece(text, at, end, scratch, out);
            at = end;
        }
    }

    fn encode_piece(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        let place = self.table.rank(text, start, end);
        if place != NONE {
            out.push(self.id(place));
            return;
        }
        let (text, start, end) = self.coverable(text, start, end, &mut scratch.piece);
        let mut from = start;
        let ends = self
            .merge(text)
            .ends(start, end, usize::MAX, &mut scratch.merge);
        for &until in ends {
            out.push(self.id(self.table.rank(text, from, until)));
            from = until;
        }
    }

    fn count_ordinary(&self, text: &[u8], limit: usize, scratch: &mut Scratch) -> Option<usize> {
        let (mut at, mut tokens) = (0, 0);
        while at < text.len() {
            let end = self.pre_tokenizer.piece_end(text, at).max(at + 1);
            tokens += self.count_piece(text, at, end, limit - tokens, scratch);
            if tokens > limit {
                return None;
            }
            at = end;
        }
        Some(tokens)
    }

    fn count_piece(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        limit: usize,
        scratch: &mut Scratch,
    ) -> usize {
        let key = Key::new(text, start, end);
        if self.table.rank_of(key) != NONE {
            return 1;
        }
        if let Some(tokens) = scratch.memo.get(key) {
            return tokens;
        }
        let (text, start, end) = self.coverable(text, start, end, &mut scratch.piece);
        let tokens = self
            .merge(text)
            .ends(start, end, limit, &mut scratch.merge)
            .len();
        if tokens <= limit {
            scratch.memo.set(key, tokens);
        }
        tokens
    }

    /// The piece, or a copy of it without the bytes that have no token.
    fn coverable<'a>(
        &self,
        text: &'a [u8],
        start: usize,
        end: usize,
        copy: &'a mut Vec<u8>,
    ) -> (&'a [u8], usize, usize) {
        let piece = text.get(start..end).unwrap_or_default();
        if self.covers_all || piece.iter().all(|byte| self.covers_byte(*byte)) {
            return (text, start, end);
        }
        copy.clear();
        copy.extend(piece.iter().filter(|byte| self.covers_byte(**byte)));
        (copy.as_slice(), 0, copy.len())
    }

    fn merge<'a>(&'a self, text: &'a [u8]) -> Merge<'a> {
        Merge {
            table: &self.table,
            text,
            ranks: self.ranks,
        }
    }

    fn id(&self, place: u32) -> u32 {
        match &self.ids {
            Ids::Places => place,
            Ids::Listed { by_place, .. } => by_place.get(place as usize).copied().unwrap_or(NONE),
        }
    }

    /// The bytes that a token stands for: any bytes, not always whole UTF-8 characters. `None` for
    /// an id outside of the vocabulary.
    pub fn decode_bytes(&self, id: u32) -> Option<&[u8]> {
        match &self.ids {
            Ids::Places => self.table.token(id),
            Ids::Listed { places, .. } => self.table.token(*places.get(id as usize)?),
        }
    }

    /// The bytes of a sequence of tokens; ids outside of the vocabulary stand for nothing.
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        ids.iter()
            .filter_map(|id| self.decode_bytes(*id))
            .flatten()
            .copied()
            .collect()
    }

    /// Number of token ids, padding included: the width of the model's logits.
    pub fn vocab_size(&self) -> usize {
        self.table.len()
    }

    /// The control and user-defined tokens, longest text first.
    pub fn specials(&self) -> &[SpecialToken] {
        self.specials.tokens()
    }

    /// Whether the byte has a token, so that it survives encoding and decoding.
    pub fn covers_byte(&self, byte: u8) -> bool {
        self.covered
            .get(usize::from(byte))
            .is_some_and(|covered| *covered)
    }
}

#[cfg(test)]
mod tests;
