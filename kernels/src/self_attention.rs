//! Attention of whole texts in f32, softmax(q k^T * scale) v, where every token sees all tokens of
//! its own text: what encoders do. Texts lie one after the other without padding.

use std::ops::Range;

use crate::disjoint::Disjoint;
use crate::instruction_set::versions;
use crate::lanes::{Chunk, LANES, larger, max_lanes, sum_lanes};
use crate::row_product::{Ahead, ROWS_AT_ONCE_MAX, RowProduct, chunks_of, rows_at_once, share};
use crate::{HEAD_DIM_MAX, InstructionSet, TASK_NS_MIN, TASKS_PER_THREAD, ThreadPool, exp};

/// Products that a thread adds in a nanosecond, about, the softmax included.
const PRODUCTS_PER_NS: usize = 16;

/// One layer's attention over packed texts.
#[derive(Debug, Clone, Copy)]
pub struct SelfAttention<'a> {
    /// Query, key and value of each token, one after the other: `[tokens, 3, heads, head_dim]`.
    pub query_key_value: &'a [f32],
    /// Tokens of each text.
    pub lengths: &'a [usize],
    pub heads: usize,
    pub head_dim: usize,
}

/// Buffers of a task, for one head of one text.
#[derive(Default)]
struct Workspace {
    /// `[head_dim, tokens]`.
    keys: Vec<Chunk>,
    /// `[tokens, head_dim]`.
    values: Vec<Chunk>,
    /// `[rows at once, tokens]`: scores, then weights.
    scores: Vec<Chunk>,
}

// === impl SelfAttention ===

