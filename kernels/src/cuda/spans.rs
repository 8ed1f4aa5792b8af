//! How a product is cut so that every block works equally long (`spans.cuh` has the same).
//!
//! The outputs are cut into *units*, each unit's inputs into *chunks*. All chunks stand in one row
//! and each block takes an equal span of it. A unit that several blocks share is added up from what
//! each of them leaves in the workspace, in the order of the blocks.

/// The cut of one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spans {
    /// Pieces of the outputs.
    pub units: usize,
    /// Pieces of a unit's inputs.
    pub unit_chunks: usize,
    /// Blocks that share them, at most one a chunk, so that none has nothing to do.
    pub blocks: usize,
}

impl Spans {
    /// Most chunks of a cut: the kernels count them in 32 bits.
    pub const CHUNKS_MAX: usize = 1 << 31;

    /// A cut for a card that has so many blocks at once.
    pub fn new(units: usize, unit_chunks: usize, blocks: usize) -> Spans {
        Spans {
            units,
            unit_chunks,
            blocks: blocks.clamp(1, units * unit_chunks),
        }
    }

    /// The first chunk of a block's span.
    pub fn begin(&self, block: usize) -> usize {
        block * self.base() + block.min(self.extra())
    }

    /// The block that has this chunk.
    pub fn owner(&self, chunk: usize) -> usize {
        let longer = self.extra() * (self.base() + 1);
        if chunk < longer {
            chunk / (self.base() + 1)
        } else {
            self.extra() + (chunk - longer) / self.base()
        }
    }

    /// Where a block leaves its part of a unit. It shares two at most: the one that it begins in,
    /// and the one that it ends in.
    pub fn slot(&self, block: usize, unit: usize) -> usize {
        2 * block + usize::from(self.begin(block) < unit * self.unit_chunks)
    }

    /// Chunks of every block.
    fn base(&self) -> usize {
        self.units * self.unit_chunks / self.blocks
    }

    /// Blocks that have one more.
    fn extra(&self) -> usize {
        self.units * self.unit_chunks % self.blocks
    }

    /// Parts of units that the workspace must have room for.
    pub fn slots(&self) -> usize {
        2 * self.blocks
    }
}

#[cfg(test)]
mod tests {
    use super::Spans;
    use std::collections::HashSet;

    #[test]
    fn every_chunk_has_one_owner_and_every_part_a_slot() {
        for (units, unit_chunks, blocks) in [
            (1, 1, 264),
            (9, 3, 264),
            (64, 16, 264),
            (448, 16, 264),
            (7, 13, 5),
            (3, 100, 132),
            (1000, 1, 132),
        ] {
            let spans = Spans::new(units, unit_chunks, blocks);
            let mut slots = HashSet::new();
            for block in 0..spans.blocks {
                let (begin, end) = (spans.begin(block), spans.begin(block + 1));
                assert!(begin < end, "{spans:?}: block {block} has nothing to do");
                assert!(
                    (begin..end).all(|chunk| spans.owner(chunk) == block),
                    "{spans:?}"
                );
                for unit in begin / unit_chunks..=(end - 1) / unit_chunks {
                    let first = spans.owner(unit * unit_chunks);
                    let last = spans.owner((unit + 1) * unit_chunks - 1);
                    assert!((first..=last).contains(&block));
                    if first != last {
                        let slot = spans.slot(block, unit);
                        assert!(slot < spans.slots() && slots.insert(slot), "{spans:?}");
                    }
                }
            }
            assert_eq!(spans.begin(spans.blocks), units * unit_chunks);
            let lengths = (0..spans.blocks).map(|b| spans.begin(b + 1) - spans.begin(b));
            let (least, most) = lengths.fold((usize::MAX, 0), |(a, b), l| (a.min(l), b.max(l)));
            assert!(most - least <= 1, "{spans:?}: spans of {least} and {most}");
        }
    }
}
