//! NVIDIA's CUDA compilers from their wheels, every one pinned by its hash: no toolkit of the
//! system is used, so that every machine makes the same kernels.

use super::{pinned, pip};
use crate::error::XtaskError;
use crate::signals::Interrupt;
use farthing_host_tests::paths;
use std::path::PathBuf;

/// The compilers' pins.
pub fn requirements() -> PathBuf {
    paths::workspace_root().join("host-tests/gpu/requirements.txt")
}

/// Where the compilers are.
pub struct CudaToolkit {
    root: PathBuf,
}

/// Installs the compilers, unless they are there.
pub fn cuda_toolkit(interrupt: &Interrupt) -> Result<CudaToolkit, XtaskError> {
    let folder = paths::cuda_dir().join("toolkit");
    let pins = requirements();
    let install = || Ok(pip::install(&folder, &pins));
    pinned::folder("the CUDA compilers", &folder, &pins, install, interrupt)?;
    Ok(CudaToolkit {
        root: folder.join("nvidia/cu13"),
    })
}

impl CudaToolkit {
    /// `nvcc`, `ptxas` or `fatbinary`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    /// Where they look for each other.
    pub fn programs(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// Where a program that opens NVRTC finds it.
    pub fn libraries(&self) -> PathBuf {
        self.root.join("lib")
    }
}
