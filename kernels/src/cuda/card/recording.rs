//! Launches that are recorded once and replayed, and how long a replay takes.

use super::driver::sys::{CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode};
use super::driver::{CudaEvent, CudaGraph};
use super::{Card, CudaError, refused};

/// How long the replays of one timing shall take together.
const TIMED_US: f64 = 60_000.0;
/// How many they are: enough for a median, and not so many that short ones take long to queue.
const REPLAYS_MIN: usize = 9;
const REPLAYS_MAX: usize = 200;

impl Card {
    /// Records what `calls` queues and replays it many times back to back. Answers microseconds of
    /// each replay. What is replayed must have run before, so that everything is loaded; memory
    /// can be neither made nor given back while it is recorded.
    ///
    /// # Errors
    /// A call fails, or the device does.
    pub fn replays_us(
        &mut self,
        calls: &mut dyn FnMut(&mut Card) -> Result<(), CudaError>,
    ) -> Result<Vec<f64>, CudaError> {
        let graph = self.record(calls)?;
        let once = self.timed(&graph, 1)?;
        let replays = TIMED_US / once[0].max(1.0);
        let replays = (replays as usize).clamp(REPLAYS_MIN, REPLAYS_MAX);
        self.timed(&graph, replays)
    }

    fn record(
        &mut self,
        calls: &mut dyn FnMut(&mut Card) -> Result<(), CudaError>,
    ) -> Result<CudaGraph, CudaError> {
        self.stream
            .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
            .map_err(refused("record launches"))?;
        let called = calls(self);
        // A stream that records does nothing else, so it must end even after a failure.
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        called?;
        let graph = graph.map_err(refused("record launches"))?;
        graph.ok_or_else(|| CudaError::Driver {
            action: "record launches".to_string(),
            reason: "there were none".to_string(),
        })
    }

    /// Microseconds of each of so many replays. All are queued before the first is waited for, and
    /// one more goes ahead, so that the device never waits for the host between two events.
    fn timed(&mut self, graph: &CudaGraph, replays: usize) -> Result<Vec<f64>, CudaError> {
        let replay = || graph.launch().map_err(refused("replay launches"));
        replay()?;
        let mut events = vec![self.mark()?];
        for _ in 0..replays {
            replay()?;
            events.push(self.mark()?);
        }
        self.wait()?;
        let elapsed = events.windows(2).map(|pair| pair[0].elapsed_ms(&pair[1]));
        elapsed
            .map(|ms| Ok(f64::from(ms.map_err(refused("tell the time"))?) * 1_000.0))
            .collect()
    }

    /// An event that knows when everything queued before it was done.
    fn mark(&self) -> Result<CudaEvent, CudaError> {
        self.stream
            .record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))
            .map_err(refused("record an event"))
    }
}
