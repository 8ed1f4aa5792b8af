//! The filter with a vocabulary inside, built beside the one that is shipped and never over it: the
//! benchmark measures with it, and a test sees that its first request is counted.

use crate::build::{FILTER, cargo_command, show};
use crate::error::XtaskError;
use crate::signals::Interrupt;
use crate::{fetch, vocabulary};
use farthing_host_tests::client;
use farthing_host_tests::envoy::{Envoy, EnvoyConfig, EnvoyOptions};
use farthing_host_tests::paths;
use farthing_host_tests::stub::{Answer, StubUpstream};
use serde_json::json;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What OpenAI's current models count with, and the largest there is.
pub const VOCABULARY: &str = "o200k_base";
/// The most that it may add to the module.
pub const GROWTH_BYTES_MAX: u64 = 3_000_000;

/// Builds it, unless it is there, and says where.
pub fn filter(interrupt: &Interrupt) -> Result<PathBuf, XtaskError> {
    fetch::vocabularies(interrupt)?;
    let folder = paths::target_dir().join("embedded");
    let mut command = cargo_command();
    command
        .args(FILTER)
        .arg("--target-dir")
        .arg(&folder)
        .env("FARTHING_EMBED", vocabulary::path(VOCABULARY));
    show(
        &format!("the filter with {VOCABULARY} inside"),
        &mut command,
        interrupt,
    )?;
    Ok(folder.join("wasm32-wasip1/wasm/farthing.wasm"))
}

/// How much larger it is than the one without.
pub fn growth_bytes(filter: &Path) -> Result<u64, XtaskError> {
    let size = |path: &Path| match fs::metadata(path) {
        Ok(file) => Ok(file.len()),
        Err(error) => Err(XtaskError::file("read", path)(error)),
    };
    Ok(size(filter)?.saturating_sub(size(&paths::wasm())?))
}

/// Lets every model of a configuration count with the vocabulary that this filter holds.
pub fn count_with(config: &mut EnvoyConfig, filter: &Path) -> Result<(), XtaskError> {
    config.set_wasm(filter)?;
    let models = config.plugin_configuration()?.get_mut("models");
    let models = models.and_then(|models| models.as_sequence_mut());
    for model in models.into_iter().flatten() {
        model["vocabulary"] = VOCABULARY.into();
    }
    Ok(())
}

/// The first request to such a filter is counted, with nobody there to ask for a vocabulary.
pub fn check(interrupt: &Interrupt) -> Result<(), XtaskError> {
    let filter = filter(interrupt)?;
    let grown = growth_bytes(&filter)?;
    if grown > GROWTH_BYTES_MAX {
        return Err(unexpected(&format!("the module grew by {grown} bytes")));
    }
    let answer = json!({"object": "chat.completion", "choices": [], "usage": null}).to_string();
    let upstream = StubUpstream::start(move |_| Answer::json(200, answer.clone()))
        .map_err(XtaskError::io("cannot start the upstream"))?;
    let envoy = start(upstream.address(), &filter)?;
    let body = json!({"model": "smollm2-135m-instruct",
        "messages": [{"role": "user", "content": "What is the capital of France?"}]});
    let headers = [("authorization", "Bearer embedded")];
    let path = "/v1/chat/completions";
    let response = client::post_json(envoy.address(), path, &headers, &body.to_string())
        .map_err(XtaskError::io("Envoy does not answer"))?;
    let told = |name: &str| response.header(name).unwrap_or_default().to_owned();
    let (basis, tokens) = (told("x-farthing-tokens"), told("x-farthing-prompt-tokens"));
    if (basis.as_str(), tokens.as_str()) != ("exact", "14") {
        return Err(unexpected(&format!("{tokens} tokens, {basis}")));
    }
    Ok(())
}

fn start(upstream: SocketAddr, filter: &Path) -> Result<Envoy, XtaskError> {
    let mut config = EnvoyConfig::shipped("demo.yaml")?;
    config.set_upstream("backend", upstream)?;
    count_with(&mut config, filter)?;
    Ok(Envoy::start(&config, &EnvoyOptions::new(1))?)
}

fn unexpected(found: &str) -> XtaskError {
    XtaskError::Unexpected(format!("the filter with {VOCABULARY} inside: {found}"))
}
