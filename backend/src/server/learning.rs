//! What the semantic cache learns from an answer that the model gave: the answer itself, and
//! whether the one that it would have given, or has given, was right.

use std::sync::Arc;
use std::time::Instant;

use farthing_core::limits::SEMANTIC_ANSWER_BYTES_MAX;
use farthing_core::price::{ServiceTier, Tokens};
use farthing_core::wire::{
    AnswerHead, Choice, Completed, Endpoint, FinishReason, Request, parse_completed, response,
};
use sha2::{Digest, Sha256};

use super::State;
use super::measure::{Measure, Subject};
use super::overhead::{Overhead, Purpose};
use super::semantic::{Eligible, Semantic, ask};
use super::{prompt, provided};
use crate::engine::{Confidence, EngineEvent, GenerateRequest};
use crate::metrics::Operation;
use crate::model::ModelInfo;
use crate::provider::ProviderModel;
use crate::semantic::answer;
use crate::semantic::bound::{Sample, Verdict};
use crate::semantic::lookup::{Judged, Question};
use crate::semantic::store::Record;
use crate::semantic::verifier::PROVEN;
use crate::store::now_unix_s;

/// Who says what the right answer would have been.
pub enum Reference {
    Own(Arc<ModelInfo>),
    Provider(Arc<ProviderModel>),
}

/// A question whose answer is being generated.
pub struct Learning {
    semantic: Arc<Semantic>,
    pub eligible: Box<Eligible>,
    pub question: Question,
    /// The cached answer that it is compared with.
    pub candidate: Option<Judged>,
    /// The verifier that had no time to say whether the candidate asks the same, by its model.
    pub unverified: Option<String>,
}

impl Reference {
    fn id(&self) -> &str {
        match self {
            Reference::Own(model) => &model.id,
            Reference::Provider(model) => &model.id,
        }
    }

    /// A model of ours is asked when it has nothing better to do, a provider as by a client.
    fn service(&self, request: &Request) -> ServiceTier {
        match self {
            Reference::Own(_) => ServiceTier::Batch,
            Reference::Provider(_) => request.service_tier,
        }
    }
}

impl Learning {
    pub fn new(semantic: Arc<Semantic>, eligible: Box<Eligible>, question: Question) -> Learning {
        Learning {
            semantic,
            eligible,
            question,
            candidate: None,
            unverified: None,
        }
    }

    /// Nothing is learned where the client wants nothing kept.
    pub fn kept(self) -> Option<Learning> {
        self.eligible.may_keep().then_some(self)
    }

    /// Learns from a complete answer, after the client has it.
    pub fn learn(self, state: &Arc<State>, completed: &Completed) {
        let Some(text) = answer::reusable_text(completed) else {
            return;
        };
        let (text, body) = (text.to_owned(), completed.json().to_bytes());
        let tokens = completed
            .usage()
            .map(|usage| usage.prompt_tokens + usage.completion_tokens);
        if body.len() > SEMANTIC_ANSWER_BYTES_MAX {
            return;
        }
        let state = Arc::clone(state);
        tokio::spawn(async move {
            let overhead = self.overhead(&state);
            let answer_id = self.compare(&state, &text, &overhead).await;
            self.keep(answer_id, tokens.unwrap_or(1), body);
        });
    }

    /// Asks the model for an answer that was served from the cache, when it has nothing better to
    /// do, and learns whether that was right.
    pub fn regenerate(
        self,
        state: Arc<State>,
        request: Request,
        reference: Reference,
        cache_salt: [u8; 32],
    ) {
        tokio::spawn(async move {
            let completed = match &reference {
                Reference::Own(model) => own(&state, &request, Arc::clone(model), cache_salt).await,
                Reference::Provider(model) => of_provider(&state, &request, model).await,
            };
            let Some(completed) = completed else {
                return;
            };
            let overhead = self.overhead(&state);
            let (model, service) = (reference.id(), reference.service(&request));
            let (tokens, service) = computed(&request, &completed, service);
            overhead.spend(Purpose::Resample, model, service, &tokens);
            let Some(text) = answer::reusable_text(&completed).map(str::to_owned) else {
                return;
            };
            let served = self.candidate.clone();
            let answer_id = self.compare(&state, &text, &overhead).await;
            if let Some(served) = served.filter(|served| served.record.answer_id != answer_id)
                && self.eligible.may_keep()
            {
                // What was served is no answer to this question: from now on this one is.
                let cost = served.record.cost_tokens;
                self.keep(answer_id, cost, completed.json().to_bytes());
            }
        });
    }

    /// What is spent on learning, after the answer: the tenant's next one carries it.
    fn overhead(&self, state: &State) -> Overhead {
        Overhead::of(&state.overheads, Some(self.eligible.tenant))
    }

    /// Compares the model's answer with the candidate's and learns from it. Returns the id of the
    /// answer: the candidate's where both say the same.
    async fn compare(&self, state: &State, text: &str, overhead: &Overhead) -> u64 {
        let own = answer_id(text);
        let Some(candidate) = &self.candidate else {
            return own;
        };
        let Some(cached) = parse_completed(Endpoint::ChatCompletions, &candidate.record.answer)
        else {
            return own;
        };
        let Some(cached) = answer::reusable_text(&cached) else {
            return own;
        };
        let right = self.agrees(cached, text, overhead).await;
        let verdict = if right {
            Verdict::Right
        } else {
            Verdict::Wrong
        };
        let level = candidate.level;
        self.semantic
            .cache
            .learn(&self.eligible.route, Sample { level, verdict });
        if right || self.is_approved(state, candidate, overhead).await {
            candidate.record.answer_id
        } else {
            own
        }
    }

