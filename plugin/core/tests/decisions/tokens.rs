//! The estimate of a prompt and what it learns.

use farthing_core::store::{MemoryStore, SharedStore};
use farthing_core::tokens::{Calibration, Count};
use farthing_core::wire::{Endpoint, parse};
use proptest::prelude::*;
use serde_json::json;

fn count(text: &str) -> Count {
    let mut count = Count::default();
    count.text(text.as_bytes());
    count
}

fn estimate(text: &str) -> u64 {
    Calibration::default().tokens(&count(text))
}

/// Texts with the real counts of SmolLM2 and Qwen2.5 (Hugging Face tokenizers); the estimate
/// without correction must be within a tenth of the range between the two.
#[track_caller]
fn check(text: &str, smollm2: u64, qwen2: u64) {
    let (low, high) = (smollm2.min(qwen2), smollm2.max(qwen2));
    let estimate = estimate(text);
    let within = low - low.div_ceil(10)..=high + high.div_ceil(10);
    assert!(
        within.contains(&estimate),
        "{estimate} is not in {within:?}: {text}"
    );
}

#[test]
fn estimates_are_near_what_two_tokenizers_count() {
    check(
        "The committee met on Tuesday to discuss the proposal, and everyone agreed that the new library should open before winter.",
        22,
        22,
    );
    check(
        "fn main() {\n    let total: u64 = values.iter().map(|v| v.len() as u64).sum();\n    println!(\"{total}\");\n}\n",
        43,
        35,
    );
    check(
        "def area(width, height):\n    if width <= 0 or height <= 0:\n        raise ValueError('sides must be positive')\n    return width * height\n",
        35,
        34,
    );
    check(
        "{\"id\": 17, \"name\": \"Ada\", \"tags\": [\"math\", \"engine\"], \"active\": true, \"score\": 99.5}",
        37,
        36,
    );
    check("3.14159 2718281828 1,000,000 42 7 0.5", 37, 37);
    check(
        "今天天气很好，我们决定去公园散步，然后在河边的咖啡馆喝茶。",
        59,
        18,
    );
    check(
        "Сегодня хорошая погода, и мы решили пойти гулять в парк.",
        44,
        23,
    );
    check(
        "| name | price |\n|------|-------|\n| bolt | 0.20 |\n| nut | 0.05 |\n",
        32,
        28,
    );
}

#[test]
fn a_request_counts_all_that_the_model_reads() {
    let tokens = |body: serde_json::Value| {
        let request = parse(Endpoint::ChatCompletions, body.to_string().as_bytes()).unwrap();
        Calibration::default().tokens(&Count::of_request(&request))
    };
    let plain = json!({"model": "a", "messages": [{"role": "user", "content": "one two three"}]});
    let base = tokens(plain.clone());
    assert_eq!(
        base, 12,
        "three words, a message's frame and the beginning of the answer"
    );
    let mut longer = plain.clone();
    longer["messages"] = json!([{"role": "system", "content": "Be short."}, plain["messages"][0]]);
    assert!(tokens(longer) >= base + 7);
    let mut tools = plain;
    tools["tools"] = json!([{"type": "function", "function": {"name": "weather"}}]);
    assert!(tokens(tools) >= base + 10);
    let ids = parse(
        Endpoint::Completions,
        br#"{"model":"a","prompt":[[1,2,3],[4,5]]}"#,
    )
    .unwrap();
    assert_eq!(Calibration::default().tokens(&Count::of_request(&ids)), 5);
}

/// Text that no merge shortens much, and a calibration that was taught to expect little.
#[test]
fn what_is_reserved_bounds_what_a_text_can_cost() {
    let taught = {
        let cheap = count(&"word ".repeat(100));
        (0..500).fold(Calibration::default(), |known, _| known.learned(&cheap, 20))
    };
    let mut state = 1_u32;
    let mut random = |alphabet: &[u8]| -> String {
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(alphabet[(state >> 8) as usize % alphabet.len()])
        };
        (0..3_000).map(next).collect()
    };
    let signs: Vec<u8> = (0x21..0x7f_u8).filter(u8::is_ascii_punctuation).collect();
    let control: Vec<u8> = (0x00..0x20_u8).collect();
    // At most so many bytes of each for one token that is reserved.
    for (text, bytes_max) in [
        (" \t".repeat(1_500), 1),
        (random(b" \t\r"), 2),
        (random(b" \t\r\n"), 2),
        ("\n\r".repeat(1_500), 2),
        (" \n".repeat(1_500), 2),
        (random(&signs), 2),
        (random(&control), 2),
        (random(b"abcdefghijklmnopqrstuvwxyz"), 2),
        (random(b"abcdefghijklmnopqrstuvwxyz ~\t"), 4),
        ("#~^|a".repeat(600), 3),
        ("\n".repeat(3_000), 5),
        (" ".repeat(3_000), 5),
    ] {
        let reserved = taught.tokens_max(&count(&text));
        assert!(
            reserved * bytes_max + 20 >= text.len() as u64,
            "{reserved} for {:?}",
            &text[..20]
        );
    }
}

