//! The block pool beside a naive one, which keeps everything in plain lists and names content by
//! the whole path that leads to it.

use std::collections::HashMap;

use farthing_backend::engine::block_pool::{BlockHash, BlockId, BlockPool, BlockTokens};
use farthing_backend::engine::random::SplitMix64;
use farthing_core::limits::KV_BLOCK_TOKENS;
use proptest::prelude::*;

/// What a block holds: labels of all blocks up to it.
type Path = Vec<u32>;

/// Free blocks in order of reuse, and users of the content in use.
struct Naive {
    cold: Vec<Option<Path>>,
    warm: Vec<Path>,
    warm_max: usize,
    used: HashMap<Path, (usize, bool)>,
}

impl Naive {
    fn free(&self) -> usize {
        self.cold.len() + self.warm.len()
    }

    /// Whether the content is there; then it has one user more.
    fn find(&mut self, path: &Path) -> Option<&mut bool> {
        let cold = self
            .cold
            .iter()
            .position(|free| free.as_ref() == Some(path));
        if let Some(at) = cold {
            self.cold.remove(at);
            self.used.insert(path.clone(), (0, false));
        } else if let Some(at) = self.warm.iter().position(|free| free == path) {
            self.warm.remove(at);
            self.used.insert(path.clone(), (0, true));
        }
        let (users, warm) = self.used.get_mut(path)?;
        *users += 1;
        Some(warm)
    }

    fn hit(&mut self, path: &Path) -> bool {
        let is_kept = self.warm_max > 0;
        self.find(path).map(|warm| *warm = is_kept).is_some()
    }

    fn allocate(&mut self) -> bool {
        if self.free() == 0 {
            return false;
        }
        if self.cold.is_empty() {
            self.warm.remove(0);
        } else {
            self.cold.remove(0);
        }
        true
    }

    fn publish(&mut self, path: &Path) {
        if self.find(path).is_some() {
            self.cold.insert(0, None);
        } else {
            self.used.insert(path.clone(), (1, false));
        }
    }

    fn release(&mut self, table: &[Option<Path>]) {
        for content in table.iter().rev() {
            let Some(path) = content else {
                self.cold.insert(0, None);
                continue;
            };
            let (users, warm) = self.used.get_mut(path).expect("it is in use");
            *users -= 1;
            if *users == 0 {
                let (_, warm) = (*users, *warm);
                self.used.remove(path);
                if warm {
                    self.warm.push(path.clone());
                } else {
                    self.cold.push(Some(path.clone()));
                }
            }
        }
        while self.warm.len() > self.warm_max {
            let first = self.warm.remove(0);
            self.cold.push(Some(first));
        }
    }
}

/// A block table and what its blocks hold; those at the end may not be published.
struct Table {
    path: Path,
    blocks: Vec<BlockId>,
    published: usize,
}

impl Table {
    fn content(&self, index: usize) -> Option<Path> {
        (index < self.published).then(|| self.path[..=index].to_vec())
    }

    /// Hash, parent and tokens of a block.
    fn named(&self, index: usize) -> (BlockHash, BlockHash, BlockTokens) {
        let root = BlockHash::root("model", None, &[0; 32]);
        let tokens = |label: &u32| [*label; KV_BLOCK_TOKENS];
        let child = |parent: BlockHash, label| parent.child(&tokens(label));
        let parent = self.path[..index].iter().fold(root, child);
        let label = &self.path[index];
        (child(parent, label), parent, tokens(label))
    }
}

fn below(random: &mut SplitMix64, bound: usize) -> usize {
    (random.next_u64() % bound as u64) as usize
}

/// Takes what is there of a random path.
fn begin(
    random: &mut SplitMix64,
    pool: &mut BlockPool,
    naive: &mut Naive,
) -> Result<Table, TestCaseError> {
    let len = 1 + below(random, 8);
    let mut table = Table {
        path: (0..len).map(|_| below(random, 2) as u32).collect(),
        blocks: Vec::new(),
        published: 0,
    };
    for index in 0..len {
        let (hash, parent, tokens) = table.named(index);
        let hit = pool.hit(&hash, &parent, &tokens);
        let expected = naive.hit(&table.path[..=index].to_vec());
        prop_assert_eq!(hit.is_some(), expected, "{:?} {}", table.path, index);
        let Some(id) = hit else {
            break;
        };
        table.blocks.push(id);
    }
    table.published = table.blocks.len();
    Ok(table)
}

