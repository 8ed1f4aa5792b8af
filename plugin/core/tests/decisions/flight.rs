//! Single-flight in any order of arrivals, answers, failures and departures: nobody waits for ever,
//! nobody gets another's answer, and one key has one leader at a time.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use farthing_core::cache::flight::{Flights, Landing, Leader, Ticket, Verdict};
use farthing_core::cache::{Bytes, Entry};
use farthing_core::cache_key::CacheKey;
use farthing_core::limits::{
    FLIGHT_FOLLOWERS_MAX, FLIGHT_LEADERS_MAX, FLIGHT_WAIT_MS, FLIGHT_WAITING_BYTES_MAX,
    FLIGHT_WAITING_MAX,
};

use crate::cache_safety::random::Random;

const ORDERS: u64 = 100_000;
const EVENTS: usize = 40;
const KEYS: usize = 3;
const NS_PER_MS: u64 = 1_000_000;

fn key(number: usize) -> CacheKey {
    CacheKey([number as u8; 32])
}

/// An answer that says whose key it is for.
fn answer(number: usize) -> Rc<Entry> {
    Rc::new(Entry {
        created_unix_s: 1,
        expires_unix_s: 61,
        prompt_tokens: 1,
        completion_tokens: 1,
        cost_nanousd: 1,
        answer: Bytes(vec![number as u8]),
    })
}

/// The streams of one worker, by number.
#[derive(Default)]
struct Worker {
    flights: Flights,
    now_ns: u64,
    leading: BTreeMap<usize, (usize, Leader)>,
    waiting: BTreeMap<usize, (usize, Ticket)>,
    /// Streams that went upstream without leading.
    alone: usize,
    /// By key: how many were answered by their leader.
    answered: HashMap<usize, usize>,
    streams: usize,
}

impl Worker {
    fn arrive(&mut self, number: usize) {
        let stream = self.streams;
        self.streams += 1;
        if let Some(ticket) = self.flights.follow(&key(number), 100, self.now_ns) {
            let led = self.leading.values().any(|(led, _)| *led == number);
            assert!(led || self.flights.has_verdicts(), "it waits for nobody");
            self.waiting.insert(stream, (number, ticket));
        } else if let Some(leader) = self.flights.lead(&key(number)) {
            self.lead(stream, number, leader);
        } else {
            self.alone += 1;
        }
    }

    fn lead(&mut self, stream: usize, number: usize, leader: Leader) {
        let already = self.leading.values().any(|(led, _)| *led == number);
        assert!(!already, "two lead for key {number}");
        self.leading.insert(stream, (number, leader));
    }

    fn land(&mut self, stream: usize, landing: impl FnOnce(usize) -> Landing) {
        let (number, leader) = self.leading.remove(&stream).unwrap();
        self.flights.land(leader, landing(number));
    }

    /// Asks for the verdict on one stream, as the tick does.
    fn look_after(&mut self, stream: usize) {
        let (number, ticket) = &self.waiting[&stream];
        let number = *number;
        let Some(verdict) = self.flights.verdict(ticket, self.now_ns) else {
            return;
        };
        self.waiting.remove(&stream);
        match verdict {
            Verdict::Answer(entry) => {
                assert_eq!(entry.answer.0, [number as u8], "another's answer");
                *self.answered.entry(number).or_default() += 1;
            }
            Verdict::Lead(leader) => self.lead(stream, number, leader),
            Verdict::Alone => self.alone += 1,
        }
    }

    fn any<T>(of: &BTreeMap<usize, T>, random: &mut Random) -> Option<usize> {
        of.keys().nth(random.below(of.len())).copied()
    }

    fn event(&mut self, random: &mut Random) {
        match random.below(10) {
            0..=3 => self.arrive(random.below(KEYS)),
            4..=6 => {
                let Some(stream) = Self::any(&self.leading, random) else {
                    return;
                };
                match random.below(4) {
                    0 => self.land(stream, |_| Landing::Failed),
                    1 => self.land(stream, |_| Landing::Uncacheable),
                    _ => self.land(stream, |number| Landing::Answered(answer(number))),
                }
            }
            7 => {
                if let Some(stream) = Self::any(&self.waiting, random) {
                    let (_, ticket) = self.waiting.remove(&stream).unwrap();
                    self.flights.leave(&ticket);
                }
            }
            8 => {
                if let Some(stream) = Self::any(&self.waiting, random) {
                    self.look_after(stream);
                }
            }
            _ => self.now_ns += random.below(20_000) as u64 * NS_PER_MS,
        }
    }

