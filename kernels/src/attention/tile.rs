//! The arithmetic of attention on one tile of positions, for a few queries.

use super::partial::{Partial, record_len};
use super::product::{Product, chunks_of};
use crate::kv_page::Page;
use crate::lanes::{Chunk, LANES, Lanes, larger, max_lanes, sum_lanes};
use crate::{InstructionSet, exp};

/// Positions of a tile: keys and values of one fit the first-level cache for heads of 64.
pub(super) const TILE_POSITIONS: usize = 32;
/// Chunks of a tile's positions.
const TILE_CHUNKS: usize = TILE_POSITIONS / LANES;
/// Queries are padded to whole groups of so many.
const QUERIES_AT_ONCE: usize = 4;

/// One query head of one row.
pub(super) struct Query<'a> {
    pub vector: &'a [f32],
    pub scale: f32,
    /// Positions that it sees.
    pub context: usize,
}

/// Buffers of one task. Heads are padded with zeros to whole chunks.
pub(super) struct Workspace {
    head_dim: usize,
    /// Chunks of a padded head.
    chunks: usize,
    /// `[head_dim, positions]`.
    keys: Vec<Chunk>,
    /// `[positions, padded head_dim]`.
    values: Vec<Chunk>,
    queries: Vec<QueryState>,
    /// `[queries, padded head_dim]`, scaled.
    vectors: Vec<f32>,
    /// `[queries, positions]`: scores, then weights.
    scores: Vec<Chunk>,
    /// `[queries, padded head_dim]`: values so far, weighted relative to the running maximum.
    sums: Vec<Chunk>,
    /// Where the piece at hand begins.
    piece: usize,
    /// A record for each query, of the pieces so far.
    records: Vec<f32>,
}

/// The running softmax of a query over the piece at hand.
struct QueryState {
    context: usize,
    maximum: f32,
    /// The weights so far, relative to the maximum.
    weight: f32,
}

// === impl Workspace ===

impl Workspace {
    pub fn new(head_dim: usize) -> Workspace {
        let chunks = chunks_of(head_dim);
        Workspace {
            head_dim,
            chunks,
            keys: vec![[0.0; LANES]; head_dim * TILE_CHUNKS],
            values: vec![[0.0; LANES]; TILE_POSITIONS * chunks],
            queries: Vec::new(),
            vectors: Vec::new(),
            scores: Vec::new(),
            sums: Vec::new(),
            piece: 0,
            records: Vec::new(),
        }
    }

