//! One model of LiteLLM's table, as a line of the catalogue.

use farthing_core::price::ServiceTier;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Why a model is left out.
pub struct Left(pub &'static str);

/// Nano-dollars for a million tokens: input, output, cache read, write, and write for an hour.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Rates([u64; 5]);

/// LiteLLM's names of the same, without what they are for.
const FIELDS: [&str; 5] = [
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "cache_creation_input_token_cost",
    "cache_creation_input_token_cost_above_1hr",
];
/// The ends of field names that are for a service tier.
const TIERS: [(ServiceTier, &str, &str); 4] = [
    (ServiceTier::Standard, "", ""),
    (ServiceTier::Batch, "_batches", "b"),
    (ServiceTier::Flex, "_flex", "f"),
    (ServiceTier::Priority, "_priority", "p"),
];
const NANOUSD_DECIMALS: usize = 9;
/// Decimal places from dollars a token to dollars a million tokens.
const MTOK_DECIMALS: usize = 6;

/// A model's tariffs, by tier and by the prompt length above which they hold.
pub struct Row {
    base: Rates,
    tariffs: BTreeMap<(usize, u64), Rates>,
}

impl Row {
    pub fn read(name: &str, fields: &Value) -> Result<Row, Left> {
        let usual = |field: &str| amount(&fields[field]);
        let input = usual("input_cost_per_token")?;
        let output = usual("output_cost_per_token")?.or(is_embedding(fields).then_some(0));
        let (Some(input), Some(output)) = (input.filter(|rate| *rate > 0), output) else {
            return Err(Left("no price of tokens"));
        };
        if output == 0 && !is_embedding(fields) {
            return Err(Left("no price of tokens"));
        }
        let reasoning = usual("output_cost_per_reasoning_token")?;
        if reasoning.is_some_and(|rate| rate != output) {
            return Err(Left("another price for reasoning"));
        }
        if usual("input_cost_per_request")?.is_some_and(|rate| rate > 0) {
            return Err(Left("a price for each request"));
        }
        // Names are separated by spaces.
        if name.contains(char::is_whitespace) {
            return Err(Left("a name with spaces"));
        }
        let read = charged(usual(FIELDS[2])?).unwrap_or(input);
        let write = charged(usual(FIELDS[3])?)
            .filter(|write| *write >= input)
            .unwrap_or(input);
        let write_1h = charged(usual(FIELDS[4])?).unwrap_or(write);
        let mut row = Row {
            base: Rates([input, output, read, write, write_1h]),
            tariffs: BTreeMap::new(),
        };
        for above in steps(fields) {
            for (tier, (_, suffix, _)) in TIERS.iter().enumerate() {
                let named = |field: &str| amount(&fields[field_name(field, above, suffix)]);
                let own = [
                    named(FIELDS[0])?,
                    named(FIELDS[1])?,
                    charged(named(FIELDS[2])?),
                    charged(named(FIELDS[3])?),
                    charged(named(FIELDS[4])?),
                ];
                let is_base = tier == 0 && above == 0;
                if !is_base && own.iter().take(2).any(Option::is_some) {
                    row.tariffs.insert((tier, above), row.completed(tier, own));
                }
            }
        }
        Ok(row)
    }

    /// Fills what a tariff does not say: with what its tier, else the usual tariff, says; a cache
    /// never costs less than there, nor is reading dearer than the input.
    fn completed(&self, tier: usize, own: [Option<u64>; 5]) -> Rates {
        let usual = self.tariffs.get(&(tier, 0)).copied().unwrap_or(self.base);
        let Rates(
            [
                usual_input,
                usual_output,
                usual_read,
                usual_write,
                usual_write_1h,
            ],
        ) = usual;
        let input = own[0].unwrap_or(usual_input);
        let output = own[1].unwrap_or(usual_output);
        let read = own[2].unwrap_or(match input > usual_input {
            true => input,
            false => usual_read.min(input),
        });
        let written = own[3].filter(|write| *write >= input);
        let write = written.unwrap_or(match usual_write == usual_input {
            true => input,
            false => usual_write.max(input),
        });
        let write_1h = own[4].unwrap_or(match usual_write_1h == usual_write {
            true => write,
            false => usual_write_1h.max(write),
        });
        Rates([input, output, read, write, write_1h])
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.base)?;
        for ((tier, above), rates) in &self.tariffs {
            let letter = TIERS[*tier].2;
            match above {
                0 => write!(f, " {letter}:{rates}")?,
                _ => write!(f, " {letter}>{above}:{rates}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rates([input, _, read, write, write_1h]) = *self;
        // What reads as it would without being written is left out.
        let written = match (read == input, write == input, write_1h == write) {
            (_, _, false) => 5,
            (_, false, true) => 4,
            (false, true, true) => 3,
            (true, true, true) => 2,
        };
        let amounts: Vec<String> = self.0.iter().take(written).map(|rate| usd(*rate)).collect();
        f.write_str(&amounts.join("/"))
    }
}

fn is_embedding(fields: &Value) -> bool {
    fields["mode"] == "embedding"
}

/// A cache that costs nothing is one that the table knows nothing of. (So is, for some models, one
/// that takes less for writing than for input: there it is the rent for an hour.)
fn charged(rate: Option<u64>) -> Option<u64> {
    rate.filter(|rate| *rate > 0)
}

/// `0`, and every prompt length above which some price of the model differs.
fn steps(fields: &Value) -> Vec<u64> {
    let thousands = |field: &String| -> Option<u64> {
        let (_, step) = field.strip_prefix(FIELDS[0])?.split_once("_above_")?;
        let (thousands, _) = step.split_once("k_tokens")?;
        thousands.parse().ok()
    };
    let mut steps: Vec<u64> = fields
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.keys())
        .filter_map(thousands)
        .map(|thousands| thousands * 1_000)
        .chain([0])
        .collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}

fn field_name(field: &str, above: u64, suffix: &str) -> String {
    match above {
        0 => format!("{field}{suffix}"),
        above => format!("{field}_above_{}k_tokens{suffix}", above / 1_000),
    }
}

/// Dollars a token, exactly, as nano-dollars for a million tokens. The table's numbers are doubles;
/// their shortest spelling is how they were written.
fn amount(value: &Value) -> Result<Option<u64>, Left> {
    let Some(number) = value.as_f64() else {
        return Ok(None);
    };
    let spelled = number.to_string();
    let (whole, fraction) = spelled.split_once('.').unwrap_or((&spelled, ""));
    let width = MTOK_DECIMALS + NANOUSD_DECIMALS;
    if fraction.len() > width {
        return Err(Left(
            "a price finer than a nano-dollar for a million tokens",
        ));
    }
    let digits = format!("{whole}{fraction:0<width$}");
    digits
        .parse()
        .map(Some)
        .map_err(|_| Left("a price that is no amount"))
}

/// Dollars in the fewest digits.
fn usd(nanousd: u64) -> String {
    let scale = 10_u64.pow(NANOUSD_DECIMALS as u32);
    let text = format!("{}.{:09}", nanousd / scale, nanousd % scale);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
