//! Attention over paged keys and values: softmax(q k^T * scale) v, grouped queries, causal.
//!
//! A *span* is a few neighbouring rows of one sequence; they read the same pages, so a page is
//! widened to f32 once for all their query heads. Spans times key heads are the units of work.
//! The softmax is online (running maximum and sum, as in FlashAttention): pages are read once,
//! in tiles that start at position 0 for every row, so that a row's result does not depend on
//! its neighbours.
//!
//! Positions are further taken in *pieces* of fixed length, whose results are folded in order (as
//! in flash decoding). Where the threads cannot share spans and key heads evenly, every piece is
//! work of its own; the sums are the same, whoever computes them.

mod partial;
mod pieces;
mod product;
mod tile;

use std::ops::Range;

use crate::disjoint::Disjoint;
use crate::kv_page::Page;
use crate::{InstructionSet, KvCache, TASK_NS_MIN, TASKS_PER_THREAD, ThreadPool};
use pieces::Pieces;
use tile::{Query, TILE_POSITIONS, Workspace};

/// Rows of a span.
const SPAN_ROWS_MAX: usize = 16;
/// Positions of a piece, a whole number of tiles: worth a task for a few queries, and a context of
/// a thousand tokens still has enough of them.
const PIECE_POSITIONS: usize = 8 * TILE_POSITIONS;
/// Multiplications of attention that a thread does in a nanosecond, about.
const PRODUCTS_PER_NS: usize = 32;

/// One packed token: where its sequence's keys and values lie, and how many it sees.
#[derive(Debug, Clone, Copy)]
pub struct AttentionRow<'a> {
    /// The sequence's blocks, from its first token on.
    pub block_table: &'a [u32],
    /// Tokens that this one attends to, itself included.
    pub context: usize,
}

/// Attention of packed queries `[rows, heads, head_dim]` in one layer, into `out`, same shape.
///
/// # Panics
/// If lengths disagree, `heads` is no multiple of the cache's, a context is zero or longer than
/// its block table, or a block is not in the cache.
#[allow(
    clippy::too_many_arguments,
    reason = "one operation, its operands and its shape"
)]
pub fn paged_attention(
    pool: &ThreadPool,
    cache: &KvCache,
    layer: usize,
    queries: &[f32],
    rows: &[AttentionRow<'_>],
    heads: usize,
    scale: f32,
    out: &mut [f32],
) {
    let operands = Operands {
        cache,
        layer,
        queries,
        rows,
        heads,
        scale,
    };
    paged_attention_with(InstructionSet::best(), pool, &operands, out);
}

/// What [`paged_attention`] reads.
pub struct Operands<'a> {
    pub cache: &'a KvCache,
    pub layer: usize,
    /// `[rows, heads, head_dim]`.
    pub queries: &'a [f32],
    pub rows: &'a [AttentionRow<'a>],
    pub heads: usize,
    pub scale: f32,
}

/// [`paged_attention`] with a given instruction set.
pub fn paged_attention_with(
    set: InstructionSet,
    pool: &ThreadPool,
    operands: &Operands<'_>,
    out: &mut [f32],
) {
    operands.check(out);
    let spans = spans(operands.rows);
    let kv_heads = operands.cache.kv_heads();
    let units = spans.len() * kv_heads;
    if units == 0 {
        return;
    }
    let seen = operands.seen(0..operands.rows.len());
    let products = 2 * seen * operands.heads * operands.cache.head_dim();
    let worthwhile = products / PRODUCTS_PER_NS / TASK_NS_MIN;
    let wanted = worthwhile.clamp(1, pool.threads() * TASKS_PER_THREAD);
    // Whether one unit is more than a task's share of the whole.
    let largest = spans.iter().map(|span| operands.seen(span.clone())).max();
    let uneven = largest.unwrap_or(0) * wanted > seen * kv_heads;
    if pool.threads() > 1
        && uneven
        && let Some(pieces) = Pieces::new(operands, &spans)
    {
        return pieces.attend(set, pool, wanted, out);
    }
    let tasks = wanted.min(units);
    let out = Disjoint::new(out);
    pool.run(tasks, &|task| {
        let mut workspace = Workspace::new(operands.cache.head_dim());
        for unit in units * task / tasks..units * (task + 1) / tasks {
            let (span, kv_head) = (&spans[unit / kv_heads], unit % kv_heads);
            operands.attend(set, &mut workspace, span.clone(), kv_head, &out);
        }
    });
}

