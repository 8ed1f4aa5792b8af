//! Attention where few sequences and key heads have long contexts: each piece of a context is work
//! of its own, and what they give is folded afterwards.

use std::ops::Range;

use super::partial::{Partial, record_len};
use super::tile::Workspace;
use super::{Operands, PIECE_POSITIONS};
use crate::disjoint::Disjoint;
use crate::{InstructionSet, ThreadPool};

/// Numbers of all records at most, 16 MiB: a batch with more has work for every thread as it is.
const NUMBERS_MAX: usize = 4 << 20;

/// The work of one call in pieces.
pub(super) struct Pieces<'a> {
    operands: &'a Operands<'a>,
    /// The pieces of each span and key head follow each other.
    units: Vec<Unit>,
    /// Queries of all units.
    records: usize,
}

/// A span's queries of one key head over one piece.
struct Unit {
    span: Range<usize>,
    kv_head: usize,
    piece: usize,
    /// Where the records of its queries begin.
    record: usize,
}

// === impl Pieces ===

impl<'a> Pieces<'a> {
    /// Every piece of every span and key head. `None` if no context has two, or all are too many.
    pub fn new(operands: &'a Operands<'a>, spans: &[Range<usize>]) -> Option<Pieces<'a>> {
        let pieces = |span: &Range<usize>| operands.longest(span).div_ceil(PIECE_POSITIONS);
        let queries = |span: &Range<usize>| span.len() * operands.group();
        let heads = operands.cache.kv_heads();
        let records: usize = spans
            .iter()
            .map(|span| pieces(span) * queries(span) * heads)
            .sum();
        let numbers = records * record_len(operands.cache.head_dim());
        if numbers > NUMBERS_MAX || spans.iter().all(|span| pieces(span) < 2) {
            return None;
        }
        let (mut units, mut record) = (Vec::new(), 0);
        for span in spans {
            for unit in 0..heads * pieces(span) {
                units.push(Unit {
                    span: span.clone(),
                    kv_head: unit / pieces(span),
                    piece: unit % pieces(span),
                    record,
                });
                record += queries(span);
            }
        }
        Some(Pieces {
            operands,
            units,
            records,
        })
    }

    /// Attends in `wanted` tasks, or in as many as there are pieces.
    pub fn attend(&self, set: InstructionSet, pool: &ThreadPool, wanted: usize, out: &mut [f32]) {
        let (operands, units) = (self.operands, &self.units);
        let len = record_len(operands.cache.head_dim());
        let mut scratch = vec![0.0; self.records * len];
        let tasks = wanted.min(units.len());
        let shared = Disjoint::new(&mut scratch);
        pool.run(tasks, &|task| {
            let mut workspace = Workspace::new(operands.cache.head_dim());
            for unit in &units[units.len() * task / tasks..units.len() * (task + 1) / tasks] {
                let queries = unit.span.len() * operands.group();
                let of = unit.record * len..(unit.record + queries) * len;
                // SAFETY: the records of a unit belong to it, and a unit to one task.
                let records = unsafe { shared.slice(of) };
                operands.start(&mut workspace, unit.span.clone(), unit.kv_head);
                operands.attend_piece(set, &mut workspace, &unit.span, unit.kv_head, unit.piece);
                workspace.write_records(records);
            }
        });
        for pieces in units.chunk_by(|_, next| next.piece > 0) {
            self.finish(pieces, &mut scratch, out);
        }
    }

    /// Folds the pieces of one span and key head, of which a query takes those that it sees.
    fn finish(&self, pieces: &[Unit], scratch: &mut [f32], out: &mut [f32]) {
        let head_dim = self.operands.cache.head_dim();
        let len = record_len(head_dim);
        let queries = self
            .operands
            .queries_of(pieces[0].span.clone(), pieces[0].kv_head);
        for (query, (row, start)) in queries.enumerate() {
            let at = |unit: &Unit| (unit.record + query) * len;
            let (whole, later) = scratch[at(&pieces[0])..].split_at_mut(len);
            let begin = at(&pieces[0]) + len;
            let seen = self.operands.rows[row].context.div_ceil(PIECE_POSITIONS);
            for unit in &pieces[1..seen] {
                Partial::read(&later[at(unit) - begin..][..len]).fold_into(whole);
            }
            Partial::read(whole).finish(&mut out[start..start + head_dim]);
        }
    }
}
