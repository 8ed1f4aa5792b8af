//! What random orders of callbacks are made of: requests and answers that fit each other, and
//! others that fit nothing.

use super::fixtures;
use crate::wasm_host::HeaderMap;
use farthing_core::bpe::{Bpe, PreTokenizer};
use farthing_core::vocabulary::Vocabulary;
use farthing_core::wire::Endpoint;
use farthing_host_tests::paths;
use serde_json::{Value, json};
use std::fs;

/// What orders are made of.
pub struct Parts {
    pub configuration: String,
    pub talks: Vec<Talk>,
    pub texts: Vec<Vec<u8>>,
    /// The file of a vocabulary.
    pub vocabulary: Vec<u8>,
}

#[derive(Clone)]
/// A request that fits its path, and an answer that fits the request.
pub struct Talk {
    pub path: &'static str,
    pub request: Vec<u8>,
    pub answer: Vec<u8>,
}

/// The bodies of the cases and those that fuzzing begins with, which are of every endpoint.
pub fn parts() -> Parts {
    let fixtures = fixtures();
    let mut configuration = fixtures["config"].clone();
    configuration["budget"] = json!({"window_s": 60, "usd": 0.00002});
    configuration["vocabularies"] = json!({"cluster": "backend", "retry_ms": 1});
    configuration["models"][0]["vocabulary"] = "tiny".into();
    configuration["models"][1]["vocabulary"] = "small".into();
    let bytes = |name: &str| match &fixtures[name] {
        Value::String(text) => text.clone().into_bytes(),
        json => json.to_string().into_bytes(),
    };
    let of_cases = [
        (Endpoint::ChatCompletions, "hello", "answer"),
        (Endpoint::ChatCompletions, "hello-reordered", "stream"),
        (Endpoint::ChatCompletions, "hard", "cut-answer"),
        (Endpoint::Completions, "text", "text-answer"),
    ];
    let mut talks = of_cases
        .map(|(endpoint, request, answer)| Talk {
            path: endpoint.path(),
            request: bytes(request),
            answer: bytes(answer),
        })
        .to_vec();
    let fixtures = fixtures.as_object().expect("fixtures are an object");
    let mut texts: Vec<Vec<u8>> = fixtures.keys().map(|name| bytes(name)).collect();
    let streams: Vec<Vec<u8>> = seeds("sse").map(|seed| seed[3..].to_vec()).collect();
    for (number, seed) in seeds("request").enumerate() {
        let endpoint = Endpoint::ALL[usize::from(seed[0]) % Endpoint::ALL.len()];
        talks.push(Talk {
            path: endpoint.path(),
            request: seed[1..].to_vec(),
            answer: streams[number % streams.len()].clone(),
        });
        texts.push(seed[1..].to_vec());
    }
    texts.extend(streams);
    let bytes: Vec<u8> = (0..=255).collect();
    let bpe = Bpe::from_ranks(bytes.chunks(1), Vec::new(), PreTokenizer::Gpt2);
    let vocabulary = Vocabulary::new(bpe.expect("a vocabulary of bytes"), false, None);
    Parts {
        configuration: configuration.to_string(),
        talks,
        texts,
        vocabulary: vocabulary.to_file(),
    }
}

/// What a fuzz target begins with: bytes by which it chooses, then its input.
fn seeds(target: &str) -> impl Iterator<Item = Vec<u8>> {
    let folder = paths::workspace_root().join("host-tests/fuzz/seeds");
    let files = fs::read_dir(folder.join(target)).expect("seeds");
    let mut files: Vec<_> = files.map(|file| file.expect("a seed").path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|file| fs::read(file).expect("a seed"))
}

/// Those of a good request to this path, or any.
pub fn request_headers(random: &mut Random, path: &'static str) -> HeaderMap {
    let pair = |(name, value): (&str, &str)| (name.to_string(), value.as_bytes().to_vec());
    let good = [
        (":path", path),
        (":method", "POST"),
        ("authorization", "Bearer a"),
        ("content-type", "application/json"),
    ];
    if random.below(4) > 0 {
        return good.map(pair).to_vec();
    }
    let others = ["/v1/models", "/", "/v1/messages/count_tokens"];
    let paths: Vec<&str> = (Endpoint::ALL.iter().map(|endpoint| endpoint.path()))
        .chain(others)
        .collect();
    let odd = [
        (":method", "GET"),
        ("authorization", "\u{fffd}"),
        ("content-encoding", "gzip"),
        ("content-length", "99999999999999999999"),
        ("cache-control", "max-age=0, no-store"),
        ("x-farthing-tenant", "spoofed"),
    ];
    let mut headers = vec![pair((":path", *random.pick(&paths)))];
    for (name, value) in good[1..].iter().chain(&odd) {
        if random.below(3) > 0 {
            headers.push(pair((name, value)));
        }
    }
    if random.below(8) == 0 {
        headers.push(("authorization".to_string(), vec![0xff, 0xfe]));
    }
    headers
}

pub fn response_headers(random: &mut Random) -> HeaderMap {
    let status = random.pick(&["200", "200", "200", "200", "204", "429", "500", "999", "x"]);
    let content_type = random.pick(&["application/json", "text/event-stream", "text/plain"]);
    let pair = |name: &str, value: &str| (name.to_string(), value.as_bytes().to_vec());
    vec![pair(":status", status), pair("content-type", content_type)]
}

/// What fits, or any text; sometimes cut or damaged.
pub fn text(random: &mut Random, fitting: &[u8], parts: &Parts) -> Vec<u8> {
    if random.below(4) > 0 && !fitting.is_empty() {
        return fitting.to_vec();
    }
    let text = random.pick(&parts.texts).clone();
    damaged(random, text)
}

pub fn damaged(random: &mut Random, mut text: Vec<u8>) -> Vec<u8> {
    if random.below(3) == 0 {
        text.truncate(random.below(text.len() as u64 + 1) as usize);
    }
    if random.below(3) == 0 && !text.is_empty() {
        let at = random.below(text.len() as u64) as usize;
        text[at] = random.below(256) as u8;
    }
    text
}

/// SplitMix64 (Steele, Lea, Flood): small, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}
