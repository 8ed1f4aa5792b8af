//! The gate of a feed-forward layer: silu(gate) * up, with silu(x) = x / (1 + e^-x).

use crate::instruction_set::versions;
use crate::{InstructionSet, exp};

/// Writes `silu(gate) * up`, element by element. Relative error below 1e-6.
///
/// # Panics
/// If the lengths differ.
pub fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(
        gate.len() == up.len() && gate.len() == out.len(),
        "gate, up and out have one length"
    );
    swiglu_elements(InstructionSet::best(), gate, up, out);
}

versions! {
    fn swiglu_elements(gate: &[f32], up: &[f32], out: &mut [f32]) = swiglu_loop;
}

#[inline(always)]
fn swiglu_loop(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate / (1.0 + exp(-gate)) * up;
    }
}