    /// Takes new queries.
    pub fn start<'a>(&mut self, queries: impl Iterator<Item = Query<'a>>) {
        self.queries.clear();
        self.vectors.clear();
        for query in queries {
            self.vectors
                .extend(query.vector.iter().map(|x| x * query.scale));
            self.queries.push(QueryState::new(query.context));
            self.vectors
                .resize(self.queries.len() * self.chunks * LANES, 0.0);
        }
        let records = self.queries.len() * record_len(self.head_dim);
        self.records.resize(records, 0.0);
        let padded = self.queries.len().next_multiple_of(QUERIES_AT_ONCE);
        self.queries.resize_with(padded, || QueryState::new(0));
        self.vectors.resize(padded * self.chunks * LANES, 0.0);
        self.scores.resize(padded * TILE_CHUNKS, [0.0; LANES]);
        self.sums.resize(padded * self.chunks, [0.0; LANES]);
    }

    /// Begins a piece that starts at `position`.
    pub fn start_piece(&mut self, position: usize) {
        self.piece = position;
        for query in &mut self.queries {
            *query = QueryState::new(query.context);
        }
        self.sums.fill([0.0; LANES]);
    }

    /// Widens a page into the tile, `at` positions from its start.
    pub fn gather(&mut self, set: InstructionSet, at: usize, page: &Page<'_>) {
        let keys = &mut self.keys.as_flattened_mut()[at..];
        page.widen_keys(set, self.head_dim, keys, TILE_POSITIONS);
        let width = self.chunks * LANES;
        let values = &mut self.values.as_flattened_mut()[at * width..];
        page.widen_values(set, self.head_dim, values, width);
    }

    /// Adds the gathered tile, which begins at `position`, to every query that sees it.
    pub fn attend(&mut self, set: InstructionSet, position: usize) {
        assert!(
            set.is_available(),
            "{set:?} is not available on this processor"
        );
        // SAFETY: the assertion says that the processor has these features; `Chunk` needs none.
        unsafe {
            match set {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 | InstructionSet::AvxVnni => self.attend_avx2(position),
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 => self.attend_avx512(position),
                #[cfg(target_arch = "aarch64")]
                InstructionSet::Neon | InstructionSet::NeonDot => {
                    self.attend_all::<[std::arch::aarch64::float32x4_t; 4], 2, 2>(position);
                }
                _ => self.attend_all::<Chunk, 1, 1>(position),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn attend_avx2(&mut self, position: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.attend_all::<[std::arch::x86_64::__m256; 2], 2, 2>(position) };
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn attend_avx512(&mut self, position: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.attend_all::<std::arch::x86_64::__m512, 8, 4>(position) };
    }

    /// `MANY` queries at a time while there are as many, then `FEW`; a query's result is the same
    /// in any company.
    ///
    /// # Safety
    /// As for [`Lanes`].
    #[inline(always)]
    unsafe fn attend_all<V: Lanes, const MANY: usize, const FEW: usize>(
        &mut self,
        position: usize,
    ) {
        let mut first = 0;
        while first < self.queries.len() {
            // SAFETY: the caller's promise.
            unsafe {
                if first + MANY <= self.queries.len() {
                    self.attend_some::<V, MANY>(first, position);
                    first += MANY;
                } else {
                    self.attend_some::<V, FEW>(first, position);
                    first += FEW;
                }
            }
        }
    }

    /// The `M` queries from `first` on.
    ///
    /// # Safety
    /// As for [`Lanes`].
    #[inline(always)]
    unsafe fn attend_some<V: Lanes, const M: usize>(&mut self, first: usize, position: usize) {
        let width = self.chunks * LANES;
        let states = &mut self.queries[first..first + M];
        let vectors = &self.vectors[first * width..][..M * width];
        let scores = &mut self.scores[first * TILE_CHUNKS..][..M * TILE_CHUNKS];
        let sums = &mut self.sums[first * self.chunks..][..M * self.chunks];
        let visible =
            |state: &QueryState| state.context.saturating_sub(position).min(TILE_POSITIONS);
        let most_visible = states.iter().map(visible).max().unwrap_or(0);
        if most_visible == 0 {
            return;
        }
        scores.fill([0.0; LANES]);
        let product = Product {
            a: vectors,
            a_stride: width,
            b: &self.keys,
            b_stride: TILE_CHUNKS,
            depth: self.head_dim,
        };
        // SAFETY: the caller's promise.
        unsafe { product.add_to::<V, M>(scores, TILE_CHUNKS) };
        let scores = scores.as_flattened_mut();
        let each = states
            .iter_mut()
            .zip(scores.chunks_exact_mut(TILE_POSITIONS));
        for ((state, scores), sums) in each.zip(sums.chunks_exact_mut(self.chunks)) {
            let visible = visible(state);
            state.weigh(scores, visible, sums);
        }
        let product = Product {
            a: scores,
            a_stride: TILE_POSITIONS,
            b: &self.values,
            b_stride: self.chunks,
            depth: most_visible,
        };
        // SAFETY: the caller's promise.
        unsafe { product.add_to::<V, M>(sums, self.chunks) };
    }

    /// What a query makes of the piece.
    fn partial(&self, query: usize) -> Partial<'_> {
        let sums = self.sums[query * self.chunks..][..self.chunks].as_flattened();
        Partial {
            maximum: self.queries[query].maximum,
            weight: self.queries[query].weight,
            values: &sums[..self.head_dim],
        }
    }

    /// Writes what each query makes of the piece.
    pub fn write_records(&self, records: &mut [f32]) {
        let records = records.chunks_exact_mut(record_len(self.head_dim));
        for (query, record) in records.enumerate() {
            self.partial(query).write(record);
        }
    }

    /// Adds the piece to the records of the queries that see it.
    pub fn fold(&mut self) {
        let mut records = std::mem::take(&mut self.records);
        let each = records.chunks_exact_mut(record_len(self.head_dim));
        for (query, record) in each.enumerate() {
            if self.piece == 0 {
                self.partial(query).write(record);
            } else if self.queries[query].context > self.piece {
                self.partial(query).fold_into(record);
            }
        }
        self.records = records;
    }

    /// Writes the result of a query over all pieces.
    pub fn finish(&self, query: usize, out: &mut [f32]) {
        let len = record_len(self.head_dim);
        Partial::read(&self.records[query * len..][..len]).finish(out);
    }
}

// === impl QueryState ===

impl QueryState {
    /// One that has seen nothing yet.
    fn new(context: usize) -> QueryState {
        QueryState {
            context,
            maximum: f32::NEG_INFINITY,
            weight: 0.0,
        }
    }

    /// Turns the first `visible` scores into weights relative to the new maximum, the others into
    /// 0, and scales the sums so far accordingly.
    #[inline(always)]
    fn weigh(&mut self, scores: &mut [f32], visible: usize, sums: &mut [Chunk]) {
        if visible < TILE_POSITIONS {
            scores[visible..].fill(f32::NEG_INFINITY);
        }
        let (scores, _) = scores.as_chunks_mut::<LANES>();
        let mut largest = [f32::NEG_INFINITY; LANES];
        for chunk in scores.iter() {
            for (largest, score) in largest.iter_mut().zip(chunk) {
                *largest = larger(*largest, *score);
            }
        }
        let maximum = larger(self.maximum, max_lanes(largest));
        // A query that sees nothing here, or only undefined scores, has no maximum to subtract.
        let shift = if maximum == f32::NEG_INFINITY {
            0.0
        } else {
            maximum
        };
        let mut total = [0.0; LANES];
        for chunk in scores {
            for (score, total) in chunk.iter_mut().zip(&mut total) {
                *score = exp(*score - shift);
                *total += *score;
            }
        }
        let kept = exp(self.maximum - shift);
        if kept != 1.0 {
            for sum in sums.as_flattened_mut() {
                *sum *= kept;
            }
        }
        self.maximum = maximum;
        self.weight = self.weight * kept + sum_lanes(total);
    }
}
