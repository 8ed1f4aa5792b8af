//! What the cache costs is in the bill: what belongs to a request goes out with its answer, what is
//! spent after it with the tenant's next one. Nothing is billed twice, or to another tenant.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Reply, post};
use super::server::{CHAT, EMBEDDING, Server};
use super::stub::Stub;

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.farthing/models");

const ASKED: &str = "How do I reset the password of my account?";
const SAME: &str = "Please, how can I reset my account's password?";

/// The stub's answer has 3 tokens of prompt and 2 of completion, at 3,000 and 7,000 nano-dollars.
const PRICE: &str = "price: {input_usd_per_mtok: 3, output_usd_per_mtok: 7}";
const SAMPLE_NANOUSD: u64 = 3 * 3_000 + 2 * 7_000;

/// A server whose chats a provider answers, with this of the embedding model and of the cache.
fn start(name: &str, upstream: &Stub, embedding: &str, cache: &str) -> Server {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bill-{name}"));
    let _ = std::fs::remove_file(&path);
    Server::of(&format!(
        "providers:\n{}\
         models:\n- {{id: far, provider: stub, {PRICE}}}\n\
         - {{id: {CHAT}, path: {MODELS}/{CHAT}.gguf, {PRICE}}}\n\
         - {{id: {EMBEDDING}, path: {MODELS}/{EMBEDDING}{embedding}}}\n\
         semantic_cache: {{max_wrong: 0.01, path: {}{cache}}}\n",
        upstream.provider("stub", ""),
        path.display()
    ))
}

fn ask(server: &Server, tenant: &str, text: &str) -> Reply {
    ask_with(server, &[("x-farthing-tenant", tenant)], text)
}

fn ask_with(server: &Server, headers: &[(&str, &str)], text: &str) -> Reply {
    let body = json!({"model": "far", "temperature": 0, "max_tokens": 16,
        "messages": [{"role": "user", "content": text}]});
    let reply = server.ask(&post("/v1/chat/completions", headers, body.to_string()));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply
}

/// What an answer carries besides its own cost.
fn billed(reply: &Reply) -> u64 {
    let Some(usd) = reply.header("x-farthing-wasted-usd") else {
        return 0;
    };
    let amount = farthing_core::money::Nanousd::parse_usd(usd);
    amount.expect("dollars").0
}

fn source(reply: &Reply) -> &str {
    reply.header("x-farthing-source").expect("a source")
}

