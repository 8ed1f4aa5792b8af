//! Any one thing changed, at any depth of a request of any endpoint or in what surrounds it:
//! another key.

use farthing_core::cache_key::{CacheKey, RequestHead};
use farthing_core::config::{Config, ModelIndex};
use farthing_core::exchange::Headers;
use farthing_core::tenant::TenantId;
use farthing_core::wire::{Endpoint, parse};
use serde_json::{Map, Value};

use super::random::Random;
use super::requests::{ask_the_same, change};
use super::ways_in::request;
use crate::edge::{CONFIG, pairs};

const CASES: usize = 1_000_000;
const THREADS: usize = 4;
const CHANGES_A_REQUEST: usize = 50;
/// Of which each thread has its own, from here on.
const FIRST_SEED: u64 = 0xfa27;

/// A request and everything around it that its answer depends on.
#[derive(Clone, PartialEq)]
pub struct Asked {
    pub tenant: [u8; 32],
    pub model: usize,
    pub max_tokens: u32,
    pub endpoint: Endpoint,
    pub query: &'static str,
    pub beta: &'static str,
    pub project: &'static str,
    pub body: Map<String, Value>,
}

impl Asked {
    pub fn random(random: &mut Random) -> Asked {
        let (endpoint, body) = request(random);
        Asked {
            tenant: [random.next() as u8; 32],
            model: random.below(2),
            max_tokens: 1 + random.below(3) as u32,
            endpoint,
            query: random.pick(&["", "?a=1"]),
            beta: random.pick(&["", "x"]),
            project: random.pick(&["", "x"]),
            body,
        }
    }

    /// One change of one thing.
    fn changed(&self, random: &mut Random) -> Asked {
        let mut other = self.clone();
        match random.below(24) {
            0 => other.tenant[random.below(32)] ^= 1 << random.below(8),
            1 => other.model = 1 - other.model,
            2 => other.max_tokens += 1,
            3 => other.query = random.pick(&["", "?", "?a=1", "?a=2", "?a=1&"]),
            4 => other.beta = random.pick(&["", "x", "x, y"]),
            5 => other.project = random.pick(&["", "x", "X"]),
            _ => {
                let mut body = Value::Object(other.body);
                change(&mut body, random);
                other.body = match body {
                    Value::Object(body) => body,
                    _ => return self.clone(),
                };
            }
        }
        other
    }

    fn asks_the_same_as(&self, other: &Asked) -> bool {
        let bodies_aside = Asked {
            body: other.body.clone(),
            ..self.clone()
        };
        bodies_aside == *other && ask_the_same(&self.body, &other.body)
    }

    /// `None` for a body that is no valid request.
    pub fn key(&self, config: &Config, spelled: &str) -> Option<CacheKey> {
        let request = parse(self.endpoint, spelled.as_bytes()).ok()?;
        let path = format!("{}{}", self.endpoint.path(), self.query);
        let mut headers = vec![(":path", path.as_str())];
        headers.extend([("openai-beta", self.beta), ("openai-project", self.project)]);
        headers.retain(|(_, value)| !value.is_empty());
        let headers = pairs(&headers);
        let head = RequestHead::read(&Headers::new(&headers));
        let model = config.model(ModelIndex(self.model)).unwrap();
        Some(CacheKey::new(
            &config.secret,
            TenantId(self.tenant),
            model,
            self.max_tokens,
            &head,
            &request,
        ))
    }
}

#[test]
fn a_million_changes_make_as_many_other_keys() {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let seed = FIRST_SEED + thread as u64;
            scope.spawn(move || change_many(CASES / THREADS, seed));
        }
    });
}

fn change_many(cases: usize, seed: u64) {
    let config = Config::parse(CONFIG.as_bytes()).unwrap();
    let random = &mut Random(seed);
    let mut checked = [0; Endpoint::ALL.len()];
    while checked.iter().sum::<usize>() < cases {
        let asked = Asked::random(random);
        let endpoint = Endpoint::ALL.iter().position(|it| *it == asked.endpoint);
        let endpoint = endpoint.unwrap();
        let spelled = Value::Object(asked.body.clone()).to_string();
        let key = asked.key(&config, &spelled);
        let key = key.unwrap_or_else(|| panic!("not a request: {spelled}"));
        for _ in 0..CHANGES_A_REQUEST {
            let other = asked.changed(random);
            if other.asks_the_same_as(&asked) {
                continue;
            }
            let changed = Value::Object(other.body.clone()).to_string();
            let Some(other_key) = other.key(&config, &changed) else {
                continue;
            };
            assert!(
                key != other_key,
                "seed {seed:#x}: one key for\n{spelled}\n{changed}"
            );
            checked[endpoint] += 1;
        }
    }
    assert!(
        checked.iter().all(|checked| checked * 10 > cases),
        "hardly any of an endpoint: {checked:?}"
    );
}
