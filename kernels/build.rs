//! Puts the compiled CUDA kernels into the library, if there are any: `FARTHING_CUDA_FATBIN` names
//! the file, which `cargo xtask kernels` makes. Without it the library compiles them when a card is
//! opened.

use std::path::PathBuf;
use std::{env, fs};

const VARIABLE: &str = "FARTHING_CUDA_FATBIN";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={VARIABLE}");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names a folder for outputs"));
    let kernels = match env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        Some(path) => {
            let path = PathBuf::from(path);
            println!("cargo:rerun-if-changed={}", path.display());
            fs::read(&path).unwrap_or_else(|e| panic!("{VARIABLE}={}: {e}", path.display()))
        }
        None => Vec::new(),
    };
    fs::write(out.join("farthing.fatbin"), kernels).expect("cargo's folder can be written");
}
