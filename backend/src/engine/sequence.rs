//! One choice of one request, as the scheduler sees it: tokens, how many of them are in the KV
//! cache, and in which blocks.

use farthing_core::limits::{CHOICES_MAX, KV_BLOCK_TOKENS};

use super::block_pool::{BlockHash, BlockId, BlockPool, BlockTokens};

/// Arrival order: a smaller id came first and is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(u64);

/// Tokens and their place in the KV cache.
pub struct Sequence {
    id: SequenceId,
    /// The prompt, then what was generated.
    tokens: Vec<u32>,
    /// Tokens whose keys and values are in the cache: a prefix of `tokens`.
    computed: usize,
    /// Blocks that hold them; the last one may be partly filled.
    table: Vec<BlockId>,
    /// The root, then the hashes of the full blocks of `tokens`, made when first needed.
    hashes: Vec<BlockHash>,
    /// Blocks of `table` that were hits or have been published.
    published: usize,
    /// Tokens that were hits when the sequence was first admitted.
    cached: Option<usize>,
}

// === impl SequenceId ===

impl SequenceId {
    /// The id of a request's choice; requests are numbered by arrival.
    pub fn new(request: u64, choice: usize) -> SequenceId {
        SequenceId(request * u64::from(CHOICES_MAX) + choice as u64)
    }

    /// The number of the request.
    pub fn request(self) -> u64 {
        self.0 / u64::from(CHOICES_MAX)
    }

    /// The choice within the request.
    pub fn choice(self) -> usize {
        (self.0 % u64::from(CHOICES_MAX)) as usize
    }
}

// === impl Sequence ===

impl Sequence {
    /// A sequence that has computed nothing. `root` decides with whom it shares blocks.
    pub fn new(id: SequenceId, prompt: Vec<u32>, root: BlockHash) -> Sequence {
        Sequence {
            id,
            tokens: prompt,
            computed: 0,
            table: Vec::new(),
            hashes: vec![root],
            published: 0,
            cached: None,
        }
    }

    pub fn id(&self) -> SequenceId {
        self.id
    }

    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens that are in the KV cache.
    pub fn computed(&self) -> usize {
        self.computed
    }

    /// Tokens still to be computed; one of them at least, or nothing could be sampled.
    pub fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    pub fn table(&self) -> &[BlockId] {
        &self.table
    }

    /// Tokens that the prefix cache held when the sequence was first admitted.
    pub fn cached(&self) -> usize {
        self.cached.unwrap_or(0)
    }

    /// Adds a generated token.
    pub(super) fn append(&mut self, token: u32) {
        self.tokens.push(token);
    }

    /// Takes the longest run of blocks that the cache holds for this sequence. The last token is
    /// never taken from the cache: its logits are wanted.
    pub(super) fn take_hits(&mut self, pool: &mut BlockPool) {
        let blocks = (self.tokens.len() - 1) / KV_BLOCK_TOKENS;
        for index in 0..blocks {
            let hash = self.hash(index);
            match pool.hit(
                &hash,
                &self.hashes[index],
                block_tokens(&self.tokens, index),
            ) {
                Some(id) => self.table.push(id),
                None => break,
            }
        }
        self.published = self.table.len();
        self.computed = self.table.len() * KV_BLOCK_TOKENS;
    }

    /// Records what the hits of the first admission saved.
    pub(super) fn admitted(&mut self) {
        self.cached.get_or_insert(self.computed);
    }

    /// Blocks that are missing to compute `tokens` more tokens.
    pub(super) fn blocks_missing(&self, tokens: usize) -> usize {
        (self.computed + tokens)
            .div_ceil(KV_BLOCK_TOKENS)
            .saturating_sub(self.table.len())
    }

    pub(super) fn push_block(&mut self, id: BlockId) {
        self.table.push(id);
    }

    /// The next `tokens` tokens are now in the cache; blocks that became full are published.
    pub(super) fn advance(&mut self, tokens: usize, pool: &mut BlockPool) {
        self.computed += tokens;
        while self.published < self.computed / KV_BLOCK_TOKENS {
            let index = self.published;
            let hash = self.hash(index);
            let tokens = *block_tokens(&self.tokens, index);
            pool.publish(self.table[index], hash, self.hashes[index], tokens);
            self.published += 1;
        }
    }

    /// Gives all blocks back; what was computed must be computed again, or hit again.
    pub(super) fn release(&mut self, pool: &mut BlockPool) {
        pool.release(&self.table);
        self.table.clear();
        self.computed = 0;
        self.published = 0;
    }

    /// The hash of the full block `index`. `hashes` starts with the root, so it lies one further.
    fn hash(&mut self, index: usize) -> BlockHash {
        while self.hashes.len() <= index + 1 {
            let last = self.hashes.len() - 1;
            let next = self.hashes[last].child(block_tokens(&self.tokens, last));
            self.hashes.push(next);
        }
        self.hashes[index + 1]
    }
}

/// The tokens of the full block `index`.
fn block_tokens(tokens: &[u32], index: usize) -> &BlockTokens {
    let (blocks, _) = tokens.as_chunks::<KV_BLOCK_TOKENS>();
    &blocks[index]
}