/// Runs one seed; returns how many blocks were hit and how many found twice.
fn run(seed: u64, steps: usize) -> Result<[usize; 2], TestCaseError> {
    let mut random = SplitMix64::new(seed);
    let blocks = 1 + below(&mut random, 40);
    let warm_share = [0.0, 0.2, 0.5, 1.0][below(&mut random, 4)];
    let mut pool = BlockPool::with_warm_share(blocks, warm_share);
    let mut naive = Naive {
        cold: vec![None; blocks],
        warm: Vec::new(),
        warm_max: (blocks as f64 * warm_share) as usize,
        used: HashMap::new(),
    };
    let mut tables: Vec<Table> = Vec::new();
    let (mut hits, mut twice) = (0, 0);
    for _ in 0..steps {
        match below(&mut random, 4) {
            0 => {
                let table = begin(&mut random, &mut pool, &mut naive)?;
                hits += table.blocks.len();
                tables.push(table);
            }
            1 if !tables.is_empty() => {
                let at = below(&mut random, tables.len());
                let table = tables.swap_remove(at);
                pool.release(&table.blocks);
                let content: Vec<_> = (0..table.blocks.len())
                    .map(|at| table.content(at))
                    .collect();
                naive.release(&content);
            }
            2 if !tables.is_empty() => {
                let at = below(&mut random, tables.len());
                let table = &mut tables[at];
                if table.blocks.len() < table.path.len() {
                    let block = pool.allocate();
                    prop_assert_eq!(block.is_some(), naive.allocate());
                    table.blocks.extend(block);
                }
            }
            3 if !tables.is_empty() => {
                let at = below(&mut random, tables.len());
                let table = &mut tables[at];
                let index = table.published;
                if index < table.blocks.len() {
                    let (hash, parent, tokens) = table.named(index);
                    let before = table.blocks[index];
                    table.blocks[index] = pool.publish(before, hash, parent, &tokens);
                    twice += usize::from(table.blocks[index] != before);
                    naive.publish(&table.path[..=index].to_vec());
                    table.published += 1;
                }
            }
            _ => {}
        }
        prop_assert_eq!(pool.free(), naive.free());
        let used = tables.iter().map(|table| table.blocks.as_slice());
        pool.check(used).map_err(TestCaseError::fail)?;
    }
    Ok([hits, twice])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_pool_does_what_a_naive_one_does(seed in any::<u64>()) {
        run(seed, 400)?;
    }
}

#[test]
fn the_comparison_reaches_hits_and_content_that_is_there_twice() {
    let runs = (0..20).map(|seed| run(seed, 400).expect("holds for these seeds"));
    let reached = runs.fold([0; 2], |sum, run| [sum[0] + run[0], sum[1] + run[1]]);
    assert!(reached[0] > 1_000 && reached[1] > 20, "{reached:?}");
}

/// Fills and gives back a table of these labels; returns how many of its blocks were hits.
fn visit(pool: &mut BlockPool, labels: &[u32]) -> usize {
    let mut table = Table {
        path: labels.to_vec(),
        blocks: Vec::new(),
        published: 0,
    };
    for index in 0..labels.len() {
        let (hash, parent, tokens) = table.named(index);
        match pool.hit(&hash, &parent, &tokens) {
            Some(id) => table.blocks.push(id),
            None => break,
        }
    }
    let hits = table.blocks.len();
    for index in hits..labels.len() {
        let (hash, parent, tokens) = table.named(index);
        let id = pool.allocate().expect("the pool is large enough");
        table.blocks.push(pool.publish(id, hash, parent, &tokens));
    }
    pool.release(&table.blocks);
    hits
}

#[test]
fn a_prefix_that_was_shared_outlives_long_prompts_that_come_once() {
    let shared = [1, 2];
    let kept_with = |warm_share| {
        let mut pool = BlockPool::with_warm_share(10, warm_share);
        visit(&mut pool, &shared);
        assert_eq!(visit(&mut pool, &shared), 2);
        for once in 100..200 {
            visit(&mut pool, &[once; 8]);
        }
        visit(&mut pool, &shared)
    };
    assert_eq!((kept_with(0.0), kept_with(0.2)), (0, 2));
}

#[test]
fn roots_differ_by_model_adapter_and_tenant() {
    let roots = [
        BlockHash::root("a", None, &[0; 32]),
        BlockHash::root("b", None, &[0; 32]),
        BlockHash::root("a", Some(""), &[0; 32]),
        BlockHash::root("a", Some("b"), &[0; 32]),
        BlockHash::root("ab", None, &[0; 32]),
        BlockHash::root("a", None, &[1; 32]),
    ];
    for (index, root) in roots.iter().enumerate() {
        assert!(!roots[..index].contains(root), "{index}");
    }
}
