//! What the demo runs on: the shipped configuration with its own tenants and budgets, and a backend
//! that keeps answers.

use crate::error::XtaskError;
use crate::fetch;
use crate::stack::StackOptions;
use farthing_host_tests::process::run_folder;
use serde_json::json;
use serde_yaml_ng::Value;
use sha2::{Digest, Sha256};

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
    options.backend = Some(backend()?);
    Ok(options)
}

/// What a tenant sends.
pub fn credential(tenant: &str) -> String {
    format!("demo-{tenant}")
}

/// The backend's configuration, its files in a folder of this run.
fn backend() -> Result<Value, XtaskError> {
    let folder = run_folder("demo")?;
    let mut config: Value = serde_yaml_ng::from_str(BACKEND).map_err(refused)?;
    let files = [
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
