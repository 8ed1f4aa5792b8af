//! The KV cache's blocks: who uses them, what they hold, and which free one is reused next.
//!
//! A block that is full keeps its content after its last user leaves, under a hash that chains
//! through all earlier blocks of its sequence back to a root made of model, adapter and tenant salt
//! (vLLM's design, docs/design/prefix_caching.md). What is in the cache twice is kept once: whoever
//! publishes what is there already goes on with the block that holds it.
//!
//! So whoever uses a block uses all before it, and as block tables are given back from their ends,
//! a block never loses its content while another that follows it keeps its own, which would be of
//! no use. Free blocks are reused in the order of release, those first that have never been hit:
//! long prompts that come once do not push out prefixes that many share. Blocks that have been hit
//! count as such until they fill [`WARM_SHARE`] of the pool (segmented LRU: Karedla, Love, Wherry,
//! "Caching strategies to improve disk system performance", Computer 27(3), 1994).

mod check;
mod forecast;
mod free_list;
mod hash;

use std::collections::HashMap;

pub use forecast::Forecast;
use free_list::{FreeList, Link};
pub use hash::{BlockHash, BlockTokens};

/// Index of a block in the KV cache.
pub type BlockId = u32;

/// All blocks of one model's KV cache.
pub struct BlockPool {
    blocks: Vec<Block>,
    links: Vec<Link>,
    by_hash: HashMap<BlockHash, BlockId>,
    /// Free blocks without content, then those that have not been hit since they were filled.
    cold: FreeList,
    /// Free blocks that have been hit, at most `warm_max`; reused when no other is left.
    warm: FreeList,
    warm_max: usize,
}

struct Block {
    /// Block tables that hold this block. Zero means that it is free.
    users: u32,
    content: Option<Content>,
    /// Whether its content has been hit, and lately enough.
    warm: bool,
}

/// What a full block holds.
struct Content {
    hash: BlockHash,
    parent: BlockHash,
    tokens: BlockTokens,
}

/// Blocks of the pool that are kept for having been hit. On Mooncake's conversations (`farthing
/// replay`) a fifth has more hits than plain LRU in pools of 1,000 to 30,000 blocks, and as many in
/// larger ones; shares of 15 to 30 % are within half a point of each other.
pub const WARM_SHARE: f64 = 0.2;

// === impl BlockPool ===

impl BlockPool {
    /// A pool of `blocks` free, empty blocks.
    pub fn new(blocks: usize) -> BlockPool {
        BlockPool::with_warm_share(blocks, WARM_SHARE)
    }

    /// A pool that keeps `warm_share` of its blocks for having been hit; at zero free blocks are
    /// reused in plain order of release.
    pub fn with_warm_share(blocks: usize, warm_share: f64) -> BlockPool {
        let mut pool = BlockPool {
            blocks: Vec::with_capacity(blocks),
            links: vec![Link::UNLINKED; blocks],
            by_hash: HashMap::new(),
            cold: FreeList::new(),
            warm: FreeList::new(),
            warm_max: (blocks as f64 * warm_share) as usize,
        };
        for id in 0..blocks as BlockId {
            pool.blocks.push(Block {
                users: 0,
                content: None,
                warm: false,
            });
            pool.cold.push_back(&mut pool.links, id);
        }
        pool
    }

    /// Blocks in all.
    pub fn total(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that no sequence uses. Some hold content that may still be hit.
    pub fn free(&self) -> usize {
        self.cold.len() + self.warm.len()
    }

    /// Takes the free block that is reused next; its content is forgotten.
    pub fn allocate(&mut self) -> Option<BlockId> {
        let id = self.cold.first().or(self.warm.first())?;
        self.take(id);
        let block = &mut self.blocks[id as usize];
        block.warm = false;
        if let Some(content) = block.content.take() {
            self.by_hash.remove(&content.hash);
        }
        Some(id)
    }

    /// Takes the block that holds exactly these tokens after `parent`, if there is one. The tokens
    /// are compared too, so that not even a collision of the hash shows one prompt to another.
    pub fn hit(
        &mut self,
        hash: &BlockHash,
        parent: &BlockHash,
        tokens: &BlockTokens,
    ) -> Option<BlockId> {
        let id = self.find(hash, parent, tokens)?;
        self.take(id);
        self.blocks[id as usize].warm = self.warm_max > 0;
        Some(id)
    }

    /// Makes a computed, full block available to others. Returns the block that the publisher's
    /// table must hold from now on: another one, if the same content is there already; the
    /// publisher's own is then free.
    #[must_use]
    pub fn publish(
        &mut self,
        id: BlockId,
        hash: BlockHash,
        parent: BlockHash,
        tokens: &BlockTokens,
    ) -> BlockId {
        if let Some(there) = self.find(&hash, &parent, tokens) {
            self.take(there);
            self.release(&[id]);
            return there;
        }
        // A collision of 128 bits: the first content stays, this one is not shared.
        if self.by_hash.contains_key(&hash) {
            return id;
        }
        self.by_hash.insert(hash, id);
        self.blocks[id as usize].content = Some(Content {
            hash,
            parent,
            tokens: *tokens,
        });
        id
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
            if block.content.is_none() {
                self.cold.push_front(&mut self.links, id);
            } else if block.warm {
                self.warm.push_back(&mut self.links, id);
            } else {
                self.cold.push_back(&mut self.links, id);
            }
        }
        while self.warm.len() > self.warm_max
            && let Some(id) = self.warm.first()
        {
            self.warm.remove(&mut self.links, id);
            self.blocks[id as usize].warm = false;
            self.cold.push_back(&mut self.links, id);
        }
    }

    fn find(&self, hash: &BlockHash, parent: &BlockHash, tokens: &BlockTokens) -> Option<BlockId> {
        let id = *self.by_hash.get(hash)?;
        let content = self.blocks[id as usize].content.as_ref()?;
        (content.parent == *parent && content.tokens == *tokens).then_some(id)
    }

    /// Counts one more user of a block, which leaves the free list for its first.
    fn take(&mut self, id: BlockId) {
        let block = &mut self.blocks[id as usize];
        block.users += 1;
        if block.users > 1 {
            return;
        }
        if block.warm && block.content.is_some() {
            self.warm.remove(&mut self.links, id);
        } else {
            self.cold.remove(&mut self.links, id);
        }
    }
}
