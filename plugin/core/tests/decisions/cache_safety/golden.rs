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
        "b14bef4fbbfa599422098ab8e01cb8578a269d7031de0f54ec3d89ea5a268f63",
    );
    check(
        CHAT,
        PLAIN,
        &[(":path", "/v1/chat/completions?a=1")],
        "2d8342295400072bf0e2d3c264a8ce0152086d523dd47fcc59e3aa32fcddbac9",
    );
    check(
        CHAT,
        PLAIN,
        &[("openai-beta", "a"), ("openai-project", "b")],
        "c6163f2f4eeac632b375c023998560f686c2cb96b63251129ec8fcc0a5862380",
    );
    check(
        TEXT,
        r#"{"model":"small","prompt":"x"}"#,
        &[],
        "8fbfedbcda8cc0213fd545ec8421d1c50fe44b1e6b74cd0cc9fed172b95887d8",
    );
    check(
        TEXT,
        r#"{"model":"small","prompt":[[1,2],[3]],"echo":true}"#,
        &[],
        "cd27a7c69aaa536b315c56c48b14f8033373ff525af0b5320849f5955e217695",
    );
    let numbers = r#"{"model":"small","prompt":"x","a":[0,-1,1.5,1e9,18446744073709551615,-1e-9]}"#;
    check(
        TEXT,
        numbers,
        &[],
        "9a6570ff1995447a86dbb33e913433453cfa8112b5b82646bec615ef48eaccbe",
    );
    let nested = r#"{"model":"small","prompt":"x","a":{"b":{},"":[[],null,true,false,"\u0000"]}}"#;
    check(
        TEXT,
        nested,
        &[],
        "8b778302f11e2c298c2c9bfa4334e5580e85d7fceb41605bc4b513d261eabc20",
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
        "101239588b27e722762b629bb6f2ab8f777e94ffb1c74eeea83796ed53d1d0e8",
    );
}
