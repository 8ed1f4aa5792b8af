//! How many tokens a piece has, for pieces that were merged before: identifiers and rare words come
//! again within a text and between texts.
//!
//! A direct-mapped table with the whole piece in each entry, so that an answer is never of another
//! piece.

use super::token_table::Key;
use crate::limits::BPE_MEMO_ENTRIES;

/// Longer pieces are not kept.
const PIECE_BYTES_MAX: usize = 30;

#[derive(Debug, Clone, Copy)]
struct Entry {
    piece: [u8; PIECE_BYTES_MAX],
    bytes: u8,
    tokens: u8,
}

const EMPTY: Entry = Entry {
    piece: [0; PIECE_BYTES_MAX],
    bytes: 0,
    tokens: 0,
};

/// The pieces that were merged last: 32 KiB.
#[derive(Debug, Default)]
pub(super) struct Memo(Vec<Entry>);

impl Memo {
    fn place(key: Key<'_>) -> usize {
        key.hash as usize % BPE_MEMO_ENTRIES
    }

    /// The tokens of a piece, if it is remembered.
    pub(super) fn get(&self, key: Key<'_>) -> Option<usize> {
        let entry = self.0.get(Memo::place(key))?;
        let piece = entry.piece.get(..usize::from(entry.bytes))?;
        (piece == key.bytes()).then_some(usize::from(entry.tokens))
    }

    /// Remembers a piece in the place of another.
    pub(super) fn set(&mut self, key: Key<'_>, tokens: usize) {
        let piece = key.bytes();
        let (Ok(bytes), Ok(tokens)) = (u8::try_from(piece.len()), u8::try_from(tokens)) else {
            return;
        };
        let mut entry = Entry {
            bytes,
            tokens,
            ..EMPTY
        };
        let Some(kept) = entry.piece.get_mut(..piece.len()) else {
            return;
        };
        kept.copy_from_slice(piece);
        if self.0.is_empty() {
            self.0 = vec![EMPTY; BPE_MEMO_ENTRIES];
        }
        if let Some(slot) = self.0.get_mut(Memo::place(key)) {
            *slot = entry;
        }
    }
}
