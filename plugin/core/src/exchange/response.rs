//! The answer of an upstream: how it is read on its way, and how it ends.

use super::answer::{Answer, Head, Tail};
use super::arrival::{is_event_stream, is_json};
use super::forward::InFlight;
use super::settle::{self, Ending, Outcome};
use super::{Caller, Effect, EndOfStream, Env, Flow, Headers, Step, Vm, reply};
use crate::cache;
use crate::cache::flight::Landing;
use crate::ledger::Source;
use crate::limits::RESPONSE_HOLD_BYTES_MAX;
use crate::money::Nanousd;
use crate::wire::{
    Completed, Endpoint, Json, More, PassingStream, StreamCollector, Usage, UsageStripper, meter,
};

/// What counts when a host hands over no status: never taken for success.
const STATUS_UNKNOWN: u16 = 502;

/// The host's local reply when the upstream takes longer than the route allows.
const STATUS_TIMEOUT: u16 = 504;

pub(super) fn on_headers(
    in_flight: &mut InFlight,
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    headers: &Headers<'_>,
    end: EndOfStream,
) -> Step {
    let status = headers
        .text(":status")
        .and_then(|status| status.parse().ok());
    let status = status.unwrap_or(STATUS_UNKNOWN);
    let head = Head::read(status, headers, in_flight.route.model, &vm.config);
    let mut effects = describe(in_flight, caller, vm, head);
    // No upstream redirects a completion; a status that is no success did no work for the client,
    // unless the upstream was still at it.
    if !(200..300).contains(&head.status) {
        let outcome = if is_timeout(head, headers) {
            outcome(in_flight, head, None, 0, Ending::TimedOut)
        } else {
            Outcome::nothing(head, Ending::Failed)
        };
        effects.extend(settle::settle(in_flight, caller, vm, env, &outcome));
        return Step::new(effects, Flow::Continue);
    }
    in_flight.storable_s = cache::storable_s(headers, in_flight.ttl_s);
    in_flight.age_s = cache::age_s(headers);
    if in_flight.storable_s.is_none() || !is_readable(headers) {
        in_flight.store_under = None;
        in_flight.land(&mut vm.flights, Landing::Uncacheable);
    }
    in_flight.answer = begin(in_flight, head, headers);
    if matches!(in_flight.answer, Answer::Stream { .. }) && in_flight.strips_usage() {
        // The stream will be shorter than the upstream said.
        effects.push(Effect::RemoveResponseHeader {
            name: "content-length".to_owned(),
        });
    }
    if end == EndOfStream::Yes {
        let outcome = outcome(in_flight, head, None, 0, Ending::Complete);
        effects.extend(settle::settle(in_flight, caller, vm, env, &outcome));
        return Step::new(effects, Flow::Continue);
    }
    match in_flight.answer {
        Answer::Held { .. } => Step::new(effects, Flow::Pause),
        _ => Step::new(effects, Flow::Continue),
    }
}

fn describe(in_flight: &InFlight, caller: &Caller, vm: &Vm, head: Head) -> Vec<Effect> {
    let answered = head.answered.unwrap_or(in_flight.route.model);
    let Some(model) = vm.config.model(answered) else {
        return Vec::new();
    };
    let (tokens, basis) = (in_flight.route.prompt_tokens, in_flight.asked.tokens_basis);
    reply::describe(caller, model, head.source, tokens, basis)
        .map(|(name, value)| Effect::SetResponseHeader { name, value })
        .into()
}

/// Did the host give up waiting? Its own 504 names no source; one that an upstream sent with a
/// source is an error like any other.
fn is_timeout(head: Head, headers: &Headers<'_>) -> bool {
    head.status == STATUS_TIMEOUT && headers.first("x-farthing-source").is_none()
}

fn is_readable(headers: &Headers<'_>) -> bool {
    headers
        .all("content-encoding")
        .all(|value| value.eq_ignore_ascii_case(b"identity"))
}

fn begin(in_flight: &InFlight, head: Head, headers: &Headers<'_>) -> Answer {
    let content_type = headers.first("content-type").unwrap_or_default();
    if !is_readable(headers) {
        return Answer::Unread {
            head,
            tail: Tail::default(),
        };
    }
    if is_event_stream(content_type) {
        let stripper = in_flight.strips_usage().then(UsageStripper::default);
        let endpoint = in_flight.endpoint();
        let collector = in_flight
            .store_under
            .map(|_| StreamCollector::new(endpoint));
        return Answer::Stream {
            head,
            stream: Box::new(PassingStream::new(endpoint, stripper, collector)),
        };
    }
    if is_json(content_type) {
        return Answer::Held {
            head,
            held_bytes: 0,
        };
    }
    Answer::Unread {
        head,
        tail: Tail::default(),
    }
}

