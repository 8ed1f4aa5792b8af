//! Where things lie. Every path of the workspace is made here, so that moving one is one edit.

use crate::HarnessError;
use std::env;
use std::path::{Path, PathBuf};

/// The Envoy that everything is measured on.
pub const ENVOY_VERSION: &str = "1.40.0";

/// The root of the workspace.
pub fn workspace_root() -> PathBuf {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_root.parent().unwrap_or(crate_root).to_path_buf()
}

/// The ignored folder for everything fetched and everything a run leaves behind.
pub fn farthing_dir() -> PathBuf {
    from_env("FARTHING_DIR").unwrap_or_else(|| workspace_root().join(".farthing"))
}

/// Configurations and logs of running parts; safe to delete when nothing runs.
pub fn run_dir() -> PathBuf {
    farthing_dir().join("run")
}

/// Cargo's target directory, as cargo itself would choose it from the workspace root.
pub fn target_dir() -> PathBuf {
    from_env("CARGO_TARGET_DIR").unwrap_or_else(|| workspace_root().join("target"))
}

/// The filter, as `cargo xtask` builds it; `FARTHING_WASM` overrides.
pub fn wasm() -> PathBuf {
    from_env("FARTHING_WASM").unwrap_or_else(|| {
        target_dir()
            .join("wasm32-wasip1")
            .join("wasm")
            .join("farthing.wasm")
    })
}

/// The filter that traps where a request says so, for tests of what a trap does.
pub fn poisoned_wasm() -> PathBuf {
    example_wasm("poisoned.wasm")
}

/// The filter that decides nothing, for benchmarks.
pub fn bare_wasm() -> PathBuf {
    example_wasm("bare.wasm")
}

fn example_wasm(file: &str) -> PathBuf {
    let built = target_dir().join("wasm32-wasip1").join("wasm");
    built.join("examples").join(file)
}

/// The backend's binary; `FARTHING_BIN` overrides.
pub fn backend() -> PathBuf {
    from_env("FARTHING_BIN").unwrap_or_else(|| target_dir().join("release").join("farthing"))
}

/// The Envoy binary; `FARTHING_ENVOY` overrides.
pub fn envoy() -> PathBuf {
    from_env("FARTHING_ENVOY").unwrap_or_else(|| {
        farthing_dir()
            .join(format!("envoy-{ENVOY_VERSION}"))
            .join("envoy")
    })
}

/// A configuration of the repository, such as `minimal.yaml`.
pub fn envoy_config(file_name: &str) -> PathBuf {
    workspace_root().join("envoy").join(file_name)
}

/// The folder of the model files; `FARTHING_MODELS` overrides.
pub fn models() -> PathBuf {
    from_env("FARTHING_MODELS").unwrap_or_else(|| farthing_dir().join("models"))
}

/// The model of over a gigabyte, which is fetched only for benchmarks and evaluations.
pub fn large_model() -> PathBuf {
    let folder = farthing_dir().join("large-models");
    folder.join("qwen2.5-coder-1.5b-instruct.gguf")
}

/// A file of the labelled data that lies beside the checkout; `FARTHING_DATA` overrides.
pub fn data(file: &str) -> PathBuf {
    let beside = workspace_root().join("../shared/data");
    from_env("FARTHING_DATA").unwrap_or(beside).join(file)
}

/// The tokens of a provider's models, as tiktoken has them.
pub fn tiktoken(encoding: &str) -> PathBuf {
    let file = format!("{encoding}.tiktoken");
    farthing_dir().join("tiktoken").join(file)
}

/// The folder of the vocabulary files that are made of them.
pub fn vocabularies() -> PathBuf {
    farthing_dir().join("vocabularies")
}

/// One model: a GGUF file, or a folder for the embedding model.
pub fn model(id: &str) -> PathBuf {
    let gguf = models().join(format!("{id}.gguf"));
    if gguf.exists() {
        gguf
    } else {
        models().join(id)
    }
}

/// The official client package and what it needs, as `python_version` (`3.11`) imports them: their
/// compiled parts are for one version only.
pub fn python_packages(python_version: &str) -> PathBuf {
    farthing_dir().join(format!("python-{python_version}"))
}

/// Other gateways, which the edge benchmark installs.
pub fn peers_dir() -> PathBuf {
    farthing_dir().join("peers")
}

/// The CUDA compilers, and the kernels that they have compiled.
pub fn cuda_dir() -> PathBuf {
    farthing_dir().join("cuda")
}

/// The program that checks and times the CUDA kernels on a card.
pub fn gpu_program() -> PathBuf {
    target_dir().join("release").join("farthing-gpu")
}

/// `path`, when it exists; otherwise an error that names the command which makes it.
pub fn require(what: &'static str, path: PathBuf) -> Result<PathBuf, HarnessError> {
    if path.exists() {
        Ok(path)
    } else {
        Err(HarnessError::Missing {
            what,
            path,
            advice: "run `cargo xtask test`, which makes it",
        })
    }
}

fn from_env(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
