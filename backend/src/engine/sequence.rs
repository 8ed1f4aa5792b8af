//! One choice of one request, as the scheduler sees it: tokens, how many of them are in the KV
//! cache, and in which blocks.

use farthing_core::limits::{CHOICES_MAX, ENGINE_DRAFT_TOKENS_MAX, KV_BLOCK_TOKENS};
use farthing_core::price::ServiceTier;

use super::block_pool::{BlockHash, BlockId, BlockPool, BlockTokens};
use super::scheduler::Chunk;

/// A sequence's name and its place in the order of service: a smaller id is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId {
    due_ms: u64,
    /// Request and choice.
    number: u64,
}

/// Tokens and their place in the KV cache.
pub struct Sequence {
    id: SequenceId,
    tier: ServiceTier,
    /// The prompt, then what was generated, then the drafts.
    tokens: Vec<u32>,
    /// Tokens at the end of `tokens` that are proposed for the next step and may turn out wrong.
    drafts: usize,
    prompt_len: usize,
    /// Tokens of prompt and answer together at most.
    tokens_max: usize,
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
    /// The id of a choice of a request that is due at `due_ms`; requests are numbered by arrival.
    pub fn new(due_ms: u64, request: u64, choice: usize) -> SequenceId {
        SequenceId {
            due_ms,
            number: request * u64::from(CHOICES_MAX) + choice as u64,
        }
    }

    /// The number of the request.
    pub fn request(self) -> u64 {
        self.number / u64::from(CHOICES_MAX)
    }

    /// The choice within the request.
    pub fn choice(self) -> usize {
        (self.number % u64::from(CHOICES_MAX)) as usize
    }
}

// === impl Sequence ===

impl Sequence {
    /// A sequence that has computed nothing and will generate `generate_max` tokens at most. `root`
    /// decides with whom it shares blocks.
    pub fn new(
        id: SequenceId,
        tier: ServiceTier,
        prompt: Vec<u32>,
        root: BlockHash,
        generate_max: usize,
    ) -> Sequence {
        Sequence {
            id,
            tier,
            drafts: 0,
            prompt_len: prompt.len(),
            tokens_max: prompt.len() + generate_max,
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

    pub fn tier(&self) -> ServiceTier {
        self.tier
    }

    pub fn prompt_len(&self) -> usize {
        self.prompt_len
    }

    /// Tokens of the answer at most.
    pub fn generate_max(&self) -> usize {
        self.tokens_max - self.prompt_len
    }

    /// Tokens of prompt and answer together at most.
    pub fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    /// The prompt and what was generated, without drafts.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - self.drafts]
    }

    /// The tokens proposed for the next step, or being verified in this one.
    pub fn drafts(&self) -> &[u32] {
        &self.tokens[self.tokens.len() - self.drafts..]
    }

    /// The tokens of a chunk of this sequence, its drafts included.
    pub fn chunk_tokens(&self, chunk: &Chunk) -> &[u32] {
        &self.tokens[chunk.start..chunk.start + chunk.len]
    }

    /// Tokens that are in the KV cache.
    pub fn computed(&self) -> usize {
        self.computed
    }

    /// Tokens still to be computed; one of them at least, or nothing could be sampled. Drafts do
    /// not count.
    pub fn pending(&self) -> usize {
        self.tokens.len() - self.drafts - self.computed
    }

    /// Whether it has a single token to compute, as after each that is sampled.
    pub fn decodes(&self) -> bool {
        self.pending() == 1
    }

    pub fn table(&self) -> &[BlockId] {
        &self.table
    }

    /// Tokens that the prefix cache held when the sequence was first admitted.
    pub fn cached(&self) -> usize {
        self.cached.unwrap_or(0)
    }

    /// Adds a generated token. Drafts that are still there were made for another context.
    pub(super) fn append(&mut self, token: u32) {
        self.keep_drafts(0);
        self.tokens.push(token);
    }

    /// Replaces the drafts, as far as there is something to gain: only a sequence that decodes has
    /// a next token to be guessed, and its last token is sampled anyway.
    pub(super) fn propose(&mut self, drafts: &[u32]) {
        self.keep_drafts(0);
        if self.decodes() {
            let room = self.tokens_max.saturating_sub(self.tokens.len() + 1);
            let drafts = &drafts[..drafts.len().min(room).min(ENGINE_DRAFT_TOKENS_MAX)];
            self.tokens.extend_from_slice(drafts);
            self.drafts = drafts.len();
        }
    }

    /// Forgets all drafts but the first `count`.
    pub(super) fn keep_drafts(&mut self, count: usize) {
        let forgotten = self.drafts.saturating_sub(count);
        self.tokens.truncate(self.tokens.len() - forgotten);
        self.drafts -= forgotten;
    }

    /// Takes the longest run of blocks that the cache holds for this sequence. The last token is
    /// never taken from the cache: its logits are wanted.
    pub(super) fn take_hits(&mut self, pool: &mut BlockPool) {
        let blocks = (self.tokens().len() - 1) / KV_BLOCK_TOKENS;
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

    /// Tokens for which the blocks that it has suffice.
    pub(super) fn room(&self) -> usize {
        self.table.len() * KV_BLOCK_TOKENS - self.computed
    }

    pub(super) fn push_block(&mut self, id: BlockId) {
        self.table.push(id);
    }

    /// The next `tokens` tokens are now in the cache, and `accepted` drafts after them were right,
    /// so that they belong to the answer. The others are forgotten and what the cache holds for
    /// them is written over later. Blocks that became full are published.
    pub(super) fn advance(&mut self, tokens: usize, accepted: usize, pool: &mut BlockPool) {
        self.keep_drafts(accepted);
        self.computed += tokens + self.drafts;
        self.drafts = 0;
        while self.published < self.computed / KV_BLOCK_TOKENS {
            let index = self.published;
            let hash = self.hash(index);
            let tokens = block_tokens(&self.tokens, index);
            self.table[index] = pool.publish(self.table[index], hash, self.hashes[index], tokens);
            self.published += 1;
        }
    }

    /// Gives all blocks back; what was computed must be computed again, or hit again.
    pub(super) fn release(&mut self, pool: &mut BlockPool) {
        self.keep_drafts(0);
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
