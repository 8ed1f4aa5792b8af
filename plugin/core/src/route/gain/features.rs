//! A text as the numbers that the model of the gain is made of.

use super::lexicon::Cue;
use super::reader::Counts;

/// How many there are.
pub const FEATURES: usize = 11;

/// What each feature is, in the order of [`features`]. A calibration names those it was made for.
pub const FEATURE_NAMES: [&str; FEATURES] = [
    "words",
    "numbers",
    "numbers_large",
    "options_numeric",
    "negation",
    "change",
    "reasoning",
    "code",
    "simple",
    "mathematics",
    "society",
];

/// Counts beyond these say nothing new.
const WORDS_MAX: u32 = 511;
const NUMBERS_MAX: u32 = 15;
const NUMBERS_LARGE_MAX: u32 = 3;
const OPTIONS_MAX: u32 = 4;
const CUES_MAX: u32 = 15;

/// The features of a text. All saturate, so that no single one decides.
pub fn features(text: &[u8]) -> [f64; FEATURES] {
    let counts = Counts::of(text);
    let cue = |cue: Cue| {
        let count = counts.cues.get(cue as usize).copied().unwrap_or(0);
        log2_of_next(count.min(CUES_MAX))
    };
    [
        log2_of_next(counts.words.min(WORDS_MAX)),
        log2_of_next(counts.numbers.min(NUMBERS_MAX)),
        log2_of_next(counts.numbers_large.min(NUMBERS_LARGE_MAX)),
        f64::from(counts.options_numeric.min(OPTIONS_MAX)),
        cue(Cue::Negation),
        cue(Cue::Change),
        cue(Cue::Reasoning),
        cue(Cue::Code),
        cue(Cue::Simple),
        cue(Cue::Mathematics),
        cue(Cue::Society),
    ]
}

/// The binary logarithm of `count + 1`, straight between powers of two: the library's may differ in
/// the last bit between wasm and native.
fn log2_of_next(count: u32) -> f64 {
    let next = count.saturating_add(1);
    let whole = next.ilog2();
    let power = f64::from(1_u32 << whole);
    f64::from(whole) + (f64::from(next) - power) / power
}
