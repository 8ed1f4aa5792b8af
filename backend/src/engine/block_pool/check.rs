//! Whether a pool contradicts itself, for tests and simulations.

use super::{BlockId, BlockPool};

// === impl BlockPool ===

impl BlockPool {
    /// Compares every count with the block tables in use, and checks that no content is kept after
    /// what comes before it is lost.
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
        let places = self.check_free()?;
        let used = users.iter().filter(|&&users| users > 0).count();
        if self.free() + used != self.blocks.len() {
            return Err(format!("{} free and {used} used", self.free()));
        }
        self.check_content(&places)
    }

    /// The place of each free block in the order of reuse, and none of a used one.
    fn check_free(&self) -> Result<Vec<Option<usize>>, String> {
        let mut places = vec![None; self.blocks.len()];
        let cold = self.cold.iter(&self.links).map(|id| (id, false));
        let warm = self.warm.iter(&self.links).map(|id| (id, true));
        for (place, (id, is_warm)) in cold.chain(warm).enumerate() {
            let block = &self.blocks[id as usize];
            if block.users != 0 || places[id as usize].replace(place).is_some() {
                return Err(format!("block {id} is free and in use, or free twice"));
            }
            if is_warm != block.warm {
                return Err(format!("block {id} is in the wrong list"));
            }
        }
        let listed = places.iter().flatten().count();
        if listed != self.free() || self.warm.len() > self.warm_max {
            return Err(format!("{listed} listed, {} free", self.free()));
        }
        Ok(places)
    }

    /// Every content is found under its hash, and whoever follows a block is reused before it.
    fn check_content(&self, places: &[Option<usize>]) -> Result<(), String> {
        let mut filled = 0;
        for (id, block) in self.blocks.iter().enumerate() {
            let Some(content) = &block.content else {
                continue;
            };
            filled += 1;
            if self.by_hash.get(&content.hash) != Some(&(id as BlockId)) {
                return Err(format!("block {id} is not found under its hash"));
            }
            let Some(&parent) = self.by_hash.get(&content.parent) else {
                continue;
            };
            let before = &self.blocks[parent as usize];
            let in_order = match (places[id], places[parent as usize]) {
                (Some(child), Some(parent)) => child < parent,
                (None, Some(_)) => false,
                (_, None) => true,
            };
            if before.users < block.users || !in_order {
                return Err(format!("block {id} outlives {parent}, which it follows"));
            }
        }
        if filled != self.by_hash.len() {
            return Err(format!("{filled} filled, {} hashes", self.by_hash.len()));
        }
        Ok(())
    }
}