#[track_caller]
fn wait_for(server: &Server, name: &str, amount: u64) {
    for _ in 0..1_000 {
        if server.metric(name) == amount {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{name} is {} and not {amount}", server.metric(name));
}

const OWED: &str = "farthing_overhead_owed_nanousd";

fn spent(server: &Server, purpose: &str) -> u64 {
    server.metric(&format!(
        "farthing_overhead_nanousd_total{{for=\"{purpose}\"}}"
    ))
}

/// What answers carried and what is owed is what was spent, once what is under way has ended.
#[track_caller]
fn check_sums(server: &Server, carried: u64) -> [u64; 4] {
    let purposes = ["embedding", "verifier", "resample", "cascade"];
    let mut all = [0; 4];
    for _ in 0..1_000 {
        all = purposes.map(|of| spent(server, of));
        if carried + server.metric(OWED) == all.iter().sum::<u64>() {
            let billed = server.metric("farthing_overhead_billed_nanousd_total");
            assert_eq!(billed, carried);
            assert_eq!(server.metric("farthing_overhead_lost_nanousd_total"), 0);
            return all;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{carried} carried, {} owed of {all:?}", server.metric(OWED));
}

#[test]
fn a_sample_is_billed_once_with_the_tenants_next_answer() {
    let upstream = Stub::saying("Press the red button.");
    let server = start("sample", &upstream, "", "");
    assert_eq!(billed(&ask(&server, "alice", ASKED)), 0);
    wait_for(&server, "farthing_semantic_entries", 1);
    let hit = ask(&server, "alice", SAME);
    assert_eq!((source(&hit), billed(&hit)), ("semantic-cache", 0));
    wait_for(&server, OWED, SAMPLE_NANOUSD);
    assert_eq!(upstream.asked().len(), 2, "the hit was generated again");
    // Neither another tenant nor a refusal carries it.
    assert_eq!(billed(&ask(&server, "bob", "Name the largest ocean.")), 0);
    let tenant = [("x-farthing-tenant", "alice")];
    let refused = server.ask(&post("/v1/chat/completions", &tenant, "{}"));
    assert_eq!((refused.status, billed(&refused)), (400, 0));
    assert_eq!(server.metric(OWED), SAMPLE_NANOUSD);
    let next = ask(&server, "alice", "Name the largest ocean.");
    assert_eq!((source(&next), billed(&next)), ("provider", SAMPLE_NANOUSD));
    assert_eq!(billed(&ask(&server, "alice", "Who wrote Jane Eyre?")), 0);
    assert_eq!(
        (server.metric(OWED), spent(&server, "resample")),
        (0, SAMPLE_NANOUSD)
    );
    server.end();
}

/// Hits and misses, side by side and one after the other: what answers carried, and what is still
/// owed, is what was spent.
#[test]
fn all_that_was_spent_is_billed_or_owed() {
    let upstream = Stub::saying("Press the red button.");
    let price = ", price: {input_usd_per_mtok: 2}";
    let server = start("sums", &upstream, price, "");
    let embedding = json!({"model": EMBEDDING, "input": ASKED}).to_string();
    let embedded = server.ask(&post("/v1/embeddings", &[], embedding)).json();
    let tokens = embedded["usage"]["prompt_tokens"].as_u64().expect("usage");
    assert_eq!(
        billed(&ask(&server, "alice", ASKED)),
        tokens * 2_000,
        "comparing it costs its embedding"
    );
    wait_for(&server, "farthing_semantic_entries", 1);
    // Who wants it neither found nor kept does not pay for comparing it.
    let aside = [
        ("x-farthing-tenant", "alice"),
        ("cache-control", "no-cache, no-store"),
    ];
    assert_eq!(billed(&ask_with(&server, &aside, ASKED)), 0);
    let questions = [ASKED, SAME, "Name the largest ocean.", "Who wrote Emma?"];
    let mut sum = tokens * 2_000;
    for round in 0..4 {
        let answers: Vec<Reply> = std::thread::scope(|scope| {
            let asking = questions.map(|text| {
                let server = &server;
                let tenant = if round % 2 == 0 { "alice" } else { "bob" };
                scope.spawn(move || ask(server, tenant, text))
            });
            asking.map(|thread| thread.join().expect("answered")).into()
        });
        sum += answers.iter().map(billed).sum::<u64>();
    }
    // What is done after an answer takes a moment.
    let samples = ["right", "wrong"].map(|name| format!("farthing_semantic_{name}_total"));
    let resampled = server.metric("farthing_semantic_resampled_total");
    assert!(resampled > 0, "the first hits are samples");
    for _ in 0..1_000 {
        let learned: u64 = samples.iter().map(|name| server.metric(name)).sum();
        let sampled = spent(&server, "resample") / SAMPLE_NANOUSD;
        if learned >= resampled && sampled == resampled {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    sum += billed(&ask(&server, "alice", "What is a quill?"));
    let all = check_sums(&server, sum);
    assert!(all[0] > 0 && all[2] > 0, "{all:?}");
    server.end();
}

#[test]
fn the_verifiers_tokens_are_billed_with_the_request_that_it_was_asked_for() {
    let upstream = Stub::saying("Press the red button.");
    let verifier = format!(", verifier: {CHAT}, verify_ms: 60000");
    let server = start("verifier", &upstream, "", &verifier);
    ask(
        &server,
        "alice",
        "How do I change the address of my account?",
    );
    wait_for(&server, "farthing_semantic_entries", 1);
    // Near, but not near enough without a second opinion.
    let near = [
        "How do I change my postal address?",
        "Where can I change the address on my account profile page?",
        "I would like to change an address in the account, how?",
        "Can you tell me how to change the address that my account has?",
    ];
    let mut sum = 0;
    for text in near {
        sum += billed(&ask(&server, "alice", text));
    }
    for text in ["Name the largest ocean.", "Who wrote Emma?"] {
        sum += billed(&ask(&server, "alice", text));
    }
    let [_, verified, ..] = check_sums(&server, sum);
    assert!(verified > 0, "one of them is near enough to ask");
    let asked: Vec<Value> = upstream
        .asked()
        .into_iter()
        .map(|asked| asked.body)
        .collect();
    assert!(asked.iter().all(|body| body["model"] == "far"));
    server.end();
}
