//! What a query makes of some positions, and how two such results become one.

use crate::exp;
use crate::lanes::larger;

/// The softmax over some positions, before the division by its weights.
pub(super) struct Partial<'a> {
    /// The largest score.
    pub maximum: f32,
    /// The sum of the weights, relative to it.
    pub weight: f32,
    /// The values in these weights.
    pub values: &'a [f32],
}

/// Numbers of a record beside the values: maximum and weight.
const HEADER: usize = 2;

/// Numbers that a partial result is kept as.
pub(super) fn record_len(head_dim: usize) -> usize {
    HEADER + head_dim
}

// === impl Partial ===

impl<'a> Partial<'a> {
    pub fn read(record: &'a [f32]) -> Partial<'a> {
        let (header, values) = record.split_at(HEADER);
        Partial {
            maximum: header[0],
            weight: header[1],
            values,
        }
    }

    pub fn write(&self, record: &mut [f32]) {
        let (header, values) = record.split_at_mut(HEADER);
        header.copy_from_slice(&[self.maximum, self.weight]);
        values.copy_from_slice(self.values);
    }

    /// Adds this to the record of earlier positions.
    pub fn fold_into(&self, record: &mut [f32]) {
        let (header, values) = record.split_at_mut(HEADER);
        let maximum = larger(header[0], self.maximum);
        // Without a score that is a number there is no maximum to subtract.
        let shift = if maximum == f32::NEG_INFINITY {
            0.0
        } else {
            maximum
        };
        let (kept, added) = (exp(header[0] - shift), exp(self.maximum - shift));
        header.copy_from_slice(&[maximum, header[1] * kept + self.weight * added]);
        for (value, later) in values.iter_mut().zip(self.values) {
            *value = *value * kept + later * added;
        }
    }

    /// Writes the values over their weights.
    pub fn finish(&self, out: &mut [f32]) {
        let share = 1.0 / self.weight;
        for (out, value) in out.iter_mut().zip(self.values) {
            *out = value * share;
        }
    }
}
