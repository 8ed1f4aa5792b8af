//! What the demo runs on: the shipped configuration with its own tenants, budgets, a cascade, and
//! a backend that keeps answers.

use crate::error::XtaskError;
use crate::fetch;
use crate::stack::{ENVOY_CONFIG, StackOptions};
use farthing_core::money::Nanousd;
use farthing_core::price::{Price, Rates};
use farthing_host_tests::envoy::EnvoyConfig;
use farthing_host_tests::process::run_folder;
use serde_json::json;
use serde_yaml_ng::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// The demo's tenants, each known by the credential `demo-NAME`.
const TENANTS: [&str; 4] = ["acme", "globex", "free-tier", UNCACHED];
/// The tenant without a cache at the edge, whose repeats the backend's response store answers.
const UNCACHED: &str = "initech";
/// Enough for one short answer of the large model, and not for two: its price is 600 nano-dollars
/// a completion token.
const FREE_TIER_USD: &str = "0.00003";
/// Nobody else meets a limit.
const BUDGET_USD: &str = "1";
const BUDGET_WINDOW_S: u64 = 3_600;
const BACKEND: &str = include_str!("backend.yaml");
/// What the backend knows of its cascade's models; `backend.yaml` says how it was made.
const CALIBRATION: &[u8] = include_bytes!("facts.cascade");

/// The stack of the demo.
pub fn stack_options() -> Result<StackOptions, XtaskError> {
    let names: Vec<serde_json::Value> = TENANTS
        .iter()
        .map(|name| {
            let digest = Sha256::digest(credential(name).as_bytes());
            let credential_sha256 = fetch::hexadecimal(&digest);
            json!({"name": name, "credential_sha256": credential_sha256})
        })
        .collect();
    let mut options = StackOptions::new();
    let mut set = |name: &str, json: serde_json::Value| {
        let value = serde_yaml_ng::to_value(json).map_err(refused)?;
        options.filter_fields.push((name.to_string(), value));
        Ok::<(), XtaskError>(())
    };
    set("tenant", json!({"source": "credential", "names": names}))?;
    set(
        "budget",
        json!({
            "window_s": BUDGET_WINDOW_S,
            "usd": BUDGET_USD,
            "tenants": {"free-tier": FREE_TIER_USD},
        }),
    )?;
    set(
        "routes",
        json!([{
            "name": "response-store",
            "match": {"tenants": [UNCACHED]},
            "cache": {"enabled": false},
        }]),
    )?;
    set("models", json!(models()?))?;
    options.backend = Some(backend()?);
    Ok(options)
}

/// The shipped models, and the backend's cascade as one more. It is priced as its dearest model, so
/// that savings count against asking that one at once.
fn models() -> Result<Vec<serde_json::Value>, XtaskError> {
    let mut shipped = EnvoyConfig::shipped(ENVOY_CONFIG)?;
    let models = shipped.plugin_configuration()?.get("models").cloned();
    let models = serde_json::to_value(models).map_err(refused)?;
    let mut models: Vec<serde_json::Value> = serde_json::from_value(models).map_err(refused)?;
    let dearest = models.iter().find(|model| model["tier"] == "large");
    let price = dearest.map(|model| model["price"].clone());
    models.push(json!({
        "id": "facts",
        "tier": "cascade",
        "cluster": "backend",
        "context_tokens": 2_048,
        "price": price,
    }));
    Ok(models)
}

/// What a model's tokens cost, in nano-dollars for a million of the prompt and of the answer.
pub fn prices() -> Result<HashMap<String, Price>, XtaskError> {
    let priced = models()?.into_iter().map(|model| {
        let rate = |field: &str| {
            let usd = model["price"][field].to_string();
            Nanousd::parse_usd(&usd).map_err(|error| refused(format!("{field} {usd}: {error:?}")))
        };
        let (input, output) = (rate("input_usd_per_mtok")?, rate("output_usd_per_mtok")?);
        let id = model["id"].as_str().unwrap_or_default().to_string();
        Ok((id, Price::flat(Rates::plain(input.0, output.0))))
    });
    priced.collect()
}

/// What a tenant sends.
pub fn credential(tenant: &str) -> String {
    format!("demo-{tenant}")
}

/// The backend's configuration, its files in a folder of this run.
fn backend() -> Result<Value, XtaskError> {
    let folder = run_folder("demo")?;
    let mut config: Value = serde_yaml_ng::from_str(BACKEND).map_err(refused)?;
    let calibration = folder.join("facts.cascade");
    std::fs::write(&calibration, CALIBRATION).map_err(XtaskError::file("write", &calibration))?;
    let files = [
        (vec!["cascades", "facts", "calibration"], calibration),
        (
            vec!["response_store", "path"],
            folder.join("responses.redb"),
        ),
        (
            vec!["semantic_cache", "path"],
            folder.join("semantic.farthing"),
        ),
    ];
    for (path, file) in files {
        let Some((field, parents)) = path.split_last() else {
            continue;
        };
        let parent = parents
            .iter()
            .try_fold(&mut config, |value, key| value.get_mut(*key));
        if let Some(mapping) = parent.and_then(Value::as_mapping_mut) {
            let file = file.display().to_string();
            mapping.insert((*field).into(), file.into());
        }
    }
    Ok(config)
}

fn refused(error: impl std::fmt::Display) -> XtaskError {
    XtaskError::Unexpected(format!("demo configuration: {error}"))
}
