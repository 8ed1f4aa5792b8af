//! Blocks that nobody uses, in the order in which they are reused: a doubly linked list through an
//! array with one link for each block of the pool, so that any block leaves it in constant time.

use super::BlockId;

/// One end-to-end order. A block is in at most one list that shares the links.
#[derive(Debug)]
pub(super) struct FreeList {
    first: BlockId,
    last: BlockId,
    len: usize,
}

/// The neighbours of a block in its list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    previous: BlockId,
    next: BlockId,
}

/// No block.
const NONE: BlockId = BlockId::MAX;

// === impl Link ===

impl Link {
    pub(super) const UNLINKED: Link = Link {
        previous: NONE,
        next: NONE,
    };
}

// === impl FreeList ===

impl FreeList {
    pub(super) fn new() -> FreeList {
        FreeList {
            first: NONE,
            last: NONE,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The block that is reused first.
    pub(super) fn first(&self) -> Option<BlockId> {
        (self.first != NONE).then_some(self.first)
    }

    pub(super) fn push_back(&mut self, links: &mut [Link], id: BlockId) {
        self.insert(links, self.last, id, NONE);
    }

    pub(super) fn push_front(&mut self, links: &mut [Link], id: BlockId) {
        self.insert(links, NONE, id, self.first);
    }

    /// Takes out a block that is in this list.
    pub(super) fn remove(&mut self, links: &mut [Link], id: BlockId) {
        let Link { previous, next } = links[id as usize];
        self.join(links, previous, next);
        links[id as usize] = Link::UNLINKED;
        self.len -= 1;
    }

    /// All blocks in order; it ends even if the links contradict themselves.
    pub(super) fn iter<'a>(&self, links: &'a [Link]) -> impl Iterator<Item = BlockId> + 'a {
        let next = |at: &BlockId| {
            let next = links[*at as usize].next;
            (next != NONE).then_some(next)
        };
        std::iter::successors(self.first(), next).take(links.len() + 1)
    }

    /// Puts a block between two neighbours, `NONE` being either end.
    fn insert(&mut self, links: &mut [Link], previous: BlockId, id: BlockId, next: BlockId) {
        self.join(links, previous, id);
        self.join(links, id, next);
        self.len += 1;
    }

    /// Makes two blocks neighbours; an end of the list is `NONE`.
    fn join(&mut self, links: &mut [Link], previous: BlockId, next: BlockId) {
        match links.get_mut(previous as usize) {
            Some(link) => link.next = next,
            None => self.first = next,
        }
        match links.get_mut(next as usize) {
            Some(link) => link.previous = previous,
            None => self.last = previous,
        }
    }
}
