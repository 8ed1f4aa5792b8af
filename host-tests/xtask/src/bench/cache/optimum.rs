//! The most that any cache of so many entries could have had, knowing the future: Belady's bound,
//! for hits that each count differently.
//!
//! An entry is worth keeping from one request for it to the next, and at any time at most as many
//! are kept as there are places: choose intervals of greatest weight of which no more than that
//! overlap. As a flow along the time line, one unit a place, where taking an interval is an edge
//! that skips it and pays its weight, the greatest flow of least cost is the exact answer (Arkin,
//! Silverberg 1987), found by shortest augmenting paths with potentials.

use super::trace::{Answer, Trace};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Finds optima.
pub struct Optimum;

impl Optimum {
    /// The greatest sum of weights of hits for each capacity; these ascend.
    pub fn of(
        trace: &Trace,
        capacities: &[usize],
        weight: impl Fn(&Answer) -> u64,
    ) -> impl Iterator<Item = u64> {
        let mut line = Line::of(trace, weight);
        let mut sums = Vec::with_capacity(capacities.len());
        let (mut places, mut sum) = (0, 0);
        for capacity in capacities {
            while places < *capacity {
                sum += line.add_place();
                places += 1;
            }
            sums.push(sum);
        }
        sums.into_iter()
    }
}

/// An interval from one request to the next for the same.
struct Interval {
    from: usize,
    to: usize,
    weight: i64,
    taken: bool,
}

/// The time line with what is kept on it.
struct Line {
    intervals: Vec<Interval>,
    /// By request: the interval that starts there, and the one that ends there.
    starting: Vec<Option<usize>>,
    ending: Vec<Option<usize>>,
    /// By request: places that keep nothing from there to the next.
    idle: Vec<usize>,
    potentials: Vec<i64>,
}

/// How a path came to a request.
#[derive(Clone, Copy)]
enum Step {
    None,
    /// From the request before, idle.
    Idle,
    /// Back from the next one, over a place that was idle.
    Back,
    Take(usize),
    /// Back over an interval that was taken.
    Drop(usize),
}

impl Line {
    fn of(trace: &Trace, weight: impl Fn(&Answer) -> u64) -> Line {
        let length = trace.requests.len();
        let mut line = Line {
            intervals: Vec::new(),
            starting: vec![None; length],
            ending: vec![None; length],
            idle: vec![0; length],
            potentials: Vec::new(),
        };
        let mut last: HashMap<usize, usize> = HashMap::new();
        for (to, request) in trace.requests.iter().enumerate() {
            if let Some(from) = last.insert(*request, to) {
                let index = line.intervals.len();
                line.starting[from] = Some(index);
                line.ending[to] = Some(index);
                line.intervals.push(Interval {
                    from,
                    to,
                    weight: weight(&trace.answers[*request]) as i64,
                    taken: false,
                });
            }
        }
        line.potentials = line.first_potentials();
        line
    }

    /// Least costs to every request on a line where nothing is kept: no edge leads back.
    fn first_potentials(&self) -> Vec<i64> {
        let mut costs: Vec<i64> = vec![0; self.idle.len()];
        for at in 1..costs.len() {
            let idle = costs[at - 1];
            costs[at] = match self.ending[at].map(|index| &self.intervals[index]) {
                Some(interval) => idle.min(costs[interval.from] - interval.weight),
                None => idle,
            };
        }
        costs
    }

    /// One place more: the weight that it adds.
    fn add_place(&mut self) -> u64 {
        let end = self.idle.len() - 1;
        let (distances, steps) = self.shortest_paths();
        for (potential, distance) in self.potentials.iter_mut().zip(&distances) {
            *potential += distance;
        }
        let mut at = end;
        loop {
            at = match steps[at] {
                Step::None => break,
                Step::Idle => {
                    self.idle[at - 1] += 1;
                    at - 1
                }
                Step::Back => {
                    self.idle[at] -= 1;
                    at + 1
                }
                Step::Take(index) => {
                    self.intervals[index].taken = true;
                    self.intervals[index].from
                }
                Step::Drop(index) => {
                    self.intervals[index].taken = false;
                    self.intervals[index].to
                }
            };
        }
        (self.potentials[0] - self.potentials[end]).unsigned_abs()
    }

    /// Dijkstra's from the first request, on costs that the potentials make positive. Every request
    /// can be reached, because a place may always idle.
    fn shortest_paths(&self) -> (Vec<i64>, Vec<Step>) {
        let length = self.idle.len();
        let mut distances = vec![i64::MAX; length];
        let mut steps = vec![Step::None; length];
        let mut queue = BinaryHeap::from([Reverse((0, 0))]);
        distances[0] = 0;
        while let Some(Reverse((distance, at))) = queue.pop() {
            if distance > distances[at] {
                continue;
            }
            let mut reach = |to: usize, cost: i64, step: Step| {
                let reached = distance + cost + self.potentials[at] - self.potentials[to];
                if reached < distances[to] {
                    distances[to] = reached;
                    steps[to] = step;
                    queue.push(Reverse((reached, to)));
                }
            };
            if at + 1 < length {
                reach(at + 1, 0, Step::Idle);
            }
            if at > 0 && self.idle[at - 1] > 0 {
                reach(at - 1, 0, Step::Back);
            }
            if let Some(index) = self.starting[at] {
                let interval = &self.intervals[index];
                if !interval.taken {
                    reach(interval.to, -interval.weight, Step::Take(index));
                }
            }
            if let Some(index) = self.ending[at] {
                let interval = &self.intervals[index];
                if interval.taken {
                    reach(interval.from, interval.weight, Step::Drop(index));
                }
            }
        }
        (distances, steps)
    }
}

#[cfg(test)]
mod tests {
    use super::super::trace::Random;
    use super::*;

    fn trace(costs: &[u64], requests: Vec<usize>) -> Trace {
        let answers = costs.iter().map(|cost_nanousd| Answer {
            bytes: 1,
            cost_nanousd: *cost_nanousd,
            completion_tokens: 1,
        });
        Trace {
            answers: answers.collect(),
            requests,
        }
    }

    /// The most that any choice of what to keep could save: tries them all.
    fn by_trying(trace: &Trace, places: usize, at: usize, kept: &[usize]) -> u64 {
        let Some(request) = trace.requests.get(at) else {
            return 0;
        };
        let saved = match kept.contains(request) {
            true => trace.answers[*request].cost_nanousd,
            false => 0,
        };
        let mut candidates = kept.to_vec();
        if !candidates.contains(request) {
            candidates.push(*request);
        }
        let mut best = 0;
        if candidates.len() <= places {
            best = by_trying(trace, places, at + 1, &candidates);
        } else {
            for out in 0..candidates.len() {
                let mut left = candidates.clone();
                left.remove(out);
                best = best.max(by_trying(trace, places, at + 1, &left));
            }
        }
        saved + best
    }

    #[test]
    fn it_is_what_trying_everything_finds() {
        let mut random = Random(1);
        for _ in 0..200 {
            let costs: Vec<u64> = (0..5).map(|_| 1 + random.below(9) as u64).collect();
            let requests = (0..10).map(|_| random.below(5)).collect();
            let trace = trace(&costs, requests);
            let found: Vec<u64> = Optimum::of(&trace, &[1, 2, 3], |a| a.cost_nanousd).collect();
            let tried: Vec<u64> = (1..=3)
                .map(|places| by_trying(&trace, places, 0, &[]))
                .collect();
            assert_eq!(found, tried, "{:?} {costs:?}", trace.requests);
        }
    }
}
