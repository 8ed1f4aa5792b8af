//! The reader of JSON beside serde_json's: what one takes the other takes, with the same meaning,
//! but for what we refuse because parsers read it differently.

use super::golden;
use farthing_core::error::ErrorKind;
use farthing_core::wire::{Json, Number};
use serde_json::Value;

const SEED: u64 = 0x2026_1129;
const MUTATIONS: usize = 300_000;

/// Bytes that mean something in JSON, and some that end strings and characters.
const BYTES: &[u8] =
    b"{}[]:,\"\\/ \t\n\r-+.eE0123456789truefalsn\x00\x1f\x7f\x80\xc3\xa9\xed\xa0\xff";

struct Random(u64);

impl Random {
    /// xorshift64*, Vigna 2016.
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % count
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        br#" {"a" : [1, -0, 0.5e-3, 1E400, 18446744073709551615, 18446744073709551616, -9223372036854775808], "b":{"c":null,"d":true,"e":false}, "\u00e9\ud83d\ude00\n\"\\\/\b\f\r\t":"x\ud83dy"} "#.to_vec(),
        "[\"\u{e9}\u{65e5}\u{1f600} plain text that is longer than eight bytes\",{},[],\"\"]".as_bytes().to_vec(),
        b"-12.50e+7".to_vec(),
    ];
    let cases: Vec<Value> = serde_json::from_str(&golden("requests_refused.json")).unwrap();
    for case in cases {
        if let Some(body) = case.get("body") {
            seeds.push(body.as_str().map_or_else(
                || body.to_string().into_bytes(),
                |text| text.as_bytes().to_vec(),
            ));
        }
    }
    seeds
}

fn mutated(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(3) {
            0 if at < bytes.len() => bytes[at] = BYTES[random.below(BYTES.len())],
            1 if at < bytes.len() => {
                bytes.remove(at);
            }
            _ => bytes.insert(at, BYTES[random.below(BYTES.len())]),
        }
    }
    bytes
}

/// The same tree, as serde_json has it. Keys are unique in what we take, so its order is no matter.
fn as_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::from(*value),
        Json::Number(Number::Unsigned(value)) => Value::from(*value),
        Json::Number(Number::Negative(value)) => Value::from(*value),
        Json::Number(Number::Float(value)) => Value::from(*value),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(as_value).collect(),
        Json::Object(entries) => entries
            .iter()
            .map(|(key, value)| (key.clone(), as_value(value)))
            .collect(),
    }
}

#[test]
fn it_reads_what_another_parser_reads() {
    println!("seed {SEED:#x}");
    let mut random = Random(SEED);
    let seeds = seeds();
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..MUTATIONS {
        let bytes = mutated(&seeds[random.below(seeds.len())], &mut random);
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        match (Json::parse(&bytes), serde_json::from_slice::<Value>(&bytes)) {
            (Ok(ours), Ok(theirs)) => {
                taken += 1;
                assert_eq!(as_value(&ours), theirs, "{shown}");
                let again = Json::parse(&ours.to_bytes()).unwrap();
                assert_eq!(again, ours, "{shown}");
            }
            (Err(_), Err(_)) => refused += 1,
            (Err(error), Ok(_)) => {
                let beyond = error.message.contains("beyond 64 bits");
                let ours_to_refuse =
                    matches!(error.kind, ErrorKind::DuplicateKey | ErrorKind::TooDeep);
                assert!(ours_to_refuse || beyond, "{shown}: {}", error.message);
            }
            (Ok(_), Err(error)) => panic!("{shown}: {error}"),
        }
    }
    assert!(
        taken > MUTATIONS / 20 && refused > MUTATIONS / 20,
        "{taken} {refused}"
    );
}
