//! The requests of one model: which are in the scheduler, what their clients were told, and what
//! happens when a token comes, a client leaves or something fails.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_core::error::ApiError;
use farthing_core::price::ServiceTier;
use farthing_core::wire::{Sampling, Usage};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use super::answer::Answer;
use super::block_pool::BlockHash;
use super::handle::Submission;
use super::metrics::Counters;
use super::priority::due_ms;
use super::request::EngineEvent;
use super::sampler::SamplerScratch;
use super::scheduler::Scheduler;
use super::sequence::{Sequence, SequenceId};
use crate::model::ModelInfo;

/// All requests of one model.
pub(super) struct Generations {
    info: Arc<ModelInfo>,
    pub(super) scheduler: Scheduler,
    /// By number, which is the order of arrival.
    requests: BTreeMap<u64, Generation>,
    next_request: u64,
    scratch: SamplerScratch,
    counters: Arc<Counters>,
}

/// One request. Its first choice is prefilled alone; the others start when the prompt is in the
/// prefix cache, so that it is computed once.
struct Generation {
    events: UnboundedSender<EngineEvent>,
    /// Given back when the request leaves the queue.
    place: Option<OwnedSemaphorePermit>,
    prompt: Vec<u32>,
    root: BlockHash,
    due_ms: u64,
    tier: ServiceTier,
    sampling: Sampling,
    tokens_max: usize,
    /// One a choice that has started.
    answers: Vec<Answer>,
    /// Choices that have not finished, started or not.
    open: usize,
    usage: Usage,
}

// === impl Generations ===

impl Generations {
    pub(super) fn new(
        info: Arc<ModelInfo>,
        scheduler: Scheduler,
        counters: Arc<Counters>,
    ) -> Generations {
        counters.blocks_total.set(scheduler.pool().total());
        Generations {
            info,
            scheduler,
            requests: BTreeMap::new(),
            next_request: 0,
            scratch: SamplerScratch::default(),
            counters,
        }
    }

    /// Queues a request that the handle has checked. Time is that of this model's clock.
    pub(super) fn submit(&mut self, submission: Submission, now_ms: u64) {
        let Submission {
            request,
            events,
            place,
        } = submission;
        let room = self.info.context_tokens - request.prompt.len();
        let number = self.next_request;
        self.next_request += 1;
        let generation = Generation {
            events,
            place: Some(place),
            // No adapters are loaded, so every request means the model itself.
            root: BlockHash::root(&self.info.id, None, &request.cache_salt),
            due_ms: due_ms(now_ms, request.tier, request.prompt.len()),
            tier: request.tier,
            tokens_max: request.max_tokens.clamp(1, room.max(1)),
            answers: Vec::new(),
            open: usize::from(request.sampling.n.max(1)),
            usage: Usage {
                prompt_tokens: request.prompt.len() as u64,
                ..Usage::default()
            },
            sampling: request.sampling,
            prompt: request.prompt,
        };
        let generation = self.requests.entry(number).or_insert(generation);
        self.scheduler.add(generation.next_choice(number));
    }

    /// Forgets the requests whose clients have left, running or waiting, and frees their blocks.
    pub(super) fn drop_aborted(&mut self) {
        let aborted: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, generation)| generation.events.is_closed())
            .map(|(number, _)| *number)
            .collect();
        for number in aborted {
            self.end(number);
            self.counters.aborted.add(1);
        }
    }

    /// A sequence has left the queue. Its request gives its place to another.
    pub(super) fn admitted(&mut self, id: SequenceId) {
        let Some(generation) = self.requests.get_mut(&id.request()) else {
            return;
        };
        if generation.place.take().is_some() {
            let cached = self.scheduler.running(id).map_or(0, Sequence::cached);
            generation.usage.cached_tokens = cached as u64;
            self.counters.cached_tokens.add(cached);
            self.counters.prompt_tokens.add(generation.prompt.len());
        }
    }

    /// Samples the next token of a sequence from its logits, and tells the client.
    pub(super) fn sample(&mut self, id: SequenceId, logits: &mut [f32]) {
        let Some(generation) = self.requests.get_mut(&id.request()) else {
            return;
        };
        let Some(answer) = generation.answers.get_mut(id.choice()) else {
            return;
        };
        let progress = answer.next(logits, &self.info.tokenizer, &mut self.scratch);
        let generated = answer.generated();
        if id.choice() == 0 && generation.usage.completion_tokens == 0 {
            let cached_tokens = generation.usage.cached_tokens as usize;
            generation.send(EngineEvent::Prefilled { cached_tokens });
            while generation.answers.len() < usize::from(generation.sampling.n) {
                self.scheduler.add(generation.next_choice(id.request()));
            }
        }
        generation.usage.completion_tokens += 1;
        self.counters.generated_tokens.add(1);
        if !progress.text.is_empty() || !progress.logprobs.is_empty() {
            generation.send(EngineEvent::Delta {
                choice: id.choice(),
                text: progress.text,
                logprobs: progress.logprobs,
            });
        }
        let Some(reason) = progress.finished else {
            return self.scheduler.append(id, progress.token);
        };
        generation.send(EngineEvent::Finished {
            choice: id.choice(),
            reason,
        });
        generation.open -= 1;
        self.scheduler.finish(id, generated);
        if generation.open == 0
            && let Some(generation) = self.requests.remove(&id.request())
        {
            // First, so that who has seen the end finds it in the metrics.
            self.counters.finished.add(1);
            self.observe();
            generation.send(EngineEvent::Done {
                usage: generation.usage,
            });
        }
    }

    /// Ends every request with an error.
    pub(super) fn fail_all(&mut self, error: &ApiError) {
        while let Some((&number, generation)) = self.requests.first_key_value() {
            generation.send(EngineEvent::Failed(error.clone()));
            self.end(number);
            self.counters.failed.add(1);
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// Brings the gauges up to date.
    pub(super) fn observe(&self) {
        let pool = self.scheduler.pool();
        self.counters.running.set(self.scheduler.running_len());
        self.counters.waiting.set(self.scheduler.waiting_len());
        self.counters.blocks_used.set(pool.total() - pool.free());
    }

    fn end(&mut self, number: u64) {
        if let Some(generation) = self.requests.remove(&number) {
            for choice in 0..generation.answers.len() {
                let id = SequenceId::new(generation.due_ms, number, choice);
                self.scheduler.remove(id);
            }
        }
    }
}

// === impl Generation ===

impl Generation {
    /// The sequence of the next choice.
    fn next_choice(&mut self, number: u64) -> Sequence {
        let choice = self.answers.len();
        self.answers.push(Answer::new(
            &self.sampling,
            choice,
            &self.prompt,
            self.tokens_max,
        ));
        Sequence::new(
            SequenceId::new(self.due_ms, number, choice),
            self.tier,
            self.prompt.clone(),
            self.root,
            self.tokens_max,
        )
    }

    /// Tells the client. One that has left is noticed before the next step.
    fn send(&self, event: EngineEvent) {
        let _ = self.events.send(event);
    }
}