    async fn agrees(&self, cached: &str, text: &str, overhead: &Overhead) -> bool {
        if answer::equal(cached, text) {
            return true;
        }
        let embedder = &self.semantic.embedder;
        let embedded = embedder
            .embed(vec![cached.to_owned(), text.to_owned()])
            .await;
        let is_known = |word: &str| embedder.is_known(word);
        let vectors = embedded.map(|embedded| {
            overhead.embedded(&embedder.id, embedded.tokens);
            embedded.vectors
        });
        match vectors.as_deref() {
            Ok([a, b]) => answer::agree((cached, text), (a, b), &is_known),
            _ => false,
        }
    }

    /// A near miss that the verifier had no time for is decided when the models are idle. Both
    /// answers then count as one, which is a witness for either.
    async fn is_approved(&self, state: &State, candidate: &Judged, overhead: &Overhead) -> bool {
        let Some(verifier) = &self.unverified else {
            return false;
        };
        let pair = (&candidate.record.asked, &self.question.asked);
        let salt = self.eligible.scope.0;
        let tier = ServiceTier::Batch;
        let sure = ask(state, (verifier, tier), pair, salt, overhead).await;
        let approved = sure.is_some_and(|sure| sure >= PROVEN);
        if approved {
            self.semantic.cache.verified();
        }
        approved
    }

    fn keep(&self, answer_id: u64, cost_tokens: u64, answer: Vec<u8>) {
        let now_unix_s = now_unix_s();
        self.semantic.cache.store().put(Record {
            scope: self.eligible.scope,
            asked: self.question.asked.clone(),
            vector: self.question.vector.clone(),
            context_vector: self.question.context_vector.clone(),
            answer_id,
            created_unix_s: now_unix_s,
            expires_unix_s: now_unix_s.saturating_add(self.eligible.ttl_s),
            cost_tokens,
            answer,
        });
    }
}

/// Bytes that count as one token of an answer whose provider does not say how many it has.
const BYTES_PER_TOKEN: usize = 4;

/// The tokens of an answer, and the tier that they are paid for at.
fn computed(
    request: &Request,
    completed: &Completed,
    service: ServiceTier,
) -> (Tokens, ServiceTier) {
    if let Some(usage) = completed.usage() {
        return (usage.tokens(), usage.service_tier.unwrap_or(service));
    }
    let said = request.messages().iter().map(|said| said.content.len());
    let estimated = Tokens {
        prompt: said.sum::<usize>().div_ceil(BYTES_PER_TOKEN) as u64,
        completion: completed.json().to_bytes().len().div_ceil(BYTES_PER_TOKEN) as u64,
        ..Tokens::default()
    };
    (estimated, service)
}

/// Equal answers have equal ids.
fn answer_id(text: &str) -> u64 {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let hash: [u8; 32] = Sha256::digest(words.join(" ")).into();
    hash.iter()
        .take(8)
        .fold(0, |id, byte| id << 8 | u64::from(*byte))
}

/// A model of ours is asked when it has nothing better to do.
async fn own(
    state: &Arc<State>,
    request: &Request,
    model: Arc<ModelInfo>,
    cache_salt: [u8; 32],
) -> Option<Completed> {
    let (shared, request) = (Arc::clone(state), request.clone());
    let encoding = prompt::aside(state, move || prompt::encode_own(&shared, request, model));
    let prepared = encoding.await.ok()?;
    let prompt = prepared.prompts.first()?;
    let request = GenerateRequest {
        model: prepared.model.id.clone(),
        prompt: prompt.clone(),
        sampling: prepared.request.sampling.clone(),
        tier: ServiceTier::Batch,
        grammar: prepared.grammar.clone(),
        confidence: Confidence::Skip,
        max_tokens: prepared.max_tokens(prompt),
        min_tokens: prepared.request.min_tokens as usize,
        cache_salt,
    };
    generate(state, request).await
}

/// A provider is asked like for a client, and what that takes is counted like for one.
async fn of_provider(
    state: &State,
    request: &Request,
    model: &Arc<ProviderModel>,
) -> Option<Completed> {
    let subject = Subject {
        operation: Operation::Chat,
        model: model.id.clone(),
        request_id: "resample".to_owned(),
        choices: 1,
    };
    let measure = Measure::new(&state.metrics, subject, Instant::now());
    let head = AnswerHead {
        id: state.salts.response_id("chatcmpl"),
        created_unix_s: now_unix_s(),
        model: model.id.clone(),
    };
    provided::whole(state, request, model, &head, measure)
        .await
        .ok()
}

/// A whole answer of one choice, as a client would get it.
async fn generate(state: &State, request: GenerateRequest) -> Option<Completed> {
    let head = AnswerHead {
        id: state.salts.response_id("chatcmpl"),
        created_unix_s: now_unix_s(),
        model: request.model.clone(),
    };
    let mut events = state.engine.submit(request).ok()?;
    let mut choice = Choice {
        text: String::new(),
        finish_reason: FinishReason::Length,
        logprobs: None,
    };
    while let Some(event) = events.recv().await {
        match event {
            EngineEvent::Delta { text, .. } => choice.text.push_str(&text),
            EngineEvent::Finished { reason, .. } => choice.finish_reason = reason,
            EngineEvent::Done { usage } => {
                let endpoint = Endpoint::ChatCompletions;
                let bytes = response::answer(endpoint, &head, &[choice], &usage);
                return parse_completed(endpoint, &bytes);
            }
            EngineEvent::Failed(_) => return None,
            EngineEvent::Prefilled { .. } => {}
        }
    }
    None
}
