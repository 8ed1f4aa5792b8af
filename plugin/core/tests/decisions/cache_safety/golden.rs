//! Golden vectors of the cache key: another key for one of these is another format, and its text in
//! `keyed_hash` has to say so. (Answers stored under the old one are misses then.)

use farthing_core::cache_key::{CacheKey, RequestHead};
use farthing_core::config::{Config, ModelIndex};
use farthing_core::exchange::Headers;
use farthing_core::tenant::TenantId;
use farthing_core::wire::{Endpoint, parse};

use crate::edge::{CONFIG, pairs};

const CHAT: Endpoint = Endpoint::ChatCompletions;
const TEXT: Endpoint = Endpoint::Completions;
const PLAIN: &str = r#"{"model":"small","messages":[{"role":"user","content":"x"}]}"#;

#[track_caller]
fn check(endpoint: Endpoint, body: &str, headers: &[(&str, &str)], expected: &str) {
    let config = Config::parse(CONFIG.as_bytes()).unwrap();
    let request = parse(endpoint, body.as_bytes()).unwrap();
    let model = config.model(ModelIndex(1)).unwrap();
    let head = RequestHead::read(&Headers::new(&pairs(headers)));
    let key = CacheKey::new(
        &config.secret,
        TenantId([7; 32]),
        model,
        64,
        &head,
        &request,
    );
    let hex: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, expected, "{body} {headers:?}");
}

#[test]
fn golden_vectors() {
    check(
        CHAT,
        PLAIN,
        &[],
        "8633bae6e64495338f9708340e57e96d91d73654b2d789056cef5d617197bdbd",
    );
    check(
        CHAT,
        PLAIN,
        &[(":path", "/v1/chat/completions?a=1")],
        "7b3bcecf99a8b719b3bfd9e0670bcfd493d4f61249f3dc4e80ee53e6398eac5b",
    );
    check(
        CHAT,
        PLAIN,
        &[("openai-beta", "a"), ("openai-project", "b")],
        "ff6ce153b8dba96b8b8b323efb2aedc619ed3565794b1d173cbc6981e5286cd5",
    );
    check(
        TEXT,
        r#"{"model":"small","prompt":"x"}"#,
        &[],
        "a0c7230b2e6a84acf1d63f0f2b42c818dcbc6bdb513947b734ce7e596c7fd178",
    );
    check(
        TEXT,
        r#"{"model":"small","prompt":[[1,2],[3]],"echo":true}"#,
        &[],
        "7b4bfa344e535ae32ffda07c0505fd2025d0dac60499327884be72a74beb43d8",
    );
    let numbers = r#"{"model":"small","prompt":"x","a":[0,-1,1.5,1e9,18446744073709551615,-1e-9]}"#;
    check(
        TEXT,
        numbers,
        &[],
        "9d7b780038b9a06c92647ade1b0a42f775940b13a62f49c7e09b370e9d0c81fe",
    );
    let nested = r#"{"model":"small","prompt":"x","a":{"b":{},"":[[],null,true,false,"\u0000"]}}"#;
    check(
        TEXT,
        nested,
        &[],
        "33a97226899ade999a3a8cf79e8abdc4c9889d5dec1d166cc7a9df30ed8912cb",
    );
    // Longer than the runs in which the encoding is hashed.
    let long = format!(
        r#"{{"model":"small","prompt":"{}"}}"#,
        "long ".repeat(10_000)
    );
    check(
        TEXT,
        &long,
        &[],
        "80fb2da2cfea2373c96b386a0563af471edb807da0a50050490eb3b2620a7584",
    );
}
