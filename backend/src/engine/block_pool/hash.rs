//! Hashes that name the content of blocks.

use farthing_core::limits::KV_BLOCK_TOKENS;
use sha2::{Digest, Sha256};

/// The tokens of one full block.
pub type BlockTokens = [u32; KV_BLOCK_TOKENS];

/// The first 128 bits of SHA-256 over a block's tokens and everything before them. A cryptographic
/// hash, because tokens are chosen by clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockHash([u8; 16]);

// === impl BlockHash ===

impl BlockHash {
    /// The parent of a sequence's first block: sequences share blocks only under equal roots. The
    /// salt is the tenant's; an adapter changes what the same tokens mean to the model. Each part
    /// is preceded by its length, so that no two roots are made of the same bytes.
    pub fn root(model: &str, adapter: Option<&str>, salt: &[u8; 32]) -> BlockHash {
        let mut hasher = Sha256::new();
        hasher.update(b"farthing kv root 2");
        hasher.update(salt);
        hasher.update((model.len() as u64).to_le_bytes());
        hasher.update(model.as_bytes());
        if let Some(adapter) = adapter {
            hasher.update((adapter.len() as u64).to_le_bytes());
            hasher.update(adapter.as_bytes());
        }
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
