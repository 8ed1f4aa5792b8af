//! The gate of a feed-forward layer: silu(gate) * up, with silu(x) = x / (1 + e^-x).

use crate::instruction_set::versions;
use crate::{InstructionSet, exp};

/// Replaces `gate` by `silu(gate) * up`, element by element. Relative error below 1e-6.
///
/// # Panics
/// If the lengths differ.
pub fn swiglu(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate and up have one length");
    swiglu_elements(InstructionSet::best(), gate, up);
}

versions! {
    fn swiglu_elements(gate: &mut [f32], up: &[f32]) = swiglu_loop;
}

#[inline(always)]
fn swiglu_loop(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}
