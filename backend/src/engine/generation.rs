//! The requests of one model: which are in the scheduler, what their clients were told, and what
//! happens when a token comes, a client leaves or something fails.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_core::error::ApiError;
use farthing_core::limits;
use farthing_core::wire::{FinishReason, Usage};
use farthing_kernels::ThreadPool;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use super::Speculation;
use super::answer::{Answer, Progress};
use super::block_pool::BlockHash;
use super::drafter::Wish;
use super::handle::Submission;
use super::lookup::Guesses;
use super::metrics::Counters;
use super::priority::due_ms;
use super::request::{EngineEvent, GenerateRequest};
use super::scheduler::{Chunk, Scheduler};
use super::sequence::{Sequence, SequenceId};
use super::turn::{Output, Turn, Turns};
use crate::model::ModelInfo;

/// All requests of one model.
pub(super) struct Generations {
    info: Arc<ModelInfo>,
    pub(super) scheduler: Scheduler,
    /// By number, which is the order of arrival.
    requests: BTreeMap<u64, Generation>,
    next_request: u64,
    turns: Turns,
    speculation: Speculation,
    /// Guesses for each sequence while so many run.
    guesses_max: usize,
    counters: Arc<Counters>,
}

/// One request. Its first choice is prefilled alone; the others start when the prompt is in the
/// prefix cache, so that it is computed once.
struct Generation {
    events: UnboundedSender<EngineEvent>,
    /// Given back when the request leaves the queue.
    place: Option<OwnedSemaphorePermit>,
    request: GenerateRequest,
    root: BlockHash,
    due_ms: u64,
    tokens_max: usize,
    /// One a choice that has started.
    answers: Vec<Answer>,
    /// As `answers`.
    guesses: Vec<Guesses>,
    speculation: Speculation,
    /// Choices that have not finished, started or not.
    open: usize,
    usage: Usage,
}

// === impl Generations ===

impl Generations {
    pub(super) fn new(
        info: Arc<ModelInfo>,
        scheduler: Scheduler,
        speculation: Speculation,
        counters: Arc<Counters>,
    ) -> Generations {
        counters.blocks_total.set(scheduler.pool().total());
        Generations {
            info,
            scheduler,
            requests: BTreeMap::new(),
            next_request: 0,
            turns: Turns::default(),
            speculation,
            guesses_max: 0,
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
            tokens_max: request.max_tokens.clamp(1, room.max(1)),
            answers: Vec::new(),
            guesses: Vec::new(),
            speculation: self.speculation,
            open: request.choices(),
            usage: Usage {
                prompt_tokens: request.prompt.len() as u64,
                ..Usage::default()
            },
            request,
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
            let prompt_tokens = generation.request.prompt.len();
            self.counters.prompt_tokens.add(prompt_tokens);
        }
    }

    /// Samples the next tokens of every sequence whose logits are here, each by itself, and tells
    /// the clients.
    pub(super) fn sample(&mut self, pool: &ThreadPool, outputs: Vec<Output<'_>>) {
        let rows = limits::ENGINE_VERIFY_ROWS / self.scheduler.running_len().max(1);
        self.guesses_max = rows.saturating_sub(1);
        let turns = turns(&mut self.requests, &self.scheduler, outputs);
        for (chunk, progress) in self.turns.take(pool, &self.info.tokenizer, turns) {
            match progress {
                Ok(progress) => self.progressed(&chunk, progress),
                Err(error) => self.fail(chunk.id.request(), error),
            }
        }
    }

    /// A sequence went on: its client is told, and the scheduler.
    fn progressed(&mut self, chunk: &Chunk, progress: Progress) {
        let id = chunk.id;
        let Some(generation) = self.requests.get_mut(&id.request()) else {
            return;
        };
        if id.choice() == 0 && generation.usage.completion_tokens == 0 {
            let cached_tokens = generation.usage.cached_tokens as usize;
            generation.send(EngineEvent::Prefilled { cached_tokens });
            while generation.answers.len() < generation.request.choices() {
                self.scheduler.add(generation.next_choice(id.request()));
            }
        }
        let tokens = progress.tokens.len();
        generation.usage.completion_tokens += tokens as u64;
        self.counters.generated_tokens.add(tokens);
        self.counters.draft_tokens.add(chunk.drafts);
        self.counters.accepted_tokens.add(progress.accepted);
        self.scheduler.computed(chunk, progress.accepted);
        for &token in &progress.tokens[progress.accepted..] {
            self.scheduler.append(id, token);
        }
        if let Some(guesses) = generation.guesses.get_mut(id.choice()) {
            let accepted = progress.accepted;
            guesses.pace.verified(tokens, chunk.drafts, accepted);
        }
        let finished = progress.finished;
        generation.tell(id.choice(), progress);
        match finished {
            Some(reason) => self.finished(id, reason),
            None => self.look_up(id),
        }
    }

