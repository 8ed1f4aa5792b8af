//! What the response store has to do with one request: may it be answered from there, and may its
//! answer be kept?

use std::sync::Arc;

use farthing_core::cache::{Bytes, CacheControl, Entry};
use farthing_core::cache_key::{CacheKey, RequestHead};
use farthing_core::config::Secret;
use farthing_core::exchange::Headers;
use farthing_core::tenant::TenantId;
use farthing_core::wire::{
    Completed, Endpoint, Request, StreamCollector, UsageEvent, parse_completed, replay_sse,
};
use hyper::Response;
use hyper::header::{AGE, CACHE_CONTROL, HeaderMap, HeaderValue};

use super::State;
use super::identity::Identity;
use super::learning::Learning;
use super::provided::unasked_max_tokens;
use super::reply::{self, ReplyBody};
use crate::store::{ResponseStore, now_unix_s};

/// How an answer ends that says all it had to say. One that was cut off by a limit is not kept.
const COMPLETE: &str = "stop";

/// Whose request it is and what it wishes of caches.
#[derive(Clone)]
pub struct Asker {
    tenant: Option<TenantId>,
    control: CacheControl,
}

impl Asker {
    pub fn read(headers: &HeaderMap, identity: &Identity) -> Asker {
        let entries: Vec<(String, Vec<u8>)> = headers
            .get_all(CACHE_CONTROL)
            .iter()
            .map(|value| (CACHE_CONTROL.to_string(), value.as_bytes().to_vec()))
            .collect();
        Asker {
            tenant: identity.tenant,
            control: CacheControl::read(&Headers::new(&entries)),
        }
    }

    /// Whose request it is.
    pub fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    /// What it wishes of caches.
    pub fn control(&self) -> CacheControl {
        self.control
    }

    /// The place of a request in the store. None without a tenant, because then nobody may see it
    /// again, and none where the answer is drawn at random or depends on what is elsewhere.
    fn place(&self, state: &State, request: &Request, model: &str) -> Option<Place> {
        let store = state.store.as_ref()?;
        let revision = state.revisions.get(model)?;
        let tenant = self
            .tenant
            .filter(|_| request.sampling.temperature == 0.0 && request.is_reusable())?;
        let default = unasked_max_tokens(state, model);
        let key = CacheKey::answered_by(
            // The tenant id is keyed already, and the file is nobody else's to probe.
            &Secret::new(b""),
            tenant,
            (model, revision),
            request.max_tokens.unwrap_or(default),
            // Nothing of a request's head changes what this backend answers.
            &RequestHead::default(),
            request,
        );
        Some(Place {
            store: Arc::clone(store),
            key,
            ttl_s: state.config.response_store.as_ref()?.ttl_s.get(),
        })
    }
}

/// A place in the store.
pub struct Place {
    store: Arc<dyn ResponseStore>,
    key: CacheKey,
    ttl_s: u32,
}

/// What the store makes of a request.
pub enum LookedUp {
    Found(Box<Found>),
    /// It must be generated, and may be kept there.
    Missing(Option<Place>),
}

/// An answer from the store, in the form that the request wants.
pub struct Found {
    pub model: String,
    /// `response-store` or `semantic-cache`.
    pub source: &'static str,
    pub stream: bool,
    pub age_s: u64,
    pub body: Vec<u8>,
}

/// Looks a request up; blocks on the disk, or for Redis' deadline.
pub fn look_up(state: &State, asker: &Asker, request: &Request, model: &str) -> LookedUp {
    let Some(place) = asker.place(state, request, model) else {
        return LookedUp::Missing(None);
    };
    let found = (!asker.control.no_cache).then(|| place.find(asker, request, model));
    match found.flatten() {
        Some(found) => LookedUp::Found(Box::new(found)),
        None => LookedUp::Missing(Some(place).filter(|_| !asker.control.no_store)),
    }
}

impl Place {
    fn find(&self, asker: &Asker, request: &Request, model: &str) -> Option<Found> {
        let now_unix_s = now_unix_s();
        let entry = self.store.get(&self.key, now_unix_s)?;
        let age_s = entry.age_s(now_unix_s);
        if !asker.control.accepts_age(age_s) {
            return None;
        }
        let body = shaped(entry.answer.0, request)?;
        Some(Found {
            model: model.to_owned(),
            source: "response-store",
            stream: request.stream,
            age_s,
            body,
        })
    }

    /// Keeps an answer if every choice is complete and its usage is known.
    pub fn keep(&self, completed: &Completed) {
        let complete = |choice: &farthing_core::wire::Json| {
            choice
                .get("finish_reason")
                .and_then(|reason| reason.as_str())
                == Some(COMPLETE)
        };
        let Some(usage) = completed.usage() else {
            return;
        };
        if !completed.choices().iter().all(complete) {
            return;
        }
        let now_unix_s = now_unix_s();
        let entry = Entry {
            created_unix_s: now_unix_s,
            expires_unix_s: now_unix_s.saturating_add(u64::from(self.ttl_s)),
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            // What it saves is the filter's to say, which knows the prices.
            cost_nanousd: 0,
            answer: Bytes(completed.json().to_bytes()),
        };
        self.store.put(self.key, entry);
    }
}

/// A kept answer as the request wants it: whole, or as the events of a stream.
pub fn shaped(answer: Vec<u8>, request: &Request) -> Option<Vec<u8>> {
    if !request.stream {
        return Some(answer);
    }
    let usage_event = if request.include_usage {
        UsageEvent::Include
    } else {
        UsageEvent::Omit
    };
    let completed = parse_completed(request.endpoint, &answer)?;
    Some(replay_sse(&completed, usage_event))
}

/// Where a new answer goes besides to the client.
#[derive(Default)]
pub struct Keepers {
    /// Its place in the response store.
    pub place: Option<Place>,
    /// The semantic cache, with what else it needs of the server.
    pub learning: Option<(Learning, Arc<State>)>,
}

impl Keepers {
    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.place.is_none() && self.learning.is_none()
    }

    pub fn keep(self, completed: &Completed) {
        if let Some(place) = &self.place {
            place.keep(completed);
        }
        if let Some((learning, state)) = self.learning {
            learning.learn(&state, completed);
        }
    }
}

/// Puts a streamed answer together as it passes, to keep it.
pub struct Collecting {
    keepers: Keepers,
    collector: StreamCollector,
}

impl Collecting {
    pub fn new(keepers: Keepers, endpoint: Endpoint) -> Collecting {
        Collecting {
            keepers,
            collector: StreamCollector::new(endpoint),
        }
    }

    pub fn push(&mut self, chunk: &[u8]) {
        self.collector.push(chunk);
    }

    /// The stream has come to its end. One that failed has no `[DONE]` and is not kept.
    pub fn finish(self) {
        if let Some(completed) = self.collector.finish() {
            self.keepers.keep(&completed);
        }
    }
}

/// Answers with what was found.
pub fn answer(found: Found) -> Response<ReplyBody> {
    let content_type = if found.stream {
        reply::EVENT_STREAM
    } else {
        "application/json"
    };
    let response = reply::full(200, content_type, found.body);
    let mut response = reply::from_source(response, found.source, &found.model);
    response
        .headers_mut()
        .insert(AGE, HeaderValue::from(found.age_s));
    response
}
