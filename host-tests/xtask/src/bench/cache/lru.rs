//! The peer: plain LRU, which takes everything in and drops what was used longest ago.

use super::trace::Trace;
use std::collections::{BTreeMap, HashMap};

/// Which requests an LRU cache of so many entries answers.
pub fn hits(trace: &Trace, capacity: usize) -> impl Fn(usize) -> bool {
    let mut last_use: HashMap<usize, usize> = HashMap::new();
    let mut by_use: BTreeMap<usize, usize> = BTreeMap::new();
    let mut hits = vec![false; trace.requests.len()];
    for (now, request) in trace.requests.iter().enumerate() {
        if let Some(before) = last_use.insert(*request, now) {
            by_use.remove(&before);
            hits[now] = true;
        }
        by_use.insert(now, *request);
        if by_use.len() > capacity
            && let Some((_, oldest)) = by_use.pop_first()
        {
            last_use.remove(&oldest);
        }
    }
    move |position| hits[position]
}
