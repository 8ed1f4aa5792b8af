//! Single-flight: of identical requests that are under way on one worker at the same time, one goes
//! upstream, its leader, and the others wait for the answer. Identical means of one cache key, so
//! what a follower is given it could have found in the cache a moment later.
//!
//! Whoever leads must land, exactly once: with the answer, or without one, in which case a follower
//! takes over or all of them go. A leader that fails poisons nobody, and nobody waits for ever.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::entry::Entry;
use crate::cache_key::CacheKey;
use crate::limits::{
    FLIGHT_FOLLOWERS_MAX, FLIGHT_LEADERS_MAX, FLIGHT_UNCACHEABLE_MAX, FLIGHT_WAIT_MS,
    FLIGHT_WAITING_BYTES_MAX, FLIGHT_WAITING_MAX,
};

const NS_PER_MS: u64 = 1_000_000;

/// Everything that is awaited on one worker.
#[derive(Debug, Default)]
pub struct Flights {
    flights: BTreeMap<CacheKey, Flight>,
    followers: BTreeMap<Ticket, Follower>,
    /// Bytes of the requests that wait.
    waiting_bytes: usize,
    /// Followers whose verdict they have not heard yet.
    decided: usize,
    last_ticket: u64,
    /// Keys whose answers lately could not be stored: waiting for such an answer is in vain.
    uncacheable: VecDeque<CacheKey>,
}

/// One key with a leader, under way or promised.
#[derive(Debug)]
struct Flight {
    /// Those without a verdict, in the order in which they came.
    queue: VecDeque<Ticket>,
    /// Leaders so far.
    leaders: u32,
}

#[derive(Debug)]
struct Follower {
    key: CacheKey,
    since_ns: u64,
    bytes: usize,
    verdict: Option<Verdict>,
}

/// A place in the queue of one flight. It must be asked for its verdict until it has one, or be
/// given back by [`Flights::leave`].
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The right and duty to go upstream for a key, and to land.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Leader(CacheKey);

/// What becomes of a follower.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The leader's answer is its own.
    Answer(Rc<Entry>),
    /// It takes over.
    Lead(Leader),
    /// It goes upstream by itself.
    Alone,
}

/// How a leader came to its end.
#[derive(Debug)]
pub enum Landing {
    /// With an answer for everybody who asked the same.
    Answered(Rc<Entry>),
    /// With an answer that is for its client only.
    Uncacheable,
    /// Without an answer: the upstream failed or the client left. The next one may fare better.
    Failed,
}

impl Flights {
    /// Waits for the leader of this key, if there is one and the limits allow it. `bytes` is the
    /// size of the request, which is held meanwhile.
    pub fn follow(&mut self, key: &CacheKey, bytes: usize, now_ns: u64) -> Option<Ticket> {
        let flight = self.flights.get_mut(key)?;
        let waiting_bytes = self.waiting_bytes.saturating_add(bytes);
        if flight.queue.len() >= FLIGHT_FOLLOWERS_MAX
            || self.followers.len() >= FLIGHT_WAITING_MAX
            || waiting_bytes > FLIGHT_WAITING_BYTES_MAX
            || self.uncacheable.contains(key)
        {
            return None;
        }
        self.waiting_bytes = waiting_bytes;
        self.last_ticket = self.last_ticket.wrapping_add(1);
        let number = self.last_ticket;
        flight.queue.push_back(Ticket(number));
        let follower = Follower {
            key: *key,
            since_ns: now_ns,
            bytes,
            verdict: None,
        };
        self.followers.insert(Ticket(number), follower);
        Some(Ticket(number))
    }

    /// Leads from now on, unless somebody else does. Leaders are requests that are upstream, so
    /// their number is bounded by the host.
    pub fn lead(&mut self, key: &CacheKey) -> Option<Leader> {
        if self.flights.contains_key(key) {
            return None;
        }
        let flight = Flight {
            queue: VecDeque::new(),
            leaders: 1,
        };
        self.flights.insert(*key, flight);
        Some(Leader(*key))
    }

    /// A leader is at its end.
    pub fn land(&mut self, leader: Leader, landing: Landing) {
        let Leader(key) = leader;
        let Some(flight) = self.flights.remove(&key) else {
            return;
        };
        match landing {
            Landing::Answered(entry) => {
                self.uncacheable.retain(|known| *known != key);
                self.decide_all(flight, || Verdict::Answer(Rc::clone(&entry)));
            }
            Landing::Uncacheable => {
                if !self.uncacheable.contains(&key) {
                    self.uncacheable.push_back(key);
                }
                if self.uncacheable.len() > FLIGHT_UNCACHEABLE_MAX {
                    self.uncacheable.pop_front();
                }
                self.decide_all(flight, || Verdict::Alone);
            }
            Landing::Failed if flight.leaders >= FLIGHT_LEADERS_MAX => {
                self.decide_all(flight, || Verdict::Alone);
            }
            Landing::Failed => self.hand_over(key, flight),
        }
    }

    /// The verdict on a follower, once there is one; its ticket is used up then.
    pub fn verdict(&mut self, ticket: &Ticket, now_ns: u64) -> Option<Verdict> {
        let follower = self.followers.get(ticket)?;
        let waited_ns = now_ns.saturating_sub(follower.since_ns);
        if follower.verdict.is_none() && waited_ns < FLIGHT_WAIT_MS * NS_PER_MS {
            return None;
        }
        let follower = self.remove(ticket)?;
        Some(follower.verdict.unwrap_or(Verdict::Alone))
    }

    /// A follower leaves before it heard its verdict.
    pub fn leave(&mut self, ticket: &Ticket) {
        let verdict = self.remove(ticket).and_then(|follower| follower.verdict);
        if let Some(Verdict::Lead(leader)) = verdict {
            self.land(leader, Landing::Failed);
        }
    }

    /// Does anybody wait?
    pub fn is_idle(&self) -> bool {
        self.followers.is_empty()
    }

    /// Is there a verdict that its follower has not heard?
    pub fn has_verdicts(&self) -> bool {
        self.decided > 0
    }

    fn remove(&mut self, ticket: &Ticket) -> Option<Follower> {
        let follower = self.followers.remove(ticket)?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(follower.bytes);
        if follower.verdict.is_some() {
            self.decided = self.decided.saturating_sub(1);
        } else if let Some(flight) = self.flights.get_mut(&follower.key) {
            flight.queue.retain(|queued| queued != ticket);
        }
        Some(follower)
    }

    fn decide_all(&mut self, flight: Flight, verdict: impl Fn() -> Verdict) {
        for ticket in flight.queue {
            self.decide(&ticket, verdict());
        }
    }

    fn decide(&mut self, ticket: &Ticket, verdict: Verdict) {
        if let Some(follower) = self.followers.get_mut(ticket) {
            follower.verdict = Some(verdict);
            self.decided = self.decided.saturating_add(1);
        }
    }

    /// The first that waits leads, and the others go on waiting, for it.
    fn hand_over(&mut self, key: CacheKey, mut flight: Flight) {
        if let Some(first) = flight.queue.pop_front() {
            flight.leaders = flight.leaders.saturating_add(1);
            self.flights.insert(key, flight);
            self.decide(&first, Verdict::Lead(Leader(key)));
        }
    }
}
