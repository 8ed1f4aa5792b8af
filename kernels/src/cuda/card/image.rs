//! The kernels as a card takes them: those inside this build, or compiled here by NVRTC.

use super::driver::{CudaContext, CudaModule};
use super::nvrtc::{Ptx, result, sys};
use super::{CudaError, cache, refused};
use crate::cuda::sources::{self, Target};
use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::sync::Arc;

/// A fat binary for every target, of which the driver picks; empty if there was none to build with.
static EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/farthing.fatbin"));
/// So much of what the compiler says is kept: its first errors.
const LOG_CHARS_MAX: usize = 4_000;

/// Loads the kernels.
pub fn load(
    context: &Arc<CudaContext>,
    capability: (u32, u32),
    cache_dir: Option<&Path>,
) -> Result<Arc<CudaModule>, CudaError> {
    if !EMBEDDED.is_empty() {
        return load_image(context, EMBEDDED.to_vec());
    }
    // Cards without a target have been refused before.
    let target = Target::of_capability(capability).unwrap_or(Target::Later);
    let Some(folder) = cache_dir else {
        return load_image(context, compile(target)?);
    };
    let source = sources::flattened()?;
    let options = target.options().join(" ");
    let file = cache::path(
        folder,
        target.architecture(),
        &[&source, &options, &compiler_version()?],
    );
    if let Some(module) = cache::read(&file).and_then(|image| load_image(context, image).ok()) {
        return Ok(module);
    }
    let image = compile_source(&source, target)?;
    // A folder that cannot be written costs the same time at the next start, nothing else.
    let _ = cache::write(&file, &image);
    load_image(context, image)
}

fn load_image(context: &Arc<CudaContext>, image: Vec<u8>) -> Result<Arc<CudaModule>, CudaError> {
    let loaded = context.load_module(Ptx::from_binary(image));
    loaded.map_err(refused("load the kernels"))
}

/// Compiles the kernels, which needs no card: machine code, or the intermediate language with a
/// zero at its end.
///
/// # Errors
/// NVRTC is not on this machine, or refuses the kernels.
pub fn compile(target: Target) -> Result<Vec<u8>, CudaError> {
    compile_source(&sources::flattened()?, target)
}

/// Reads the kernels as [`compile`] does and makes nothing of them, which takes a second instead of
/// minutes: what follows is the same in nvcc.
///
/// # Errors
/// NVRTC is not on this machine, or refuses the kernels.
pub fn check_syntax(target: Target) -> Result<(), CudaError> {
    let mut options = target.options().to_vec();
    options.push("--fdevice-syntax-only".to_string());
    with_program(&sources::flattened()?, target, &options, |_| Ok(()))
}

fn compile_source(source: &str, target: Target) -> Result<Vec<u8>, CudaError> {
    with_program(source, target, &target.options(), |program| {
        program.output(target)
    })
}

/// Compiles a program and takes what is wanted of it.
fn with_program<T>(
    source: &str,
    target: Target,
    options: &[String],
    wanted: impl FnOnce(&Program) -> Result<T, result::NvrtcError>,
) -> Result<T, CudaError> {
    require_compiler()?;
    let failed = |log: &str| CudaError::Compile {
        target: target.architecture().to_string(),
        log: log.chars().take(LOG_CHARS_MAX).collect(),
    };
    let source = CString::new(source).map_err(|_| failed("a zero byte in a source"))?;
    let program = Program::new(&source).map_err(|e| failed(&format!("{e:?}")))?;
    // SAFETY: the program lives.
    unsafe { result::compile_program(program.0, options) }
        .map_err(|error| failed(&format!("{error:?}\n{}", program.log())))?;
    wanted(&program).map_err(|error| failed(&format!("{error:?}")))
}

fn require_compiler() -> Result<(), CudaError> {
    // SAFETY: opening the library runs its initializers, which NVIDIA answers for.
    if unsafe { sys::is_culib_present() } {
        Ok(())
    } else {
        Err(CudaError::NoCompiler)
    }
}

fn compiler_version() -> Result<String, CudaError> {
    require_compiler()?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both are written to integers of ours.
    let status = unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
    Ok(format!("nvrtc {major}.{minor} {status:?}"))
}

/// A program in the compiler, which is destroyed when this is dropped.
struct Program(sys::nvrtcProgram);

impl Program {
    fn new(source: &CStr) -> Result<Program, result::NvrtcError> {
        result::create_program(source, Some(c"farthing.cu")).map(Program)
    }

    fn log(&self) -> String {
        // SAFETY: the program lives.
        let log = unsafe { result::get_program_log(self.0) }.unwrap_or_default();
        String::from_utf8_lossy(&bytes(&log))
            .trim_end_matches('\0')
            .to_string()
    }

    /// What was compiled.
    fn output(&self, target: Target) -> Result<Vec<u8>, result::NvrtcError> {
        if !target.is_machine_code() {
            // SAFETY: the program lives and has been compiled.
            return Ok(bytes(&unsafe { result::get_ptx(self.0) }?));
        }
        let mut size = 0;
        // SAFETY: as above; the size is written to an integer of ours.
        unsafe { sys::nvrtcGetCUBINSize(self.0, &mut size) }.result()?;
        let mut image = vec![0u8; size];
        // SAFETY: as above; `image` has the size that was just told.
        unsafe { sys::nvrtcGetCUBIN(self.0, image.as_mut_ptr().cast()) }.result()?;
        Ok(image)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program lives, and nothing uses it after.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn bytes(characters: &[c_char]) -> Vec<u8> {
    characters.iter().map(|c| c.to_ne_bytes()[0]).collect()
}