/// Neighbouring rows with one block table, a few at a time.
fn spans(rows: &[AttentionRow<'_>]) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        match spans.last_mut() {
            Some(span)
                if span.len() < SPAN_ROWS_MAX
                    && std::ptr::eq(rows[span.start].block_table, row.block_table) =>
            {
                span.end = index + 1;
            }
            _ => spans.push(index..index + 1),
        }
    }
    spans
}

// === impl Operands ===

impl Operands<'_> {
    fn check(&self, out: &[f32]) {
        let width = self.heads * self.cache.head_dim();
        assert_eq!(
            self.queries.len(),
            self.rows.len() * width,
            "queries are [rows, {width}]"
        );
        assert_eq!(
            out.len(),
            self.queries.len(),
            "out has the shape of the queries"
        );
        assert!(
            self.heads > 0 && self.heads.is_multiple_of(self.cache.kv_heads()),
            "{} heads share {} key heads",
            self.heads,
            self.cache.kv_heads()
        );
        for row in self.rows {
            let slots = row.block_table.len() * self.cache.block_size();
            assert!(
                row.context > 0 && row.context <= slots,
                "{} of {slots} slots",
                row.context
            );
        }
    }

    /// All queries of a span that share one key head, over all that they see.
    fn attend(
        &self,
        set: InstructionSet,
        workspace: &mut Workspace,
        span: Range<usize>,
        kv_head: usize,
        out: &Disjoint<'_, f32>,
    ) {
        self.start(workspace, span.clone(), kv_head);
        let longest = self.longest(&span);
        for piece in 0..longest.div_ceil(PIECE_POSITIONS) {
            self.attend_piece(set, workspace, &span, kv_head, piece);
            workspace.fold();
        }
        for (index, (_, start)) in self.queries_of(span, kv_head).enumerate() {
            // SAFETY: each query head of each row belongs to one unit of work.
            let out = unsafe { out.slice(start..start + self.cache.head_dim()) };
            workspace.finish(index, out);
        }
    }

    /// Row and first element of each query of a span that shares one key head.
    fn queries_of(
        &self,
        span: Range<usize>,
        kv_head: usize,
    ) -> impl Iterator<Item = (usize, usize)> + Clone {
        let head_dim = self.cache.head_dim();
        let (heads, group) = (self.heads, self.group());
        span.flat_map(move |row| {
            let first = (row * heads + kv_head * group) * head_dim;
            (0..group).map(move |head| (row, first + head * head_dim))
        })
    }

    /// Query heads that share a key head.
    fn group(&self) -> usize {
        self.heads / self.cache.kv_heads()
    }

    /// Positions that these rows see, each counted by itself.
    fn seen(&self, rows: Range<usize>) -> usize {
        self.rows[rows].iter().map(|row| row.context).sum()
    }

    /// Positions that some row of a span sees.
    fn longest(&self, span: &Range<usize>) -> usize {
        let contexts = self.rows[span.clone()].iter().map(|row| row.context);
        contexts.max().unwrap_or(0)
    }

    /// Gives a workspace the queries of a span that share one key head.
    fn start(&self, workspace: &mut Workspace, span: Range<usize>, kv_head: usize) {
        let queries = self.queries_of(span, kv_head);
        workspace.start(queries.map(|(row, start)| Query {
            vector: &self.queries[start..start + self.cache.head_dim()],
            scale: self.scale,
            context: self.rows[row].context,
        }));
    }

    /// The queries of the workspace over one piece of what they see.
    fn attend_piece(
        &self,
        set: InstructionSet,
        workspace: &mut Workspace,
        span: &Range<usize>,
        kv_head: usize,
        piece: usize,
    ) {
        workspace.start_piece(piece * PIECE_POSITIONS);
        let block_table = self.rows[span.start].block_table;
        let end = self.longest(span).min((piece + 1) * PIECE_POSITIONS);
        for tile in (piece * PIECE_POSITIONS..end).step_by(TILE_POSITIONS) {
            let end = end.min(tile + TILE_POSITIONS);
            let mut position = tile;
            while position < end {
                let page = self.page(block_table, kv_head, position, end);
                workspace.gather(set, position - tile, &page);
                position += page.positions;
            }
            workspace.attend(set, tile);
        }
    }

    /// Keys and values from `position` to the end of its block, or to `end` if that is nearer.
    fn page(&self, table: &[u32], kv_head: usize, position: usize, end: usize) -> Page<'_> {
        let block_size = self.cache.block_size();
        let (block, offset) = (table[position / block_size] as usize, position % block_size);
        let positions = (block_size - offset).min(end - position);
        self.cache
            .positions(self.layer, block, kv_head, offset, positions)
    }
}
