//! Which blocks become free as tables are given back, foretold without giving them back.

use super::{BlockId, BlockPool};

/// A pool as it will be.
#[derive(Debug, Clone)]
pub struct Forecast {
    /// Of each block.
    users: Vec<u32>,
    free: usize,
}

// === impl BlockPool ===

impl BlockPool {
    /// The pool as it is, to begin with.
    pub fn forecast(&self) -> Forecast {
        Forecast {
            users: self.blocks.iter().map(|block| block.users).collect(),
            free: self.free(),
        }
    }
}

// === impl Forecast ===

impl Forecast {
    /// Blocks that no sequence will use.
    pub fn free(&self) -> usize {
        self.free
    }

    /// A block table is given back; a block is free once the last who shares it has done so.
    pub fn release(&mut self, table: &[BlockId]) {
        for &id in table {
            let users = &mut self.users[id as usize];
            *users -= 1;
            self.free += usize::from(*users == 0);
        }
    }
}