#[test]
fn ordinary_text_is_reserved_for_little_more_than_its_estimate() {
    for text in [
        "The committee met on Tuesday to discuss the proposal, and everyone agreed that the new \
         administration should communicate its responsibilities before the winter.\n\n",
        "fn main() {\n    let total: u64 = values.iter().map(|v| v.len() as u64).sum();\n    \
         println!(\"{total}\");\n        if a[i] != b[j] && !done() {\n\t\treturn;\n\t}\r\n}\n",
        "{\"id\":17,\"name\":\"Ada\",\"tags\":[\"math\",\"engine\"],\"inner\":{\"list\":[{\"a\":\"b\"},{\"c\":[1,2]}]}}",
        "| name | price |\n|------|-------|\n| bolt | 0.20 |\n| nut | 0.05 |\n",
    ] {
        let counted = count(text);
        let (estimate, reserved) = (
            Calibration::default().tokens(&counted),
            Calibration::default().tokens_max(&counted),
        );
        assert!(reserved >= estimate);
        assert!(
            reserved * 100 <= estimate * 115,
            "{reserved} for {estimate}: {text}"
        );
    }
}

#[test]
fn the_lower_bound_is_of_the_longest_prompt_and_of_words_alone() {
    let least = |prompt: serde_json::Value| {
        let body = json!({"model": "a", "prompt": prompt}).to_string();
        let request = parse(Endpoint::Completions, body.as_bytes()).unwrap();
        Count::of_request(&request).tokens_min()
    };
    assert_eq!(least(json!([[1, 2, 3], [4, 5]])), 3);
    assert_eq!(least(json!(["one two", "three"])), 2);
    assert_eq!(least(json!("JavaScript's e.g. x86-64 -- ???")), 3);
    assert_eq!(least(json!("\n\n   \t")), 0);
}

#[test]
fn two_scripts_are_learned_apart_and_shared_by_all_workers() {
    let store = MemoryStore::new();
    let english = count(&"The quick brown fox jumps over the lazy dog. ".repeat(20));
    let chinese = count(&"敏捷的棕色狐狸跳过了懒狗。".repeat(20));
    let raw = |count: &Count| Calibration::default().tokens(count);
    for _ in 0..200 {
        // A vocabulary that is good at English and bad at Chinese.
        Calibration::learn(&store, "m", &english, raw(&english) * 9 / 10);
        Calibration::learn(&store, "m", &chinese, raw(&chinese) * 16 / 10);
    }
    let learned = Calibration::load(&store, "m");
    let near = |count: &Count, factor: f64| {
        (learned.tokens(count) as f64 / (raw(count) as f64 * factor) - 1.0).abs() < 0.03
    };
    assert!(near(&english, 0.9) && near(&chinese, 1.6), "{learned:?}");
    assert_eq!(Calibration::load(&store, "another"), Calibration::default());
    // Not even absurd reports drive it out of its bounds, and damage forgets.
    for _ in 0..500 {
        Calibration::learn(&store, "m", &english, u64::MAX);
    }
    assert!(Calibration::load(&store, "m").tokens(&english) <= raw(&english) * 5 / 2 + 1);
    store.set(&store.keys()[0], b"FCA1 damaged", None).unwrap();
    assert_eq!(Calibration::load(&store, "m"), Calibration::default());
}

proptest! {
    #[test]
    fn any_bytes_can_be_counted_and_cost_at_most_two_tokens_each(bytes: Vec<u8>) {
        let mut counted = Count::default();
        counted.text(&bytes);
        prop_assert!(Calibration::default().tokens(&counted) <= 2 * bytes.len() as u64 + 1);
    }

    #[test]
    fn more_text_is_never_fewer_tokens(a in "[ a-zA-Z0-9é漢\n.]{0,40}", b in "[ a-z0-9é漢\n.]{0,40}") {
        let both = format!("{a}{b}");
        prop_assert!(estimate(&both) + 1 >= estimate(&a), "{}", both);
    }
}
