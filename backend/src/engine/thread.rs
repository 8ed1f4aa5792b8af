//! The model thread. It sleeps while there is nothing to do; otherwise it takes in new requests and
//! gives every model with work an equal share of each step's budget, so that none starves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use farthing_kernels::ThreadPool;

use super::EngineConfig;
use super::handle::{Command, EngineHandle, unavailable};
use super::metrics::Counters;
use super::request::EngineEvent;
use super::runner::Runner;
use crate::liveness::liveness;
use crate::model::LoadedModel;

/// Starts the thread and returns the way into it.
pub(super) fn start(models: Vec<LoadedModel>, config: EngineConfig) -> EngineHandle {
    let config = EngineConfig {
        threads: config.threads.max(1),
        step_tokens: config.step_tokens.max(models.len()).max(1),
        running_max: config.running_max.max(1),
        queue_max: config.queue_max.max(1),
        speculation: config.speculation,
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
    let model_thread = ModelThread {
        runners: runners
            .into_iter()
            .map(|(info, runner)| (info.id.clone(), runner))
            .collect(),
        commands: receiver,
        stop: Arc::clone(&stop),
        step_tokens: config.step_tokens,
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
    step_tokens: usize,
}

// === impl ModelThread ===

impl ModelThread {
    /// Works until it is stopped or all handles are gone and all requests have ended.
    fn run(mut self, pool: &ThreadPool) {
        while !self.stop.load(Ordering::Acquire) {
            let busy = self
                .runners
                .iter()
                .filter(|(_, runner)| !runner.is_idle())
                .count();
            if busy == 0 {
                match self.commands.recv() {
                    Ok(command) => self.handle(command),
                    Err(_) => return,
                }
                continue;
            }
            let share = (self.step_tokens / busy).max(1);
            for index in 0..self.runners.len() {
                self.receive();
                let (_, runner) = &mut self.runners[index];
                if !runner.is_idle() {
                    runner.step(pool, share);
                }
            }
        }
        self.refuse_all();
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
