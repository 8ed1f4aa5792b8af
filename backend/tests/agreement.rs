//! Greedy answers beside llama.cpp's: 200 prompts of fifteen kinds and what it generates from them
//! (`cargo xtask agreement` writes the files). Both compute with int8 activations but add up in
//! other orders, so two tokens that are nearly as likely may change places; after that the answers
//! are about different texts. So the tokens must agree, or the first difference must be such a tie.

mod model_files;

use std::fs;
use std::path::Path;

use farthing_backend::model::{Batch, LoadedModel, Logits, ModelOptions, load_model};
use farthing_backend::text::Specials;
use farthing_kernels::{KvDtype, ThreadPool};
use model_files::{BOTH, path};
use serde_json::Value;

/// How much less likely, in logits, a token may be than ours and still be a tie. Each side rounds
/// the activations of some 200 products to int8; nearly all ties are within 0.25, and what a wrong
/// kernel does is several logits.
const TIE_LOGITS: f32 = 0.75;
/// Nearly all ties are within this, and so many of a model's prompts at most have a wider one.
const USUAL_TIE_LOGITS: f32 = 0.25;
const WIDER_TIES_MAX: usize = PROMPTS / 20;
/// Prompts of a model whose answers agree to the end, of all: pieces of digits and of scripts that
/// a small model hardly knows have many ties in sixteen tokens.
const SAME_SHARE_MIN: f64 = 0.5;
const PROMPTS: usize = 200;
const BLOCK_TOKENS: usize = 16;

/// One line of a file.
struct Continuation {
    prompt: String,
    prompt_tokens: Vec<u32>,
    tokens: Vec<u32>,
}

fn continuations(model: &str) -> Vec<Continuation> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/continuations")
        .join(format!("llama.cpp-{model}.jsonl"));
    let text = fs::read_to_string(&file).expect("the file is in the repository");
    let tokens = |value: &Value| -> Vec<u32> {
        let values = value.as_array().expect("an array of tokens");
        let token = |value: &Value| value.as_u64().and_then(|token| token.try_into().ok());
        values
            .iter()
            .map(|value| token(value).expect("a token"))
            .collect()
    };
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            Continuation {
                prompt: line["prompt"].as_str().expect("a text").to_owned(),
                prompt_tokens: tokens(&line["prompt_tokens"]),
                tokens: tokens(&line["tokens"]),
            }
        })
        .collect()
}

/// The first token where the likeliest is another than llama.cpp's, and by how many logits that
/// one is behind.
fn first_difference(
    model: &mut LoadedModel,
    pool: &ThreadPool,
    line: &Continuation,
) -> Option<(usize, f32)> {
    let known = [&line.prompt_tokens[..], &line.tokens[..]].concat();
    let table: Vec<u32> = (0..known.len().div_ceil(BLOCK_TOKENS) as u32).collect();
    let first = line.prompt_tokens.len() - 1;
    let mut batch = Batch::default();
    batch.push(&known[..first], 0, &table, Logits::Skip);
    for (index, token) in known[first..known.len() - 1].iter().enumerate() {
        batch.push(&[*token], first + index, &table, Logits::Last);
    }
    let mut workspace = model.decoder.workspace(batch.len(), line.tokens.len());
    let logits = model
        .decoder
        .forward(pool, &batch, &mut model.cache, &mut workspace)
        .expect("the batch fits");
    let rows = logits.chunks_exact(model.decoder.shape().vocab_size);
    rows.zip(&line.tokens)
        .map(|(logits, &theirs)| {
            let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            best - logits[theirs as usize]
        })
        .enumerate()
        .find(|(_, behind)| *behind > 0.0)
}

#[test]
fn greedy_answers_agree_with_llama_cpp_up_to_ties() {
    let pool = ThreadPool::new(2);
    for id in BOTH {
        let options = ModelOptions {
            context_tokens: Some(512),
            kv_tokens: Some(512),
            kv_dtype: KvDtype::F16,
        };
        let mut model =
            load_model(id, &path(&format!("{id}.gguf")), options).expect("the model is fetched");
        let lines = continuations(id);
        assert_eq!(lines.len(), PROMPTS, "{id}");
        let (mut same, mut wider, mut widest) = (0, 0, 0.0f32);
        for line in &lines {
            let ours = model.info.tokenizer.encode(&line.prompt, Specials::Plain);
            assert_eq!(ours, line.prompt_tokens, "{id}: {:?}", line.prompt);
            match first_difference(&mut model, &pool, line) {
                None => same += 1,
                Some((at, behind)) => {
                    assert!(
                        behind <= TIE_LOGITS,
                        "{id}: token {at} of {:?} is {behind} logits behind",
                        line.prompt
                    );
                    wider += usize::from(behind > USUAL_TIE_LOGITS);
                    widest = widest.max(behind);
                }
            }
        }
        let share = f64::from(same) / lines.len() as f64;
        println!("{id}: {share} the same to the end, the widest tie {widest} logits");
        assert!(share >= SAME_SHARE_MIN, "{id}: {share}");
        assert!(wider <= WIDER_TIES_MAX, "{id}: {wider} wider ties");
    }
}
