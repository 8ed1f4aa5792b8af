//! One request for a cascade on its way from model to model, and the answer that it ends with.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use farthing_core::error::ApiError;
use farthing_core::wire::stream::StreamWriter;
use farthing_core::wire::{self, Choice, Completed, FinishReason, Json, Usage, response};
use hyper::Response;
use tokio::sync::mpsc::UnboundedReceiver;

use super::cascade::{BYTES_PER_TOKEN, Cascaded, nobody};
use super::cascades::{Counts, TierModel};
use super::generate::{add_usage, answer_head, answer_prepared, engine_request, on_event};
use super::measure::Measure;
use super::overhead::Purpose;
use super::prompt;
use super::provided;
use super::reply::{self, ReplyBody};
use super::router::Call;
use super::stored::{self, Collecting, Keepers};
use super::stream::{EventStream, Shown};
use crate::cascade::policy::{Doubt, Step};
use crate::cascade::signals::{Judged, Trace, features, outlook};
use crate::engine::{Confidence, EngineEvent, thread_gone};
use crate::metrics::Operation;
use crate::model::ModelInfo;
use crate::provider::ProviderModel;

/// One request on its way from tier to tier.
pub struct Climb<'a> {
    call: Call<'a>,
    operation: Operation,
    cascaded: &'a Cascaded,
    /// Who was asked in vain.
    tried: Vec<usize>,
    /// The last whole answer, and whose it is.
    earlier: Option<(usize, String)>,
    /// Prompts by the model that they were made for.
    prompts: HashMap<usize, Vec<Vec<u32>>>,
}

/// What came of asking one tier.
enum Asked {
    Kept(Box<Kept>),
    /// The next tier.
    On(usize),
}

/// An answer for the client.
enum Kept {
    /// All that came of it, and where more of it may come from.
    Own {
        held: Vec<EngineEvent>,
        events: UnboundedReceiver<EngineEvent>,
        measure: Measure,
    },
    Provider(Completed),
}

