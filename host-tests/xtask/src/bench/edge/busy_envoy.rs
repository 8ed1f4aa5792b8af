//! An Envoy that answers by itself as fast as it can, for what is measured beside it.

use super::lab::{self, Arm, CONNECTIONS, Lab};
use crate::bench::load::Load;
use crate::error::XtaskError;
use crate::signals::Interrupt;
use std::time::Duration;

/// How long one measurement takes.
const TIME: Duration = Duration::from_secs(2);

/// Envoy and what sends to it.
pub struct BusyEnvoy {
    lab: Lab,
    arm: Arm,
}

/// Starts it; it rests until it is measured.
pub fn start(interrupt: &Interrupt) -> Result<BusyEnvoy, XtaskError> {
    let lab = Lab::start(interrupt)?;
    let arm = lab.direct(lab::repeated_chat());
    Ok(BusyEnvoy { lab, arm })
}

// === impl BusyEnvoy ===

impl BusyEnvoy {
    /// Requests a second, as many as it can answer.
    pub fn requests_per_s(&mut self) -> Result<f64, XtaskError> {
        let load = Load::at_limit(CONNECTIONS, TIME);
        Ok(self.lab.measure(&self.arm, load)?.per_s())
    }
}