pub(super) fn on_body(
    in_flight: &mut InFlight,
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    body: &[u8],
    end: EndOfStream,
) -> Step {
    match &mut in_flight.answer {
        Answer::Awaited | Answer::Settled => Step::pass(),
        Answer::Held { head, .. } => {
            let head = *head;
            if body.len() > RESPONSE_HOLD_BYTES_MAX {
                return release(in_flight, caller, vm, env, body, end);
            }
            match end {
                EndOfStream::No => Step::hold(),
                EndOfStream::Yes => whole(in_flight, caller, vm, env, head, body),
            }
        }
        Answer::Unread { head, tail } => {
            tail.push(body);
            if end == EndOfStream::No {
                return Step::pass();
            }
            let (head, usage, generated) = (*head, tail.usage(), tail.generated_tokens());
            let outcome = outcome(in_flight, head, usage, generated, Ending::Complete);
            let effects = settle::settle(in_flight, caller, vm, env, &outcome);
            Step::new(effects, Flow::Continue)
        }
        Answer::Stream { head, stream } => {
            let head = *head;
            let more = match end {
                EndOfStream::Yes => More::Ended,
                EndOfStream::No => More::Follows,
            };
            let replaced = stream.push(body, more).map(Effect::ReplaceResponseBody);
            let mut effects = Vec::from_iter(replaced);
            if end == EndOfStream::Yes {
                effects.extend(end_stream(in_flight, caller, vm, env, head));
            }
            Step::new(effects, Flow::Continue)
        }
    }
}

/// A JSON answer is whole and still held: its headers get the exact sums.
fn whole(
    in_flight: &mut InFlight,
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    head: Head,
    body: &[u8],
) -> Step {
    let endpoint = in_flight.endpoint();
    let answer = match (endpoint, in_flight.store_under) {
        // Thousands of numbers come before its usage.
        (Endpoint::Embeddings, None) => None,
        _ => Json::parse(body).ok(),
    };
    let usage = match &answer {
        Some(answer) => Usage::of_answer(answer),
        None if endpoint == Endpoint::Embeddings => Usage::find_in_tail(body),
        None => None,
    };
    let generated = match usage {
        Some(usage) if usage.completion_tokens > 0 => usage.completion_tokens,
        _ => meter::generated_tokens(body),
    };
    let outcome = outcome(in_flight, head, usage, generated, Ending::Complete);
    if in_flight.store_under.is_some()
        && let Some(completed) = answer.and_then(|json| Completed::from_json(endpoint, json))
        && is_repeatable(in_flight, &completed)
    {
        settle::store(in_flight, vm, env, body.to_vec(), outcome.tokens);
    }
    let mut effects = settle::response_headers(in_flight, vm, &outcome);
    effects.extend(settle::settle(in_flight, caller, vm, env, &outcome));
    Step::new(effects, Flow::Continue)
}

/// A JSON answer is too large to hold: it goes on without its sums.
fn release(
    in_flight: &mut InFlight,
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    body: &[u8],
    end: EndOfStream,
) -> Step {
    let Answer::Held { head, .. } = in_flight.answer else {
        return Step::pass();
    };
    in_flight.answer = Answer::Unread {
        head,
        tail: Tail::default(),
    };
    on_body(in_flight, caller, vm, env, body, end)
}

fn end_stream(
    in_flight: &mut InFlight,
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
    head: Head,
) -> Vec<Effect> {
    let Answer::Stream { stream, .. } = &mut in_flight.answer else {
        return Vec::new();
    };
    let meter = stream.meter();
    let (usage, generated) = (meter.usage(), meter.generated_tokens());
    // Without [DONE] the upstream was cut off, however politely.
    let ending = if meter.is_done() {
        Ending::Complete
    } else {
        Ending::Aborted
    };
    let completed = stream.take_completed();
    let outcome = outcome(in_flight, head, usage, generated, ending);
    if let Some(completed) = completed
        && is_repeatable(in_flight, &completed)
        && ending == Ending::Complete
    {
        let answer = completed.json().to_bytes();
        settle::store(in_flight, vm, env, answer, outcome.tokens);
    }
    settle::settle(in_flight, caller, vm, env, &outcome)
}

/// Is a complete answer fit for the next one who asks the same? Not if it calls tools, and not if
/// choices are missing or too many.
fn is_repeatable(in_flight: &InFlight, completed: &Completed) -> bool {
    !completed.calls_tools() && completed.results() as u64 == in_flight.asked.answers
}

/// The stream ended before the answer did: the client left, or the upstream was reset. What the
/// upstream had begun is paid for: the prompt, as it was sent, and what was generated so far. A
/// client that leaves before the first byte pays for the prompt, because the upstream was at it;
/// where the upstream failed, an error status came by and all was refunded then.
pub(super) fn abort(
    mut in_flight: InFlight,
    caller: &Caller,
    vm: &mut Vm,
    env: &Env<'_>,
) -> Vec<Effect> {
    let unanswered = Head {
        status: 0,
        source: Source::Model,
        answered: None,
        wasted: Nanousd::ZERO,
    };
    let (head, usage, generated) = in_flight.answer.so_far().unwrap_or((unanswered, None, 0));
    let outcome = outcome(&in_flight, head, usage, generated, Ending::Aborted);
    settle::settle(&mut in_flight, caller, vm, env, &outcome)
}

fn outcome(
    in_flight: &InFlight,
    head: Head,
    usage: Option<Usage>,
    generated: u64,
    ending: Ending,
) -> Outcome {
    Outcome::of_answer(in_flight, head, usage, generated, ending)
}
