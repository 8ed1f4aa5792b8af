//! How rows of activations lie in memory: a few rows interleaved, block by block.
//!
//! A multiplication takes up to eight rows at once. In a *panel* their blocks follow each other in
//! the order in which it reads them, `[block][row][...]`, so that one pointer and fixed distances
//! reach all of them.

use std::ops::Range;

use crate::block::BLOCK;

/// Rows of a panel at most: their sums fill the registers of a multiplication.
pub(crate) const PANEL_ROWS_MAX: usize = 8;

/// Where a panel lies among the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PanelRows {
    pub first: usize,
    /// 1, 2, 4 or 8.
    pub count: usize,
}

/// A panel's part of every buffer.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a> {
    pub rows: PanelRows,
    pub cols: usize,
    /// Blocks of a row.
    pub blocks: usize,
    /// `[rows, padded cols]`, row after row; empty if values are not kept.
    pub values: &'a [f32],
    /// `[blocks, rows, 32]`.
    pub quants: &'a [i8],
    /// `[blocks, rows]`, as `sums` and `offsets`.
    pub scales: &'a [f32],
    pub sums: &'a [f32],
    pub offsets: &'a [i32],
    /// `[blocks, 2, rows]`.
    pub half_offsets: &'a [i32],
}

/// Panels that `rows` rows make: as many of eight as there are, then what is left as 4, 2 and 1.
pub(crate) fn panel_count(rows: usize) -> usize {
    rows / PANEL_ROWS_MAX + (rows % PANEL_ROWS_MAX).count_ones() as usize
}

/// The rows of panel `index` of `rows` rows.
pub(crate) fn panel_rows(rows: usize, index: usize) -> PanelRows {
    let whole = rows / PANEL_ROWS_MAX;
    if index < whole {
        return PanelRows {
            first: index * PANEL_ROWS_MAX,
            count: PANEL_ROWS_MAX,
        };
    }
    let mut panel = PanelRows {
        first: whole * PANEL_ROWS_MAX,
        count: 0,
    };
    let mut left = rows % PANEL_ROWS_MAX;
    for _ in whole..=index {
        panel.first += panel.count;
        panel.count = largest_panel(left);
        left -= panel.count;
    }
    panel
}

/// The largest panel of at most `left` rows, none if there are none.
fn largest_panel(left: usize) -> usize {
    match left {
        8.. => 8,
        4.. => 4,
        2.. => 2,
        left => left,
    }
}

// === impl PanelRows ===

impl PanelRows {
    /// This panel's part of a buffer that has `width` elements a row.
    pub fn of(self, width: usize) -> Range<usize> {
        self.first * width..(self.first + self.count) * width
    }
}

// === impl Panel ===

impl Panel<'_> {
    /// The quants of one row's block.
    pub fn block_quants(&self, block: usize, row: usize) -> &[i8] {
        &self.quants[(block * self.rows.count + row) * BLOCK..][..BLOCK]
    }

    /// Asserts the extents that the SIMD versions rely on.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[inline(always)]
    pub fn check(&self) {
        let count = self.blocks * self.rows.count;
        assert!(
            self.quants.len() == count * BLOCK
                && self.scales.len() == count
                && self.sums.len() == count
                && self.offsets.len() == count
                && self.half_offsets.len() == 2 * count,
            "a panel is as long as its rows"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{PanelRows, panel_count, panel_rows};

    #[test]
    fn panels_cover_every_row_once_and_in_order() {
        for rows in 0..100 {
            let mut next = 0;
            for index in 0..panel_count(rows) {
                let PanelRows { first, count } = panel_rows(rows, index);
                assert!(
                    first == next && [1, 2, 4, 8].contains(&count),
                    "{rows} {index}"
                );
                next += count;
            }
            assert_eq!(next, rows);
        }
    }
}
