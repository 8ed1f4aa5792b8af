//! The model thread. It sleeps while there is nothing to do; otherwise it takes in new requests and
//! lets the model step that has had the least time for its weight, so that none starves. A step's
//! budget of tokens, and the time that decoding sequences can spare for prefill, are shared equally
//! among the models with work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use farthing_kernels::ThreadPool;

use super::EngineConfig;
use super::fair_share::FairShare;
use super::handle::{Command, EngineHandle, unavailable};
use super::metrics::Counters;
use super::request::EngineEvent;
use super::runner::{Load, Runner};
use crate::liveness::liveness;
use crate::model::{LoadedModel, ModelInfo};

/// Starts the thread and returns the way into it.
pub(super) fn start(models: Vec<LoadedModel>, config: EngineConfig) -> EngineHandle {
    let config = EngineConfig {
        threads: config.threads.max(1),
        step_tokens: config.step_tokens.max(models.len()).max(1),
        running_max: config.running_max.max(1),
        queue_max: config.queue_max.max(1),
        ..config
    };
    // Every queued request has a place, so the channel never fills before the places run out.
    let (commands, receiver) = sync_channel(config.queue_max + 1);
    let stop = Arc::new(AtomicBool::new(false));
    let mut known = Vec::with_capacity(models.len());
    let mut runners = Vec::with_capacity(models.len());
    for model in models {
        let counters = Arc::new(Counters::default());
        known.push((Arc::clone(&model.info), Arc::clone(&counters)));
        runners.push((
            Arc::clone(&model.info),
            Runner::new(model, &config, counters),
        ));
    }
    let weight = |(info, _): &(Arc<ModelInfo>, _)| config.weights.get(&info.id).copied();
    let model_thread = ModelThread {
        fair_share: FairShare::new(known.iter().map(|known| weight(known).unwrap_or(1))),
        runners: runners
            .into_iter()
            .map(|(info, runner)| (info.id.clone(), runner))
            .collect(),
        commands: receiver,
        stop: Arc::clone(&stop),
        step_tokens: config.step_tokens,
        decode_latency: config.decode_latency,
    };
    let threads = config.threads;
    let (life, liveness) = liveness();
    let thread = thread::Builder::new()
        .name("model".to_owned())
        .spawn(move || {
            let _life = life;
            model_thread.run(&ThreadPool::new(threads));
        })
        .expect("a process that is starting can have one more thread");
    EngineHandle::new(known, commands, config.queue_max, stop, (thread, liveness))
}

/// What the thread owns.
struct ModelThread {
    /// With the id that requests name.
    runners: Vec<(String, Runner)>,
    commands: Receiver<Command>,
    stop: Arc<AtomicBool>,
    fair_share: FairShare,
    step_tokens: usize,
    decode_latency: Option<Duration>,
}

/// What a step may take beyond decoding, as a share of the time without prefill. Below one, as
/// steps vary: so nearly all tokens come within twice the usual time.
const PREFILL_SHARE: f64 = 0.75;

/// What all models together may take for prefill beside one step of each that decodes. None if none
/// does: then nobody waits for a token. Where more sequences wait for their first token than for
/// their next, the former get as much more of the time.
fn prefill_time(load: Load, decode_latency: Option<Duration>) -> Option<Duration> {
    if load.decoding == 0 {
        return None;
    }
    let crowd = (load.prompts as f64 / load.decoding as f64).max(1.0);
    Some(match decode_latency {
        Some(latency) => latency.saturating_sub(load.decode_time),
        None => load.decode_time.mul_f64(PREFILL_SHARE * crowd),
    })
}

// === impl ModelThread ===

impl ModelThread {
    /// Works until it is stopped or all handles are gone and all requests have ended.
    fn run(mut self, pool: &ThreadPool) {
        while !self.stop.load(Ordering::Acquire) {
            self.receive();
            let is_busy = |index: usize| !self.runners[index].1.is_idle();
            let Some(index) = self.fair_share.next(is_busy) else {
                match self.commands.recv() {
                    Ok(command) => self.handle(command),
                    Err(_) => return,
                }
                continue;
            };
            let busy = (0..self.runners.len()).filter(|&at| is_busy(at)).count();
            let tokens = (self.step_tokens / busy).max(1);
            let prefill_time = prefill_time(self.load(), self.decode_latency);
            let prefill_time = prefill_time.map(|time| time / busy as u32);
            let started = Instant::now();
            self.runners[index].1.step(pool, tokens, prefill_time);
            self.fair_share.charge(index, started.elapsed());
        }
        self.refuse_all();
    }

    /// What there is to do for all models together.
    fn load(&self) -> Load {
        let mut sum = Load::default();
        for (_, runner) in &self.runners {
            let load = runner.load();
            sum.decoding += load.decoding;
            sum.prompts += load.prompts;
            sum.decode_time += load.decode_time;
        }
        sum
    }

    /// Takes in what has arrived, without waiting.
    fn receive(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.handle(command);
        }
    }

    fn handle(&mut self, command: Command) {
        let Command::Generate(submission) = command else {
            return;
        };
        let id = &submission.request.model;
        // The handle only lets known models through.
        if let Some((_, runner)) = self.runners.iter_mut().find(|(known, _)| known == id) {
            runner.submit(*submission);
        }
    }

    /// Tells everyone who still waits that there will be no more.
    fn refuse_all(&mut self) {
        for (_, runner) in &mut self.runners {
            runner.fail_all(&unavailable());
        }
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Generate(submission) = command {
                let _ = submission.events.send(EngineEvent::Failed(unavailable()));
            }
        }
    }
}
