//! The KV cache's blocks: who uses them, what they hold, and which free one is reused next.
//!
//! A block that is full keeps its content after its last user leaves, under a hash that chains
//! through all earlier blocks of its sequence back to a root made of model and tenant salt. Free
//! blocks form a list in order of release; a new block comes from the front, so the content that
//! was used least recently is lost first. The design is vLLM's (docs/design/prefix_caching.md).

use std::collections::HashMap;

use farthing_core::limits::KV_BLOCK_TOKENS;
use sha2::{Digest, Sha256};

/// Index of a block in the KV cache.
pub type BlockId = u32;

/// The tokens of one full block.
pub type BlockTokens = [u32; KV_BLOCK_TOKENS];

/// The first 128 bits of SHA-256 over a block's tokens and everything before them. A cryptographic
/// hash, because tokens are chosen by clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockHash([u8; 16]);

/// All blocks of one model's KV cache.
pub struct BlockPool {
    blocks: Vec<Block>,
    by_hash: HashMap<BlockHash, BlockId>,
    /// Ends of the free list; `NONE` when it is empty.
    first_free: BlockId,
    last_free: BlockId,
    free: usize,
}

struct Block {
    /// Block tables that hold this block. Zero means that it is in the free list.
    users: u32,
    content: Option<Content>,
    previous: BlockId,
    next: BlockId,
}

/// What a full block holds.
struct Content {
    hash: BlockHash,
    parent: BlockHash,
    tokens: BlockTokens,
}

const NONE: BlockId = BlockId::MAX;

// === impl BlockHash ===

impl BlockHash {
    /// The parent of a sequence's first block: sequences share blocks only under equal roots.
    pub fn root(model: &str, salt: &[u8; 32]) -> BlockHash {
        let mut hasher = Sha256::new();
        hasher.update(b"farthing kv root 1");
        hasher.update(salt);
        hasher.update(model.as_bytes());
        BlockHash::first_half(hasher)
    }

    /// The hash of the block with these tokens that follows the block `self`.
    pub fn child(&self, tokens: &BlockTokens) -> BlockHash {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        for token in tokens {
            hasher.update(token.to_le_bytes());
        }
        BlockHash::first_half(hasher)
    }

    fn first_half(hasher: Sha256) -> BlockHash {
        let digest = hasher.finalize();
        let half = std::array::from_fn(|index| digest[index]);
        BlockHash(half)
    }
}

// === impl BlockPool ===

impl BlockPool {
    /// A pool of `blocks` free, empty blocks.
    pub fn new(blocks: usize) -> BlockPool {
        let mut pool = BlockPool {
            blocks: Vec::with_capacity(blocks),
            by_hash: HashMap::new(),
            first_free: NONE,
            last_free: NONE,
            free: 0,
        };
        for id in 0..blocks as BlockId {
            pool.blocks.push(Block {
                users: 0,
                content: None,
                previous: NONE,
                next: NONE,
            });
            pool.push_back(id);
        }
        pool
    }