impl<'a> Climb<'a> {
    pub fn new(call: Call<'a>, operation: Operation, cascaded: &'a Cascaded) -> Climb<'a> {
        Climb {
            call,
            operation,
            cascaded,
            tried: Vec::new(),
            earlier: None,
            prompts: HashMap::new(),
        }
    }

    /// Asks until an answer is worth keeping.
    ///
    /// # Errors
    /// What the dearest model failed for.
    pub async fn answer(mut self, keepers: Keepers) -> Result<Response<ReplyBody>, ApiError> {
        let cascade = &self.cascaded.cascade;
        let mut tier = self.start().await;
        while tier != cascade.plan.last() {
            let asked = match cascade.tiers.get(tier).ok_or_else(nobody)? {
                TierModel::Own(model) => self.ask_own(tier, model).await,
                TierModel::Provider(model) => self.ask_provider(tier, model).await,
            };
            match asked {
                Ok(Asked::Kept(kept)) => return self.keep(tier, *kept, keepers),
                Ok(Asked::On(next)) => tier = next,
                // Whatever it is, the dearest model has the last word.
                Err(_) => {
                    Counts::count(&cascade.counts.failed, tier);
                    let dearer = cascade.plan.tiers.iter().find(|next| **next > tier);
                    tier = dearer.copied().unwrap_or(cascade.plan.last());
                }
            }
        }
        let request = &self.cascaded.request;
        let response = match cascade.tiers.get(tier).ok_or_else(nobody)? {
            TierModel::Own(model) => {
                let prepared = self.prepare(tier, model).await?;
                answer_prepared(self.call, self.operation, prepared, keepers).await?
            }
            TierModel::Provider(model) => {
                let asked = (request, &self.cascaded.asker);
                provided::answer_as(self.call, self.operation, asked, model, keepers).await?
            }
        };
        Ok(self.tagged(tier, response))
    }

    /// The tier that is asked first.
    async fn start(&self) -> usize {
        let (cascaded, cascade) = (self.cascaded, &self.cascaded.cascade);
        let policy = cascade.policy();
        let first = policy.start(&cascaded.priors);
        let last = cascaded.request.messages().last();
        let (Some(router), Some(last)) = (&cascade.pre_router, last) else {
            return first;
        };
        // It costs an embedding, and there is nothing to choose.
        if first == cascade.plan.last() {
            return first;
        }
        let prompt_tokens = (cascaded.prompt_bytes / BYTES_PER_TOKEN) as u64;
        match router.expects(&last.content, self.call.overhead).await {
            Some(expected) if !policy.is_worth_asking(first, expected, prompt_tokens) => {
                cascade.counts.pre_routed.fetch_add(1, Relaxed);
                cascade.plan.last()
            }
            _ => first,
        }
    }

    /// The prompt in the tokens of a model: those of a model before it, if they have the same.
    async fn prepare(
        &mut self,
        tier: usize,
        model: &Arc<ModelInfo>,
    ) -> Result<prompt::Prepared, ApiError> {
        let tiers = &self.cascaded.cascade.tiers;
        let shares = |earlier: &usize| match tiers.get(*earlier) {
            Some(TierModel::Own(earlier)) => earlier.prompts_alike(model),
            _ => false,
        };
        let known = self.prompts.iter().find(|(earlier, _)| shares(earlier));
        let known = known.map(|(_, prompts)| prompts.clone());
        let request = self.cascaded.request.clone();
        let (state, model) = (Arc::clone(self.call.state), Arc::clone(model));
        let prepared = prompt::aside(self.call.state, move || {
            prompt::encode_with(&state, request, model, known)
        });
        let prepared = prepared.await?;
        self.prompts.insert(tier, prepared.prompts.clone());
        Ok(prepared)
    }

    /// Asks a model of ours, and looks at its answer after some tokens and at its end.
    async fn ask_own(&mut self, tier: usize, model: &Arc<ModelInfo>) -> Result<Asked, ApiError> {
        let prepared = self.prepare(tier, model).await?;
        let prompt = prepared.prompts.first().ok_or_else(nobody)?;
        let request = engine_request(self.call, &prepared, prompt, Confidence::Report);
        let prompt_tokens = prompt.len() as u64;
        let mut events = self.call.state.engine.submit(request)?;
        let mut measure = self.call.measure(self.operation, &model.id, 1);
        let (mut held, mut trace) = (Vec::new(), Trace::default());
        let mut is_judged_early = false;
        loop {
            let event = events
                .recv()
                .await
                .unwrap_or_else(|| EngineEvent::Failed(thread_gone()));
            let mut usage = None;
            match &event {
                EngineEvent::Delta {
                    text, confidence, ..
                } => {
                    trace.push(text, confidence);
                    measure.token();
                }
                EngineEvent::Finished { reason, .. } => {
                    trace.is_complete = *reason == FinishReason::Stop;
                    is_judged_early = true;
                }
                EngineEvent::Done { usage: done } => usage = Some(*done),
                EngineEvent::Failed(error) => {
                    measure.failed();
                    return Err(error.clone());
                }
                EngineEvent::Prefilled { .. } => {}
            }
            held.push(event);
            if let Some(usage) = usage {
                return Ok(self.judge_own(tier, usage, trace, (held, events, measure)));
            }
            let calibration = &self.cascaded.cascade.calibration;
            if !is_judged_early && trace.tokens.len() >= calibration.early_tokens {
                is_judged_early = true;
                match self.judge_early(tier, prompt_tokens, &trace) {
                    Early::Wait => {}
                    Early::Keep => {
                        return Ok(Asked::Kept(Box::new(Kept::Own {
                            held,
                            events,
                            measure,
                        })));
                    }
                    Early::On(next) => {
                        measure.completed(Usage {
                            prompt_tokens,
                            completion_tokens: trace.tokens.len() as u64,
                            ..Usage::default()
                        });
                        return Ok(Asked::On(next));
                    }
                }
            }
        }
    }

    /// What the first tokens of an answer lead to.
    fn judge_early(&mut self, tier: usize, prompt_tokens: u64, trace: &Trace) -> Early {
        let cascade = &self.cascaded.cascade;
        let Some(known) = cascade.calibration.tiers.get(tier) else {
            return Early::Wait;
        };
        let p_wrong = known.early.p_wrong(&features(&Judged {
            prompt_bytes: self.cascaded.prompt_bytes,
            text: &trace.text,
            tokens: &trace.tokens,
            is_complete: false,
            earlier: None,
            classes: &cascade.calibration.classes,
        }));
        let policy = cascade.policy();
        if let Some(next) = policy.early(tier, p_wrong, prompt_tokens) {
            Counts::count(&cascade.counts.abandoned, tier);
            self.waste(tier, prompt_tokens, trace.tokens.len() as u64);
            // What there is of the answer is compared with nothing.
            self.earlier = None;
            return Early::On(next);
        }
        // A client who waits for the first tokens can have them, as this answer will be kept.
        match policy.done(tier, Doubt::alone(p_wrong), prompt_tokens) {
            Step::Keep if self.cascaded.request.stream => Early::Keep,
            _ => Early::Wait,
        }
    }

    /// What the whole answer leads to.
    fn judge_own(
        &mut self,
        tier: usize,
        usage: Usage,
        trace: Trace,
        (held, events, mut measure): (Vec<EngineEvent>, UnboundedReceiver<EngineEvent>, Measure),
    ) -> Asked {
        match self.judge(tier, usage, &trace) {
            Step::Keep => Asked::Kept(Box::new(Kept::Own {
                held,
                events,
                measure,
            })),
            Step::Ask(next) => {
                measure.completed(usage);
                self.earlier = Some((tier, trace.text));
                Asked::On(next)
            }
        }
    }

    /// Judges a whole answer; one that is not kept is counted as wasted.
    fn judge(&mut self, tier: usize, usage: Usage, trace: &Trace) -> Step {
        let cascade = &self.cascaded.cascade;
        let earlier = self.earlier.as_ref();
        let known = cascade.calibration.tiers.get(tier);
        let head = known.and_then(|tier| tier.done_after(earlier.map(|(tier, _)| *tier)));
        let judged = |earlier| {
            features(&Judged {
                prompt_bytes: self.cascaded.prompt_bytes,
                text: &trace.text,
                tokens: &trace.tokens,
                is_complete: trace.is_complete,
                earlier,
                classes: &cascade.calibration.classes,
            })
        };
        let outlook = outlook(&judged(None), &self.cascaded.prompt_features);
        let dearer = known.map_or(&[][..], |tier| &tier.dearer).iter();
        let dearer: Vec<f64> = dearer
            .map(|dearer| dearer.by_all.p_wrong(&outlook))
            .collect();
        // A calibration has a head for each order of tiers: without one nothing is known.
        let step = head.map_or(Step::Ask(cascade.plan.last()), |head| {
            let doubt = Doubt {
                p_wrong: head.p_wrong(&judged(earlier.map(|(_, text)| text.as_str()))),
                dearer: &dearer,
            };
            cascade.policy().done(tier, doubt, usage.prompt_tokens)
        });
        if step != Step::Keep {
            Counts::count(&cascade.counts.escalated, tier);
            self.waste(tier, usage.prompt_tokens, usage.completion_tokens);
        }
        step
    }

    /// Asks a provider for a whole answer, of which only the text can be judged.
    async fn ask_provider(
        &mut self,
        tier: usize,
        model: &Arc<ProviderModel>,
    ) -> Result<Asked, ApiError> {
        let request = &self.cascaded.request;
        let head = answer_head(self.call, request.endpoint, &model.id);
        let measure = self.call.measure(self.operation, &model.id, 1);
        let state = self.call.state;
        let completed = provided::whole(state, request, model, &head, measure).await?;
        let choice = completed.choices().first();
        let field = |choice: &Json, path: &[&str]| {
            let found = path.iter().try_fold(choice, |json, key| json.get(key))?;
            found.as_str().map(str::to_owned)
        };
        let text = choice.and_then(|choice| field(choice, &["message", "content"]));
        let reason = choice.and_then(|choice| field(choice, &["finish_reason"]));
        let trace = Trace {
            text: text.unwrap_or_default(),
            tokens: Vec::new(),
            is_complete: reason.as_deref() == Some("stop"),
        };
        let usage = completed.usage().unwrap_or_default();
        match self.judge(tier, usage, &trace) {
            Step::Keep => Ok(Asked::Kept(Box::new(Kept::Provider(completed)))),
            Step::Ask(next) => {
                self.earlier = Some((tier, trace.text));
                Ok(Asked::On(next))
            }
        }
    }

    fn waste(&mut self, tier: usize, prompt_tokens: u64, completion_tokens: u64) {
        let cascade = &self.cascaded.cascade;
        let cost = cascade.cost(tier, prompt_tokens, completion_tokens);
        cascade.counts.wasted_nanousd.fetch_add(cost.0, Relaxed);
        self.call.overhead.add(Purpose::Cascade, cost);
        self.tried.push(tier);
    }

    /// Gives an answer to the client.
    fn keep(
        self,
        tier: usize,
        kept: Kept,
        keepers: Keepers,
    ) -> Result<Response<ReplyBody>, ApiError> {
        let (request, endpoint) = (&self.cascaded.request, self.cascaded.request.endpoint);
        let model = self
            .cascaded
            .cascade
            .tiers
            .get(tier)
            .ok_or_else(nobody)?
            .id();
        let response = match kept {
            Kept::Provider(completed) => {
                let shaped = stored::shaped(completed.json().to_bytes(), request);
                keepers.keep(&completed);
                let kind = match request.stream {
                    true => reply::EVENT_STREAM,
                    false => "application/json",
                };
                let response = reply::full(200, kind, shaped.ok_or_else(nobody)?);
                reply::from_source(response, "provider", model)
            }
            Kept::Own {
                held,
                events,
                measure,
            } => {
                let head = answer_head(self.call, endpoint, model);
                let shown = Shown {
                    choices: 1,
                    logprobs: false,
                    usage: request.include_usage,
                };
                let response = if request.stream {
                    let writer = StreamWriter::new(endpoint, head, 1);
                    let stream = EventStream::resumed(held, events, writer, shown, measure);
                    let collecting =
                        (!keepers.is_empty()).then(|| Collecting::new(keepers, endpoint));
                    reply::events(stream.keeping(collecting))
                } else {
                    let (choice, usage) = whole(held, measure);
                    let bytes = response::answer(endpoint, &head, &[choice], &usage);
                    if !keepers.is_empty()
                        && let Some(completed) = wire::parse_completed(endpoint, &bytes)
                    {
                        keepers.keep(&completed);
                    }
                    reply::json(bytes)
                };
                reply::from_model(response, model)
            }
        };
        Ok(self.tagged(tier, response))
    }

    fn tagged(&self, tier: usize, response: Response<ReplyBody>) -> Response<ReplyBody> {
        let cascade = &self.cascaded.cascade;
        Counts::count(&cascade.counts.answered, tier);
        reply::after(response, &cascade.names(&self.tried))
    }
}

/// What the first tokens of an answer lead to.
enum Early {
    Wait,
    Keep,
    On(usize),
}

/// The answer that all events together are.
fn whole(held: Vec<EngineEvent>, mut measure: Measure) -> (Choice, Usage) {
    let mut choices = vec![Choice {
        text: String::new(),
        finish_reason: FinishReason::Length,
        logprobs: None,
    }];
    let mut total = Usage::default();
    for event in held {
        match event {
            EngineEvent::Done { usage } => add_usage(&mut total, usage),
            event => on_event(&mut choices, event, &mut measure),
        }
    }
    measure.completed(total);
    (choices.remove(0), total)
}