    /// Guesses how a sequence goes on from what it has said before.
    fn look_up(&mut self, id: SequenceId) {
        let guesses = self.requests.get_mut(&id.request());
        let guesses = guesses.and_then(|generation| generation.guesses.get_mut(id.choice()));
        let (Some(guesses), Some(sequence)) = (guesses, self.scheduler.running(id)) else {
            return;
        };
        let tokens = guesses.look_up(sequence.tokens(), self.guesses_max);
        if !tokens.is_empty() {
            self.scheduler.draft(id, &tokens);
        }
    }

    /// The sequences that decode and have no guesses yet.
    pub(super) fn wishes(&self) -> Vec<Wish> {
        let mut wishes = Vec::new();
        for (&number, generation) in &self.requests {
            for (choice, guesses) in generation.guesses.iter().enumerate() {
                let id = SequenceId::new(generation.due_ms, number, choice);
                let count = guesses.pace.tokens().min(self.guesses_max);
                let Some(sequence) = self.scheduler.running(id) else {
                    continue;
                };
                if count > 0 && sequence.pending() == 1 && sequence.drafts().is_empty() {
                    let tokens = sequence.tokens().to_vec();
                    wishes.push(Wish { id, tokens, count });
                }
            }
        }
        wishes
    }

    /// A choice has ended, and with the last one its request.
    fn finished(&mut self, id: SequenceId, reason: FinishReason) {
        let Some(generation) = self.requests.get_mut(&id.request()) else {
            return;
        };
        let answer = generation.answers.get(id.choice());
        let generated = answer.map_or(0, Answer::generated);
        self.scheduler.finish(id, generated);
        generation.send(EngineEvent::Finished {
            choice: id.choice(),
            reason,
        });
        generation.open -= 1;
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

    /// Ends one request with an error.
    fn fail(&mut self, number: u64, error: ApiError) {
        if let Some(generation) = self.requests.get(&number) {
            generation.send(EngineEvent::Failed(error));
            self.end(number);
            self.counters.failed.add(1);
        }
    }

    /// Ends every request with an error.
    pub(super) fn fail_all(&mut self, error: &ApiError) {
        while let Some((&number, _)) = self.requests.first_key_value() {
            self.fail(number, error.clone());
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
        let answer = Answer::new(&self.request, choice, self.tokens_max);
        self.answers.push(answer);
        self.guesses.push(Guesses::new(self.speculation));
        Sequence::new(
            SequenceId::new(self.due_ms, number, choice),
            self.request.tier,
            self.request.prompt.clone(),
            self.root,
            self.tokens_max,
        )
    }

    /// Tells the client what a step brought, if it brought anything to be seen.
    fn tell(&self, choice: usize, progress: Progress) {
        let Progress {
            text,
            logprobs,
            confidence,
            ..
        } = progress;
        if !text.is_empty() || !logprobs.is_empty() || !confidence.is_empty() {
            self.send(EngineEvent::Delta {
                choice,
                text,
                logprobs,
                confidence,
            });
        }
    }

    /// Tells the client. One that has left is noticed before the next step.
    fn send(&self, event: EngineEvent) {
        let _ = self.events.send(event);
    }
}

/// The answers that go on, with their logits.
fn turns<'a>(
    requests: &'a mut BTreeMap<u64, Generation>,
    scheduler: &'a Scheduler,
    mut outputs: Vec<Output<'a>>,
) -> Vec<Turn<'a>> {
    // Both in the order of requests and choices, which is not that of service.
    let place = |output: &Output<'_>| (output.chunk.id.request(), output.chunk.id.choice());
    outputs.sort_unstable_by_key(place);
    let mut outputs = outputs.into_iter().peekable();
    let mut turns = Vec::with_capacity(outputs.len());
    for (&number, generation) in requests {
        for (choice, answer) in generation.answers.iter_mut().enumerate() {
            let here = (number, choice);
            while outputs.next_if(|output| place(output) < here).is_some() {}
            let Some(output) = outputs.next_if(|output| place(output) == here) else {
                continue;
            };
            let sequence = scheduler.running(output.chunk.id);
            let drafts = sequence.map_or(&[][..], Sequence::drafts);
            turns.push(Turn::new(output, drafts, answer));
        }
    }
    turns
}
