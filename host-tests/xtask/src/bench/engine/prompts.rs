//! Prompts for the engine's benchmark: words that no two sequences have in the same order, so that
//! no two are the same work.

use crate::bench::streams::Ask;

/// Words of a long prompt: 512 tokens, about, in either model's vocabulary.
pub const LONG_WORDS: usize = 440;
/// A question.
pub const SHORT_WORDS: usize = 4;

const VOCABULARY: [&str; 12] = [
    "river", "stone", "market", "window", "engine", "letter", "garden", "north", "silver", "table",
    "winter", "harbour",
];

/// `count` different prompts of `words` words.
pub fn asks(model: &str, count: usize, words: usize, max_tokens: u64) -> Vec<Ask> {
    (0..count)
        .map(|index| Ask {
            model: model.to_string(),
            prompt: format!("Story {index} about the {}", text(index, words)),
            max_tokens,
            tenant: None,
        })
        .collect()
}

/// The `index`th text of so many words.
pub fn text(index: usize, words: usize) -> String {
    let place = |word: usize| (word * 5 + word * word / (index + 2) + index) % VOCABULARY.len();
    let words: Vec<&str> = (0..words).map(|word| VOCABULARY[place(word)]).collect();
    words.join(" ")
}