impl SelfAttention<'_> {
    /// Writes `[tokens, heads, head_dim]`.
    ///
    /// # Panics
    /// If lengths disagree, a text is empty, or a head is wider than [`HEAD_DIM_MAX`].
    pub fn attend(&self, pool: &ThreadPool, out: &mut [f32]) {
        self.attend_with(InstructionSet::best(), pool, out);
    }

    /// [`SelfAttention::attend`] with a given instruction set.
    pub fn attend_with(&self, set: InstructionSet, pool: &ThreadPool, out: &mut [f32]) {
        let tokens: usize = self.lengths.iter().sum();
        assert!(
            self.head_dim > 0 && self.head_dim <= HEAD_DIM_MAX && !self.lengths.contains(&0),
            "texts have tokens, and heads 1 to {HEAD_DIM_MAX} numbers"
        );
        assert_eq!(self.query_key_value.len(), tokens * 3 * self.width());
        assert_eq!(out.len(), tokens * self.width());
        let units = self.lengths.len() * self.heads;
        let pairs: usize = self.lengths.iter().map(|length| length * length).sum();
        let worthwhile = 2 * pairs * self.width() / PRODUCTS_PER_NS / TASK_NS_MIN;
        let tasks = worthwhile
            .clamp(1, pool.threads() * TASKS_PER_THREAD)
            .min(units);
        let mut first = 0;
        let texts: Vec<Range<usize>> = (self.lengths.iter())
            .map(|length| {
                first += length;
                first - length..first
            })
            .collect();
        let out = Disjoint::new(out);
        pool.run(tasks, &|task| {
            let mut workspace = Workspace::default();
            for unit in share(units, tasks, task) {
                let (text, head) = (&texts[unit / self.heads], unit % self.heads);
                self.gather(&mut workspace, text, head);
                self.attend_text(set, &mut workspace, text, head, &out);
            }
        });
    }

    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Keys column by column and values row by row, both filled up to whole chunks.
    fn gather(&self, workspace: &mut Workspace, text: &Range<usize>, head: usize) {
        let (token_chunks, dim_chunks) = (chunks_of(text.len()), chunks_of(self.head_dim));
        workspace.keys.clear();
        let zeros = [0.0; LANES];
        (workspace.keys).resize(self.head_dim * token_chunks, zeros);
        workspace.values.clear();
        workspace.values.resize(text.len() * dim_chunks, zeros);
        workspace.scores.clear();
        (workspace.scores).resize(ROWS_AT_ONCE_MAX * token_chunks, zeros);
        let keys = workspace.keys.as_flattened_mut();
        let values = workspace.values.as_flattened_mut();
        for (index, token) in text.clone().enumerate() {
            let of = |part: usize| {
                let at = (token * 3 + part) * self.width() + head * self.head_dim;
                &self.query_key_value[at..at + self.head_dim]
            };
            let column = keys.iter_mut().skip(index).step_by(token_chunks * LANES);
            column.zip(of(1)).for_each(|(to, from)| *to = *from);
            values[index * dim_chunks * LANES..][..self.head_dim].copy_from_slice(of(2));
        }
    }

    fn attend_text(
        &self,
        set: InstructionSet,
        workspace: &mut Workspace,
        text: &Range<usize>,
        head: usize,
        out: &Disjoint<'_, f32>,
    ) {
        let token_chunks = chunks_of(text.len());
        let parts = text.len().div_ceil(rows_at_once(set));
        for part in 0..parts {
            let rows = share(text.len(), parts, part);
            let first = text.start + rows.start;
            let queries = &self.query_key_value[first * 3 * self.width() + head * self.head_dim..];
            let mut sums = [[0.0; LANES]; ROWS_AT_ONCE_MAX];
            for chunk in 0..token_chunks {
                let product = RowProduct {
                    a: queries,
                    a_stride: 3 * self.width(),
                    depth: self.head_dim,
                    b: &workspace.keys[chunk..],
                    b_stride: token_chunks,
                    ahead: Ahead::NOTHING,
                };
                product.multiply(set, rows.len(), &mut sums);
                let to = workspace
                    .scores
                    .iter_mut()
                    .skip(chunk)
                    .step_by(token_chunks);
                to.zip(&sums).for_each(|(to, sums)| *to = *sums);
            }
            let scale = 1.0 / (self.head_dim as f32).sqrt();
            for row in 0..rows.len() {
                let scores = &mut workspace.scores[row * token_chunks..][..token_chunks];
                weigh(set, scores, text.len(), scale);
            }
            self.mix(set, workspace, (first, rows.len()), (text.len(), head), out);
        }
    }

    /// Values by their weights.
    fn mix(
        &self,
        set: InstructionSet,
        workspace: &Workspace,
        (first, rows): (usize, usize),
        (tokens, head): (usize, usize),
        out: &Disjoint<'_, f32>,
    ) {
        let dim_chunks = chunks_of(self.head_dim);
        let mut sums = [[0.0; LANES]; ROWS_AT_ONCE_MAX];
        for chunk in 0..dim_chunks {
            let product = RowProduct {
                a: workspace.scores.as_flattened(),
                a_stride: chunks_of(tokens) * LANES,
                depth: tokens,
                b: &workspace.values[chunk..],
                b_stride: dim_chunks,
                ahead: Ahead::NOTHING,
            };
            product.multiply(set, rows, &mut sums);
            let width = LANES.min(self.head_dim - chunk * LANES);
            for (row, sums) in sums[..rows].iter().enumerate() {
                let at = (first + row) * self.width() + head * self.head_dim + chunk * LANES;
                // SAFETY: each head of each token belongs to one task.
                let out = unsafe { out.slice(at..at + width) };
                out.copy_from_slice(&sums[..width]);
            }
        }
    }
}

versions! {
    /// Turns the first `visible` scores into weights that add up to 1, the others into 0.
    fn weigh(scores: &mut [Chunk], visible: usize, scale: f32) = weigh_chunks;
}

#[inline(always)]
fn weigh_chunks(scores: &mut [Chunk], visible: usize, scale: f32) {
    scores.as_flattened_mut()[visible..].fill(f32::NEG_INFINITY);
    let mut largest = [f32::NEG_INFINITY; LANES];
    for chunk in scores.iter() {
        for (largest, score) in largest.iter_mut().zip(chunk) {
            *largest = larger(*largest, *score);
        }
    }
    let maximum = max_lanes(largest);
    let mut total = [0.0; LANES];
    for chunk in scores.iter_mut() {
        for (score, total) in chunk.iter_mut().zip(&mut total) {
            *score = exp((*score - maximum) * scale);
            *total += *score;
        }
    }
    let share = 1.0 / sum_lanes(total);
    for score in scores.as_flattened_mut() {
        *score *= share;
    }
}
