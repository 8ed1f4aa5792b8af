//! The filter's own cache, as one worker of Envoy runs it.

use super::trace::Trace;
use farthing_core::cache::{Bytes, CacheControl, Entry, Levels, LookUp, PerVm};
use farthing_core::cache_key::CacheKey;
use farthing_core::config::{CacheConfig, CachePolicy, SampledCaching};
use farthing_core::limits::{CACHE_ENTRY_BYTES_MAX, CACHE_PER_VM_BYTES_MAX};
use farthing_core::store::MemoryStore;
use sha2::{Digest, Sha256};
use std::rc::Rc;

/// Nothing expires: plain LRU and the optimum know no time either.
const NOW_UNIX_S: u64 = 1_800_000_000;
const EXPIRES_UNIX_S: u64 = u64::MAX;
/// One of so many entries is the worker's own, as by default.
const OWN_OF: usize = 5;

/// Which requests it answers with so many entries on both levels together.
pub fn hits(trace: &Trace, capacity: usize) -> impl Fn(usize) -> bool {
    let own = capacity / OWN_OF;
    let slots = u32::try_from(capacity - own).unwrap_or(u32::MAX);
    let config = CacheConfig {
        policy: CachePolicy {
            ttl_s: u32::MAX,
            sampled: SampledCaching::Never,
            shared: None,
        },
        slots,
        entry_bytes_max: CACHE_ENTRY_BYTES_MAX,
        per_vm_entries: own,
    };
    let store = MemoryStore::new();
    let mut per_vm = PerVm::new(own, CACHE_PER_VM_BYTES_MAX, slots);
    let mut levels = Levels {
        store: &store,
        per_vm: &mut per_vm,
        config: &config,
    };
    let control = CacheControl::default();
    let mut hits = vec![false; trace.requests.len()];
    for (position, request) in trace.requests.iter().enumerate() {
        let key = CacheKey(Sha256::digest(request.to_le_bytes()).into());
        match levels.look_up(&key, &control, NOW_UNIX_S) {
            LookUp::Hit(_) => hits[position] = true,
            LookUp::Miss(place) => {
                let answer = &trace.answers[*request];
                let entry = Entry {
                    created_unix_s: NOW_UNIX_S,
                    expires_unix_s: EXPIRES_UNIX_S,
                    prompt_tokens: 0,
                    completion_tokens: answer.completion_tokens,
                    cost_nanousd: answer.cost_nanousd,
                    answer: Bytes(vec![b'x'; answer.bytes]),
                };
                levels.insert(&key, Rc::new(entry), place, NOW_UNIX_S);
            }
        }
    }
    move |position| hits[position]
}
