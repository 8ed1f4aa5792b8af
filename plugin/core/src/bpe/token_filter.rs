//! Says of most bytes that are no token that they are none, from a table that stays in a core's own
//! cache: of what merging looks up, more than half is no token, and the tables of tokens do not
//! stay there.
//!
//! A Bloom filter whose two bits for each token lie in one word (Putze, Sanders and Singler,
//! "Cache-, Hash- and Space-Efficient Bloom Filters", 2007).

/// Tokens that share a word of 64 bits: about one search in twenty-five finds its bits by chance.
const TOKENS_PER_WORD: usize = 8;
const WORDS_MIN: usize = 64;

#[derive(Debug)]
pub(super) struct TokenFilter(Vec<u64>);

impl TokenFilter {
    pub(super) fn with_capacity(tokens: usize) -> TokenFilter {
        let words = (tokens / TOKENS_PER_WORD).max(WORDS_MIN);
        TokenFilter(vec![0; words])
    }

    pub(super) fn insert(&mut self, hash: u64) {
        let place = self.place(hash);
        if let Some(word) = self.0.get_mut(place) {
            *word |= bits(hash);
        }
    }

    /// Is there perhaps a token of this hash? If not, there is none.
    #[inline]
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        let bits = bits(hash);
        let word = self.0.get(self.place(hash));
        word.is_some_and(|word| word & bits == bits)
    }

    #[inline]
    fn place(&self, hash: u64) -> usize {
        (((hash >> 32) * self.0.len() as u64) >> 32) as usize
    }
}

/// The lower bits of the hash choose, the upper ones have chosen the word.
#[inline]
fn bits(hash: u64) -> u64 {
    1 << (hash & 63) | 1 << (hash >> 6 & 63)
}
