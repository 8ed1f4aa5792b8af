//! Compiles the kernels as C++ together with the emulator that stands in for the device.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// What marks an entry point in the preprocessed kernels; `emulator.h` puts it there.
const MARK: &str = "farthing_kernel_entry(";
/// What ends the threads of an entry point, before its name.
const THREADS_END: &str = ") farthing_kernel_name ";

fn main() {
    let own = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("src");
    let kernels = own.join("../../../../kernels/src/cuda");
    let out = PathBuf::from(variable("OUT_DIR"));
    println!("cargo::rerun-if-changed={}", own.display());
    println!("cargo::rerun-if-changed={}", kernels.display());
    println!("cargo::rerun-if-env-changed=FARTHING_KERNELS");

    // All kernels, or the files named: one that does not compile then holds up no other.
    let list = env::var("FARTHING_KERNELS").unwrap_or_else(|_| "all.cu".into());
    let includes: String = list
        .split_whitespace()
        .map(|file| format!("#include \"{file}\"\n"))
        .collect();
    write(&out.join("sources.inc"), &includes);

    let mut listing = compiler(&kernels, &own, &out);
    listing.define("FARTHING_EMULATOR_LIST", None);
    let text = listing.file(own.join("kernels.cpp")).expand();
    write(
        &out.join("registry.inc"),
        &registry(&String::from_utf8_lossy(&text)),
    );

    let mut runtime = compiler(&kernels, &own, &out);
    // Its loops over matrices are worth vectors.
    runtime.opt_level(3);
    for file in [
        "fibers.cpp",
        "memory.cpp",
        "launch.cpp",
        "races.cpp",
        "collectives.cpp",
        "warpgroups.cpp",
    ] {
        runtime.file(own.join(file));
    }
    runtime.compile("farthing_emulator_runtime");
    let mut checked = compiler(&kernels, &own, &out);
    if checked.get_compiler().is_like_gnu() {
        watch_memory(&mut checked);
    }
    checked.file(own.join("kernels.cpp"));
    checked.compile("farthing_emulator_kernels");
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

fn compiler(kernels: &Path, own: &Path, out: &Path) -> cc::Build {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .debug(false)
        .flag("-g1")
        .flag("-fno-strict-aliasing")
        .warnings(false)
        .include(kernels)
        .include(own)
        .include(out)
        .define("FARTHING_EMULATOR", None);
    build
}

/// Makes every access of a kernel call `memory.cpp` first. No sanitizer's library is linked: the
/// kernel flavour of the address sanitizer leaves its functions to the program.
fn watch_memory(build: &mut cc::Build) {
    build
        .flag("-fsanitize=kernel-address")
        .flag("-fsanitize=alignment,bounds,shift-exponent,integer-divide-by-zero")
        .flag("-fno-sanitize-recover=alignment,bounds,shift-exponent,integer-divide-by-zero")
        .flag("--param=asan-instrumentation-with-call-threshold=0")
        .flag("--param=asan-stack=0")
        .flag("--param=asan-globals=0");
}

/// One line for each entry point of the preprocessed kernels: its name and its most threads.
fn registry(preprocessed: &str) -> String {
    let mut lines = String::new();
    for entry in preprocessed.split(MARK).skip(1) {
        // "threads) farthing_kernel_name name(arguments..."
        let Some((threads, rest)) = entry.split_once(THREADS_END) else {
            continue;
        };
        let name: String = rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let line = format!("REGISTER({name}, ({}))\n", threads.trim());
        if !name.is_empty() && !lines.contains(&line) {
            lines += &line;
        }
    }
    lines
}
