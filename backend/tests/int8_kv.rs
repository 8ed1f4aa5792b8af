//! `kv_dtype: int8` on a real model: half the memory, for a perplexity and greedy answers that are
//! those of f16 but for ties.

mod model_files;

use farthing_backend::model::{Batch, LoadedModel, Logits, ModelOptions, load_model};
use farthing_backend::perplexity::measure;
use farthing_backend::text::Specials;
use farthing_kernels::{KvDtype, ThreadPool};
use model_files::{SMOLLM2, path};

const TEXT: &str = include_str!("data/perplexity.txt");
const WINDOW: usize = 512;
/// By what share the perplexity may change. An element of a key or value is off by 1/254 of the
/// vector's largest at most, and by a few thousandths of its own size in the mean.
const PERPLEXITY_CHANGE_MAX: f64 = 0.005;
/// Pieces of the text that are continued, and by how many tokens.
const PROMPTS: usize = 24;
const PROMPT_BYTES: usize = 300;
const TOKENS: usize = 24;
/// How many logits f16's token may be behind int8's where they differ.
const TIE_LOGITS: f32 = 0.75;
/// Tokens that are the same, of all. A small model is often unsure, and then two tokens are within
/// a tenth of a logit.
const SAME_SHARE_MIN: f64 = 0.9;
const BLOCK_TOKENS: usize = 16;

fn load(kv_dtype: KvDtype) -> LoadedModel {
    let options = ModelOptions {
        context_tokens: Some(WINDOW),
        kv_tokens: Some(WINDOW),
        kv_dtype,
    };
    load_model(SMOLLM2, &path(&format!("{SMOLLM2}.gguf")), options).expect("the model is fetched")
}

#[test]
fn perplexity_hardly_changes() {
    let pool = ThreadPool::new(2);
    let [f16, int8] = [KvDtype::F16, KvDtype::Int8].map(|kv_dtype| {
        let mut model = load(kv_dtype);
        let measured = measure(&pool, &mut model, TEXT, WINDOW).expect("the text is long enough");
        println!(
            "{kv_dtype:?}: {measured}, {} bytes of KV",
            model.cache.bytes()
        );
        (measured.value, model.cache.bytes())
    });
    let change = int8.0 / f16.0 - 1.0;
    println!("change {:+.4} %", change * 100.0);
    assert!(change.abs() < PERPLEXITY_CHANGE_MAX, "{change}");
    // A scale beside each 64 elements.
    assert_eq!(int8.1 * 2 * 64, f16.1 * (64 + 4));
}

#[test]
fn greedy_answers_agree_up_to_ties() {
    let pool = ThreadPool::new(2);
    let (mut f16, mut int8) = (load(KvDtype::F16), load(KvDtype::Int8));
    let (mut same, mut whole, mut widest) = (0, 0, 0.0f32);
    for start in (0..PROMPTS).map(|index| index * TEXT.len() / (PROMPTS + 1)) {
        let (start, end) = (boundary(start), boundary(start + PROMPT_BYTES));
        let prompt = f16
            .info
            .tokenizer
            .encode(&TEXT[start..end], Specials::Plain);
        let answer = greedy(&mut f16, &pool, &prompt);
        let gaps = behind(&mut int8, &pool, &prompt, &answer);
        let alike = gaps.iter().filter(|&&gap| gap == 0.0).count();
        same += alike;
        whole += usize::from(alike == TOKENS);
        widest = gaps.into_iter().fold(widest, f32::max);
    }
    let share = same as f64 / (PROMPTS * TOKENS) as f64;
    println!("{share} of the tokens are the same, and {whole} answers of {PROMPTS} as a whole");
    println!("the widest tie {widest} logits");
    assert!(widest <= TIE_LOGITS, "{widest}");
    assert!(share >= SAME_SHARE_MIN, "{share}");
}

/// The next place at or after `byte` where a character begins.
fn boundary(byte: usize) -> usize {
    TEXT.ceil_char_boundary(byte.min(TEXT.len()))
}

fn table(tokens: usize) -> Vec<u32> {
    (0..tokens.div_ceil(BLOCK_TOKENS) as u32).collect()
}

/// The likeliest continuation.
fn greedy(model: &mut LoadedModel, pool: &ThreadPool, prompt: &[u32]) -> Vec<u32> {
    let blocks = table(prompt.len() + TOKENS);
    let mut workspace = model.decoder.workspace(prompt.len(), 1);
    let (mut answer, mut next, mut seen) = (Vec::new(), prompt.to_vec(), 0);
    while answer.len() < TOKENS {
        let mut batch = Batch::default();
        batch.push(&next, seen, &blocks, Logits::Last);
        seen += next.len();
        let logits = model
            .decoder
            .forward(pool, &batch, &mut model.cache, &mut workspace)
            .expect("the batch fits");
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        next = vec![best.expect("a vocabulary") as u32];
        answer.extend(&next);
    }
    answer
}

/// How many logits each token of an answer is behind the likeliest one, 0 if it is that one.
fn behind(model: &mut LoadedModel, pool: &ThreadPool, prompt: &[u32], answer: &[u32]) -> Vec<f32> {
    let known = [prompt, answer].concat();
    let (blocks, first) = (table(known.len()), prompt.len() - 1);
    let mut batch = Batch::default();
    batch.push(&known[..first], 0, &blocks, Logits::Skip);
    for (index, token) in known[first..known.len() - 1].iter().enumerate() {
        batch.push(&[*token], first + index, &blocks, Logits::Last);
    }
    let mut workspace = model.decoder.workspace(batch.len(), answer.len());
    let logits = model
        .decoder
        .forward(pool, &batch, &mut model.cache, &mut workspace)
        .expect("the batch fits");
    let rows = logits.chunks_exact(model.decoder.shape().vocab_size);
    rows.zip(answer)
        .map(|(logits, &token)| {
            let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            best - logits[token as usize]
        })
        .collect()
}
