//! What a step takes, learned from the steps that were taken. From it follows how many tokens of a
//! prompt fit beside sequences that decode without making them wait too long.
//!
//! A step is taken to cost a fixed time, a time for each row that is decoded (drafts included) and
//! a time for each token that is prefilled. The first two are learned from steps without prefill
//! only, by normalised least mean squares (Widrow, Hoff 1960; Haykin, "Adaptive Filter Theory",
//! ch. 6); what a mixed step takes beyond them is put down to its prefill. Attention makes a token
//! dearer the further back its prompt began, which the last estimate follows; what a chunk costs
//! whatever its length is in it too, so chunks grow, step by step, until they just fit. An
//! observation that is far off, as when the machine was busy with something else, only counts as
//! one that is somewhat off.

use std::time::Duration;

use farthing_core::limits::PREFILL_TOKENS_MIN;

/// Online estimates of one model's step times.
#[derive(Debug, Clone)]
pub struct StepTime {
    /// A step's cost whatever it computes, and that of each decoded row; absent before the first
    /// step without prefill.
    decode: Option<(f64, f64)>,
    /// A prefilled token's cost in steps that decode too. Few rows at once are dearer than many.
    mixed_us: Option<f64>,
    /// The same in steps that only prefill.
    alone_us: Option<f64>,
}

/// What a step computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepWork {
    /// Tokens of sequences that decode, with their drafts.
    pub decoded: usize,
    /// Tokens of prompts, and of answers that are computed again.
    pub prefilled: usize,
}

/// Before anything is known: a token of a small model on one core.
const TOKEN_US: f64 = 2_000.0;
/// A decoded row beside the fixed cost, before both are known apart: reading the weights dominates.
const ROW_SHARE: f64 = 0.25;
/// Decoded rows that weigh as much as the fixed cost in what one error is put down to.
const ROWS_SCALE: f64 = 4.0;
/// How far one observation moves the estimates.
const RATE: f64 = 0.2;
/// An error counts for this share of the prediction at most.
const ERROR_SHARE_MAX: f64 = 0.5;
/// A token of a small chunk beside one of a large chunk, before it is known.
const SMALL_CHUNK_FACTOR: f64 = 2.0;
/// No estimate falls below this, whatever a clock says.
const COST_US_MIN: f64 = 0.01;

// === impl StepTime ===

impl StepTime {
    /// Estimates that know nothing.
    pub fn new() -> StepTime {
        StepTime {
            decode: None,
            mixed_us: None,
            alone_us: None,
        }
    }

    /// Learns from a step that took `elapsed`.
    pub fn observe(&mut self, work: StepWork, elapsed: Duration) {
        let elapsed_us = elapsed.as_secs_f64() * 1e6;
        if work.prefilled == 0 {
            if work.decoded > 0 {
                self.learn_decode(work.decoded as f64, elapsed_us);
            }
            return;
        }
        let fixed_us = match work.decoded {
            0 => self.decode.map_or(0.0, |(fixed_us, _)| fixed_us),
            rows => self.decode_us(rows),
        };
        let token_us = (elapsed_us - fixed_us) / work.prefilled as f64;
        let estimate = match work.decoded {
            0 => &mut self.alone_us,
            _ => &mut self.mixed_us,
        };
        let before = estimate.unwrap_or(token_us).max(COST_US_MIN);
        let error = (token_us - before).clamp(-ERROR_SHARE_MAX * before, before);
        *estimate = Some((before + RATE * error).max(COST_US_MIN));
    }

    /// The expected time of a step in which `sequences` sequences decode and nothing else happens.
    pub fn decode(&self, sequences: usize) -> Duration {
        Duration::from_secs_f64(self.decode_us(sequences) / 1e6)
    }

    /// How many tokens are prefilled in `time` beside sequences that decode, but never fewer than
    /// `PREFILL_TOKENS_MIN`: a prompt must get on.
    pub fn prefill_tokens(&self, time: Duration) -> usize {
        let alone_us = self.alone_us.map(|us| us * SMALL_CHUNK_FACTOR);
        let token_us = self.mixed_us.or(alone_us).unwrap_or(TOKEN_US);
        let tokens = time.as_secs_f64() * 1e6 / token_us;
        (tokens as usize).max(PREFILL_TOKENS_MIN)
    }

    fn decode_us(&self, rows: usize) -> f64 {
        let (fixed_us, row_us) = self.decode.unwrap_or((TOKEN_US, TOKEN_US * ROW_SHARE));
        fixed_us + row_us * rows as f64
    }

    fn learn_decode(&mut self, rows: f64, elapsed_us: f64) {
        let Some((fixed_us, row_us)) = self.decode else {
            let fixed_us = (elapsed_us / (1.0 + ROW_SHARE * rows)).max(COST_US_MIN);
            self.decode = Some((fixed_us, fixed_us * ROW_SHARE));
            return;
        };
        let expected_us = fixed_us + row_us * rows;
        let bound_us = ERROR_SHARE_MAX * expected_us;
        let error_us = (elapsed_us - expected_us).clamp(-bound_us, bound_us);
        // The inputs are 1 and rows / scale, so the second weight is that of `scale` rows.
        let input = rows / ROWS_SCALE;
        let step = RATE * error_us / (1.0 + input * input);
        self.decode = Some((
            (fixed_us + step).max(COST_US_MIN),
            (row_us + step * input / ROWS_SCALE).max(COST_US_MIN),
        ));
    }
}

impl Default for StepTime {
    fn default() -> StepTime {
        StepTime::new()
    }
}
