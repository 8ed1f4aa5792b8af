//! How many tokens texts have that were counted before. A conversation comes again with every turn,
//! and of all its texts only the last is new: a hash of the others is cheaper than their tokens.
//!
//! A direct-mapped table by a keyed hash of which 128 bits are kept, so that no client can find a
//! text that is taken for another.

use crate::config::Secret;
use crate::keyed_hash::{KeyedHash, Purpose};
use crate::limits::{COUNTED_TEXT_BYTES_MIN, COUNTED_TEXTS};

/// The counts, and what keys them.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Without one nothing is remembered.
    secret: Option<Secret>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    name: Name,
    tokens: u32,
}

/// What a text is known by, for one vocabulary. All zeros are no text's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Name([u64; 2]);

impl Remembered {
    pub(super) fn keyed(secret: &Secret) -> Remembered {
        Remembered {
            secret: Some(secret.clone()),
            entries: Vec::new(),
        }
    }

    /// The name of a text that is worth remembering.
    pub(super) fn name(&self, vocabulary: usize, text: &str) -> Option<Name> {
        let secret = self.secret.as_ref()?;
        if text.len() < COUNTED_TEXT_BYTES_MIN {
            return None;
        }
        let mut hash = KeyedHash::new(secret.hash_keys(), Purpose::CountedText);
        // The longest part first; what follows it has one length.
        hash.raw(text.as_bytes());
        hash.raw(&(vocabulary as u64).to_le_bytes());
        let hash = hash.finish();
        let (words, _) = hash.as_chunks::<8>();
        match words {
            [first, second, ..] => {
                Some(Name([first, second].map(|word| u64::from_le_bytes(*word))))
            }
            _ => None,
        }
    }

    pub(super) fn get(&self, name: Name) -> Option<usize> {
        let entry = self.entries.get(place(name))?;
        (entry.name == name).then_some(entry.tokens as usize)
    }

    /// Remembers a count in the place of another.
    pub(super) fn set(&mut self, name: Name, tokens: usize) {
        let Ok(tokens) = u32::try_from(tokens) else {
            return;
        };
        if self.entries.is_empty() {
            self.entries = vec![Entry::default(); COUNTED_TEXTS];
        }
        if let Some(entry) = self.entries.get_mut(place(name)) {
            *entry = Entry { name, tokens };
        }
    }
}

fn place(Name([first, _]): Name) -> usize {
    first as usize % COUNTED_TEXTS
}