    /// Blocks in all.
    pub fn total(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that no sequence uses. Some hold content that may still be hit.
    pub fn free(&self) -> usize {
        self.free
    }

    /// Takes the free block whose content was used least recently; the content is forgotten.
    pub fn allocate(&mut self) -> Option<BlockId> {
        if self.first_free == NONE {
            return None;
        }
        let id = self.first_free;
        self.unlink(id);
        let block = &mut self.blocks[id as usize];
        block.users = 1;
        if let Some(content) = block.content.take() {
            self.by_hash.remove(&content.hash);
        }
        Some(id)
    }

    /// Takes the block that holds exactly these tokens after `parent`, if there is one. The tokens
    /// are compared too, so that not even a collision of the hash shows one prompt to another.
    pub fn hit(&mut self, hash: &BlockHash, parent: &BlockHash, tokens: &[u32]) -> Option<BlockId> {
        let id = *self.by_hash.get(hash)?;
        let block = &self.blocks[id as usize];
        let content = block.content.as_ref()?;
        if content.parent != *parent || content.tokens != *tokens {
            return None;
        }
        if block.users == 0 {
            self.unlink(id);
        }
        self.blocks[id as usize].users += 1;
        Some(id)
    }

    /// Makes a computed, full block available to others. When the same content is already there
    /// under another block, that one stays.
    pub fn publish(
        &mut self,
        id: BlockId,
        hash: BlockHash,
        parent: BlockHash,
        tokens: BlockTokens,
    ) {
        if self.by_hash.contains_key(&hash) {
            return;
        }
        self.by_hash.insert(hash, id);
        self.blocks[id as usize].content = Some(Content {
            hash,
            parent,
            tokens,
        });
    }

    /// Gives back a block table, last block first: a prefix's tail is then lost before its head,
    /// which more prompts share. A block without content goes to the front, because nothing is
    /// lost with it.
    pub fn release(&mut self, table: &[BlockId]) {
        for &id in table.iter().rev() {
            let block = &mut self.blocks[id as usize];
            block.users -= 1;
            if block.users > 0 {
                continue;
            }
            if block.content.is_some() {
                self.push_back(id);
            } else {
                self.push_front(id);
            }
        }
    }

    /// Compares every count with the block tables in use.
    ///
    /// # Errors
    /// The first contradiction, in words.
    pub fn check<'a>(&self, tables: impl Iterator<Item = &'a [BlockId]>) -> Result<(), String> {
        let mut users = vec![0u32; self.blocks.len()];
        for &id in tables.flatten() {
            users[id as usize] += 1;
        }
        for (id, block) in self.blocks.iter().enumerate() {
            if block.users != users[id] {
                return Err(format!(
                    "block {id} counts {} users of {}",
                    block.users, users[id]
                ));
            }
        }
        let (mut listed, mut at) = (0, self.first_free);
        while at != NONE && listed <= self.blocks.len() {
            if self.blocks[at as usize].users != 0 {
                return Err(format!("block {at} is free and in use"));
            }
            listed += 1;
            at = self.blocks[at as usize].next;
        }
        let used = users.iter().filter(|&&users| users > 0).count();
        if listed != self.free || listed + used != self.blocks.len() {
            return Err(format!("{listed} listed, {} free, {used} used", self.free));
        }
        match self.by_hash.iter().find(|(hash, id)| {
            self.blocks[**id as usize]
                .content
                .as_ref()
                .map(|content| &content.hash)
                != Some(hash)
        }) {
            Some((_, id)) => Err(format!(
                "block {id} is listed under a hash it does not hold"
            )),
            None => Ok(()),
        }
    }

    fn push_back(&mut self, id: BlockId) {
        self.link(self.last_free, id, NONE);
    }

    fn push_front(&mut self, id: BlockId) {
        self.link(NONE, id, self.first_free);
    }

    /// Puts a block between two neighbours of the free list, `NONE` being either end.
    fn link(&mut self, previous: BlockId, id: BlockId, next: BlockId) {
        self.blocks[id as usize].previous = previous;
        self.blocks[id as usize].next = next;
        self.join(previous, id);
        self.join(id, next);
        self.free += 1;
    }

    /// Takes a block out of the free list.
    fn unlink(&mut self, id: BlockId) {
        let Block { previous, next, .. } = self.blocks[id as usize];
        self.join(previous, next);
        self.free -= 1;
    }

    /// Makes two blocks of the free list neighbours; an end of the list is `NONE`.
    fn join(&mut self, previous: BlockId, next: BlockId) {
        match self.blocks.get_mut(previous as usize) {
            Some(block) => block.next = next,
            None => self.first_free = next,
        }
        match self.blocks.get_mut(next as usize) {
            Some(block) => block.previous = previous,
            None => self.last_free = previous,
        }
    }
}