    /// Everybody who leads lands, in any way, until nobody is left.
    fn drain(&mut self, random: &mut Random) {
        while !self.leading.is_empty() || !self.waiting.is_empty() {
            let before = (self.leading.len(), self.waiting.len());
            for stream in self.waiting.keys().copied().collect::<Vec<_>>() {
                self.look_after(stream);
            }
            for stream in self.leading.keys().copied().collect::<Vec<_>>() {
                match random.below(3) {
                    0 => self.land(stream, |_| Landing::Failed),
                    1 => self.land(stream, |_| Landing::Uncacheable),
                    _ => self.land(stream, |number| Landing::Answered(answer(number))),
                }
            }
            let after = (self.leading.len(), self.waiting.len());
            assert!(
                after < before || self.flights.has_verdicts(),
                "{after:?} wait for ever"
            );
        }
        assert!(self.flights.is_idle() && !self.flights.has_verdicts());
        // Nothing is left of any key: the next one leads.
        for number in 0..KEYS {
            assert!(
                self.flights.lead(&key(number)).is_some(),
                "key {number} is taken"
            );
        }
    }
}

#[test]
fn in_any_order_everybody_gets_away_with_their_own() {
    let mut answered = 0;
    for order in 0..ORDERS {
        let mut random = Random(order);
        let mut worker = Worker::default();
        for _ in 0..EVENTS {
            worker.event(&mut random);
        }
        worker.drain(&mut random);
        answered += worker.answered.values().sum::<usize>();
    }
    assert!(
        answered as u64 > ORDERS,
        "too few were ever answered: {answered}"
    );
}

/// A leader and so many followers.
fn flight(followers: usize) -> (Flights, Leader, Vec<Ticket>) {
    let mut flights = Flights::default();
    let leader = flights.lead(&key(1)).unwrap();
    let tickets = (0..followers).map(|_| flights.follow(&key(1), 10, 0).unwrap());
    let tickets = tickets.collect();
    (flights, leader, tickets)
}

#[test]
fn one_takes_over_from_a_leader_that_fails_and_the_others_wait_for_it() {
    let (mut flights, mut leader, tickets) = flight(5);
    for takes_over in tickets.iter().take(FLIGHT_LEADERS_MAX as usize - 1) {
        flights.land(leader, Landing::Failed);
        leader = match flights.verdict(takes_over, 0) {
            Some(Verdict::Lead(leader)) => leader,
            other => panic!("{other:?}"),
        };
        assert_eq!(flights.verdict(&tickets[4], 0), None, "it still waits");
    }
    flights.land(leader, Landing::Failed);
    for ticket in &tickets[FLIGHT_LEADERS_MAX as usize - 1..] {
        assert_eq!(flights.verdict(ticket, 0), Some(Verdict::Alone));
    }
    assert!(flights.is_idle());
}

#[test]
fn who_was_to_take_over_and_leaves_hands_over_too() {
    let (mut flights, leader, tickets) = flight(2);
    flights.land(leader, Landing::Failed);
    flights.leave(&tickets[0]);
    let verdict = flights.verdict(&tickets[1], 0);
    assert!(matches!(verdict, Some(Verdict::Lead(_))), "{verdict:?}");
}

#[test]
fn nobody_waits_again_for_what_could_not_be_stored() {
    let (mut flights, leader, tickets) = flight(1);
    flights.land(leader, Landing::Uncacheable);
    assert_eq!(flights.verdict(&tickets[0], 0), Some(Verdict::Alone));
    let leader = flights.lead(&key(1)).unwrap();
    assert_eq!(flights.follow(&key(1), 10, 0), None);
    flights.land(leader, Landing::Answered(answer(1)));
    let leader = flights.lead(&key(1)).unwrap();
    assert!(flights.follow(&key(1), 10, 0).is_some());
    flights.land(leader, Landing::Failed);
}

#[test]
fn waiting_has_its_limits() {
    let (mut flights, leader, tickets) = flight(FLIGHT_FOLLOWERS_MAX);
    assert_eq!(flights.follow(&key(1), 10, 0), None, "of one flight");
    let almost = FLIGHT_WAIT_MS * NS_PER_MS - 1;
    assert_eq!(flights.verdict(&tickets[0], almost), None);
    let verdict = flights.verdict(&tickets[0], almost + 1);
    assert_eq!(verdict, Some(Verdict::Alone), "of time");
    let mut leaders = vec![leader];
    let mut waiting = FLIGHT_FOLLOWERS_MAX - 1;
    for number in 2..20 {
        leaders.push(flights.lead(&key(number)).unwrap());
        while flights.follow(&key(number), 10, 0).is_some() {
            waiting += 1;
        }
    }
    assert_eq!(waiting, FLIGHT_WAITING_MAX, "of a worker");
    let (mut flights, _leader, _) = flight(0);
    assert!(
        flights
            .follow(&key(1), FLIGHT_WAITING_BYTES_MAX, 0)
            .is_some()
    );
    assert_eq!(flights.follow(&key(1), 1, 0), None, "of bytes");
}
