//! Nobody finds what another tenant was answered: by key, and through the whole filter.

use std::rc::Rc;

use farthing_core::cache::{Bytes, CacheControl, Entry, Levels, PerVm};
use farthing_core::cache_key::{CacheKey, RequestHead};
use farthing_core::config::{Config, ModelIndex};
use farthing_core::ledger::Source;
use farthing_core::store::MemoryStore;
use farthing_core::tenant::TenantId;
use farthing_core::wire::{Endpoint, Request, parse};

use crate::edge::{CHAT, CONFIG, Edge, reply_header};

const TENANTS: u64 = 1_000;
const PROMPTS: u64 = 1_000;
/// The same through the whole filter, which parses and routes each time.
const TENANTS_OF_FILTER: u64 = 100;
const PROMPTS_OF_FILTER: u64 = 100;
const NOW_UNIX_S: u64 = 1_800_000_000;

fn body(prompt: u64) -> String {
    let content = format!("question {prompt}");
    format!(
        r#"{{"model":"small","temperature":0,"messages":[{{"role":"user","content":"{content}"}}]}}"#
    )
}

fn tenant(number: u64) -> TenantId {
    let mut id = [7; 32];
    id[11..19].copy_from_slice(&number.to_le_bytes());
    TenantId(id)
}

fn entry(prompt: u64) -> Entry {
    Entry {
        created_unix_s: NOW_UNIX_S,
        expires_unix_s: NOW_UNIX_S + 60,
        prompt_tokens: 1,
        completion_tokens: 1,
        cost_nanousd: 1,
        answer: Bytes(prompt.to_le_bytes().to_vec()),
    }
}

#[test]
fn a_million_look_ups_of_other_tenants_find_nothing() {
    let mut config = Config::parse(CONFIG.as_bytes()).unwrap();
    let cache = config.cache.as_mut().unwrap();
    (cache.slots, cache.per_vm_entries) = (4_096, 2_000);
    let cache = cache.clone();
    let model = config.model(ModelIndex(0)).unwrap();
    let requests: Vec<Request> = (0..PROMPTS)
        .map(|prompt| parse(Endpoint::ChatCompletions, body(prompt).as_bytes()).unwrap())
        .collect();
    let head = RequestHead::default();
    let key = |tenant: TenantId, prompt: u64| {
        CacheKey::new(
            &config.secret,
            tenant,
            model,
            100,
            &head,
            &requests[prompt as usize],
        )
    };
    let store = MemoryStore::new();
    let worker = |per_vm: &mut PerVm, key: &CacheKey, entry: Option<Entry>| {
        let mut levels = Levels {
            store: &store,
            per_vm,
            config: &cache,
        };
        match entry {
            Some(entry) => {
                levels.insert(key, Rc::new(entry), None, NOW_UNIX_S);
                None
            }
            None => levels
                .look_up(key, &CacheControl::default(), NOW_UNIX_S)
                .hit(),
        }
    };
    // The worker that stored the answers has them in its own cache, another in the ring.
    let mut stored = PerVm::new(2_000, 8 << 20, 4_096);
    let mut other = PerVm::new(0, 0, 4_096);
    for prompt in 0..PROMPTS {
        worker(&mut stored, &key(tenant(0), prompt), Some(entry(prompt)));
    }
    let mut hits = 0;
    for number in 1..=TENANTS {
        let per_vm = if number % 2 == 0 {
            &mut stored
        } else {
            &mut other
        };
        for prompt in 0..PROMPTS {
            let found = worker(per_vm, &key(tenant(number), prompt), None);
            hits += u64::from(found.is_some());
        }
    }
    assert_eq!(hits, 0);
    // The control: whose answers they are finds them on either worker, each its own.
    let (mut here, mut there) = (0, 0);
    for prompt in 0..PROMPTS {
        let key = key(tenant(0), prompt);
        for (per_vm, found) in [(&mut stored, &mut here), (&mut other, &mut there)] {
            if let Some(entry) = worker(per_vm, &key, None) {
                assert_eq!(entry.answer.0, prompt.to_le_bytes());
                *found += 1;
            }
        }
    }
    assert_eq!((here, there > PROMPTS * 9 / 10), (PROMPTS, true), "{there}");
}

#[test]
fn the_filter_answers_no_tenant_with_what_is_anothers() {
    const ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}"#;
    let mut edge = Edge::new(CONFIG);
    let json = [(":status", "200"), ("content-type", "application/json")];
    let hit = |edge: &mut Edge, tenant: u64, prompt: u64| {
        let credential = format!("Bearer key-{tenant}");
        let mut sent = edge.post_with(CHAT, &[("authorization", &credential)], &body(prompt));
        let source = (sent.reply()).and_then(|reply| reply_header(reply, "x-farthing-source"));
        let hit = source == Some(Source::EdgeCache.as_str());
        if tenant == 0 && !hit {
            edge.answer(&mut sent, &json, &[ANSWER.as_bytes()]);
        } else {
            edge.done(&mut sent);
        }
        edge.record.clear();
        hit
    };
    for prompt in 0..PROMPTS_OF_FILTER {
        assert!(!hit(&mut edge, 0, prompt));
    }
    for tenant in 1..=TENANTS_OF_FILTER {
        for prompt in 0..PROMPTS_OF_FILTER {
            assert!(
                !hit(&mut edge, tenant, prompt),
                "tenant {tenant} prompt {prompt}"
            );
        }
    }
    let own = (0..PROMPTS_OF_FILTER).filter(|prompt| hit(&mut edge, 0, *prompt));
    assert_eq!(own.count() as u64, PROMPTS_OF_FILTER);
}
