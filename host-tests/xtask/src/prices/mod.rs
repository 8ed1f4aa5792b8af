//! `cargo xtask prices`: makes the price catalogue that the filter carries from the table that
//! LiteLLM (MIT) publishes as `model_prices_and_context_window_backup.json` in its Python package.
//! The models of the main providers are taken, as far as tokens are all that they charge for; what
//! is left out is counted.

mod row;

use crate::cli::PricesOptions;
use crate::error::XtaskError;
use crate::fetch::hexadecimal;
use farthing_host_tests::paths;
use row::{Left, Row};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

/// LiteLLM's words for the providers whose models are taken.
const PROVIDERS: [&str; 14] = [
    "anthropic",
    "azure",
    "bedrock_converse",
    "cerebras",
    "cohere",
    "cohere_chat",
    "deepseek",
    "gemini",
    "groq",
    "mistral",
    "openai",
    "text-completion-openai",
    "vertex_ai-anthropic_models",
    "vertex_ai-language-models",
];
/// Its words for what our endpoints serve.
const MODES: [&str; 4] = ["chat", "completion", "embedding", "responses"];

/// Reads the table and writes the catalogue.
pub fn run(options: &PricesOptions) -> Result<(), XtaskError> {
    let bytes = fs::read(&options.from).map_err(XtaskError::file("read", &options.from))?;
    let unreadable =
        |reason: String| XtaskError::Config(format!("{}: {reason}", options.from.display()));
    let table: Value =
        serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    let Value::Object(table) = table else {
        return Err(unreadable("is not an object".to_owned()));
    };
    let source = format!(
        "# from LiteLLM {} (MIT licence, Copyright (c) 2023 Berri AI):\n\
         # model_prices_and_context_window_backup.json, sha256 {}",
        options.release,
        hexadecimal(&Sha256::digest(&bytes))
    );
    let (text, left) = catalogue(&table, &source);
    let path = paths::workspace_root().join("plugin/core/src/price/catalogue.txt");
    fs::write(&path, &text).map_err(XtaskError::file("write", &path))?;
    eprintln!("{}: {} bytes", path.display(), text.len());
    for (reason, names) in &left {
        eprintln!("left out, {reason}: {}", names.join(" "));
    }
    Ok(())
}

/// The catalogue's text, and the models of our providers that are not in it, by reason.
fn catalogue<'a>(
    table: &'a serde_json::Map<String, Value>,
    source: &str,
) -> (String, BTreeMap<&'static str, Vec<&'a str>>) {
    let mut by_price: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut left: BTreeMap<&'static str, Vec<&str>> = BTreeMap::new();
    let ours = table.iter().filter(|(_, fields)| {
        is_one_of(&fields["litellm_provider"], &PROVIDERS) && is_one_of(&fields["mode"], &MODES)
    });
    for (name, fields) in ours {
        match Row::read(name, fields) {
            Ok(row) => by_price.entry(row.to_string()).or_default().push(name),
            Err(Left(reason)) => left.entry(reason).or_default().push(name),
        }
    }
    let mut lines: Vec<(String, Vec<&str>)> = by_price.into_iter().collect();
    for (_, names) in &mut lines {
        names.sort_unstable();
    }
    lines.sort_by(|(_, a), (_, b)| a.cmp(b));
    let mut text = format!(
        "# farthing price catalogue 1\n{source}\n# made by `cargo xtask prices`; the format is \
         described in catalogue.rs\n"
    );
    for (price, names) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{price} = {}", names.join(" "));
    }
    (text, left)
}

fn is_one_of(value: &Value, words: &[&str]) -> bool {
    value.as_str().is_some_and(|word| words.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(fields: Value, expected: &str) {
        let mut fields = fields;
        fields["litellm_provider"] = "openai".into();
        fields["mode"] = "chat".into();
        let table = json!({"m": fields});
        let (text, left) = catalogue(table.as_object().expect("a table"), "# test");
        let last = text.lines().last().unwrap_or_default();
        match left.keys().next() {
            Some(reason) => assert_eq!(*reason, expected),
            None => assert_eq!(last, format!("{expected} = m")),
        }
    }

    #[test]
    fn a_row_becomes_a_line() {
        check(
            json!({"input_cost_per_token": 1.5e-7, "output_cost_per_token": 6e-7}),
            "0.15/0.6",
        );
        check(
            json!({"input_cost_per_token": 3e-6, "output_cost_per_token": 1.5e-5,
                "cache_read_input_token_cost": 3e-7, "cache_creation_input_token_cost": 3.75e-6,
                "cache_creation_input_token_cost_above_1hr": 6e-6,
                "input_cost_per_token_above_200k_tokens": 6e-6,
                "output_cost_per_token_above_200k_tokens": 2.25e-5}),
            "3/15/0.3/3.75/6 >200000:6/22.5",
        );
        // What a tier does not say is what the usual one says, but for what would be cheaper.
        check(
            json!({"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6,
                "cache_read_input_token_cost": 5e-7, "input_cost_per_token_batches": 1e-6,
                "output_cost_per_token_batches": 4e-6, "input_cost_per_token_priority": 3.5e-6,
                "output_cost_per_token_priority": 1.4e-5,
                "input_cost_per_token_above_128k_tokens_priority": 7e-6}),
            "2/8/0.5 b:1/4/0.5 p:3.5/14 p>128000:7/14",
        );
        // A cache that writes or reads for nothing is one that the table knows nothing of.
        check(
            json!({"input_cost_per_token": 2.8e-7, "output_cost_per_token": 4.2e-7,
                "cache_creation_input_token_cost": 0.0, "cache_read_input_token_cost": 0}),
            "0.28/0.42",
        );
    }

    #[test]
    fn what_cannot_be_priced_by_tokens_is_left_out() {
        check(json!({"output_cost_per_token": 1e-6}), "no price of tokens");
        check(
            json!({"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}),
            "no price of tokens",
        );
        check(
            json!({"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6,
                "output_cost_per_reasoning_token": 4e-6}),
            "another price for reasoning",
        );
        check(
            json!({"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6,
                "input_cost_per_request": 0.005}),
            "a price for each request",
        );
        check(
            json!({"input_cost_per_token": 1.0000000000000002e-6, "output_cost_per_token": 2e-6}),
            "a price finer than a nano-dollar for a million tokens",
        );
    }
}
