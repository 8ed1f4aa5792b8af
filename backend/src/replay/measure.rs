//! How many blocks of a trace's prompts a pool of a given size would have held. Requests come one
//! after another, each giving its blocks back before the next: this measures what is kept and not
//! what runs together.

use std::collections::HashSet;

use farthing_core::limits::KV_BLOCK_TOKENS;

use super::mooncake::Request;
use crate::engine::block_pool::{BlockHash, BlockId, BlockPool, BlockTokens};

/// Blocks that were hit in one replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixHits {
    pub requests: usize,
    /// Blocks of all prompts.
    pub asked: usize,
    /// Of these, found in the engine's pool.
    pub pool: usize,
    /// Found in the same pool with free blocks reused in plain order of release.
    pub lru: usize,
    /// Found if nothing were ever lost.
    pub unbounded: usize,
}

// === impl PrefixHits ===

impl PrefixHits {
    /// Replays requests over pools of `blocks` blocks. Of a prompt with more blocks than that, only
    /// as many are held.
    pub fn measure(requests: &[Request], blocks: usize) -> PrefixHits {
        let replay = |mut pool: BlockPool| {
            let hits = requests.iter().map(|request| visit(&mut pool, request));
            hits.sum()
        };
        let mut seen: HashSet<u32> = HashSet::new();
        let unbounded = requests.iter().map(|request| {
            let known = request.hash_ids.iter().take_while(|id| seen.contains(id));
            let known = known.count();
            seen.extend(&request.hash_ids);
            known
        });
        PrefixHits {
            requests: requests.len(),
            asked: requests.iter().map(|request| request.hash_ids.len()).sum(),
            unbounded: unbounded.sum(),
            pool: replay(BlockPool::new(blocks)),
            lru: replay(BlockPool::with_warm_share(blocks, 0.0)),
        }
    }

    /// A count as a share of all blocks asked for.
    pub fn share(&self, count: usize) -> f64 {
        count as f64 / self.asked.max(1) as f64
    }
}

/// Takes what is there of a request's blocks, fills the rest, and gives all back. Returns how many
/// were there.
fn visit(pool: &mut BlockPool, request: &Request) -> usize {
    let mut parent = BlockHash::root("replay", None, &[0; 32]);
    let mut table: Vec<BlockId> = Vec::with_capacity(request.hash_ids.len());
    let mut hits = 0;
    for id in request.hash_ids.iter().take(pool.total()) {
        let tokens: BlockTokens = [*id; KV_BLOCK_TOKENS];
        let hash = parent.child(&tokens);
        let hit = (hits == table.len()).then(|| pool.hit(&hash, &parent, &tokens));
        let block = match hit.flatten() {
            Some(block) => {
                hits += 1;
                block
            }
            None => match pool.allocate() {
                Some(block) => pool.publish(block, hash, parent, &tokens),
                None => break,
            },
        };
        table.push(block);
        parent = hash;
    }
    pool.release(&table);
    hits
}
