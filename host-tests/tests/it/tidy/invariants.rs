//! The invariants of the code map.

use super::files::{cuda_sources, rust_sources};
use super::{check_none, places};
use farthing_host_tests::paths;
use std::process::Command;

#[test]
fn core_knows_no_host() {
    const BANNED: [&str; 16] = [
        "async-std",
        "candle-core",
        "cudarc",
        "farthing-kernels",
        "getrandom",
        "hyper",
        "libc",
        "log",
        "mio",
        "proxy-wasm",
        "rand",
        "reqwest",
        "rustix",
        "socket2",
        "tokio",
        "wasmtime",
    ];
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "-p",
            "farthing-core",
            "-e",
            "normal",
            "--prefix",
            "none",
        ])
        .args(["--target", "wasm32-wasip1"])
        .current_dir(paths::workspace_root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    let crates = tree.lines().filter_map(|line| line.split(' ').next());
    let banned = crates
        .filter(|name| BANNED.contains(name))
        .map(String::from)
        .collect();
    check_none("farthing-core depends on what knows a host", banned);
}

#[test]
fn core_reads_no_clock_thread_environment_or_file() {
    const BANNED: [&str; 8] = [
        "std::env",
        "std::fs",
        "std::io",
        "std::net",
        "std::process",
        "std::thread",
        "SystemTime",
        "Instant::now",
    ];
    let sources = rust_sources("plugin/core/src");
    let found = places(&sources, |_, line| {
        BANNED.iter().any(|banned| line.contains(banned))
    });
    check_none("farthing-core may only compute", found);
}

#[test]
fn only_one_file_calls_the_host() {
    let sources = rust_sources("plugin");
    let found = places(&sources, |source, line| {
        line.contains("hostcalls") && source.path != "plugin/src/host.rs"
    });
    check_none(
        "proxy-wasm host calls are made in plugin/src/host.rs only",
        found,
    );
}

#[test]
fn at_most_one_file_names_cudarc() {
    let sources = rust_sources("");
    let mut files: Vec<&str> = sources
        .iter()
        .filter(|source| source.text.contains("cudarc::") && !source.path.contains("tests/it"))
        .map(|source| source.path.as_str())
        .collect();
    files.dedup();
    assert!(files.len() <= 1, "{files:?}");
    assert!(
        files.iter().all(|path| path.starts_with("kernels/")),
        "{files:?}"
    );
}

/// Cargo gives a crate the features that any of its users asks for: one line elsewhere could make
/// the backend need a card's driver to start.
#[test]
fn cuda_is_opened_at_run_time_only() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        // For this machine alone: what others need may never have been downloaded here.
        .args(["tree", "--offline", "--workspace"])
        .args(["--prefix", "none", "--format", "{p} [{f}]"])
        .current_dir(paths::workspace_root())
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    let features = |name: &str| -> Vec<String> {
        let line = tree
            .lines()
            .find(|line| line.split(' ').next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("{name} is not in the graph"));
        let (_, rest) = line.split_once('[').unwrap_or_default();
        let (list, _) = rest.split_once(']').unwrap_or_default();
        list.split(',').map(String::from).collect()
    };
    let cudarc = features("cudarc");
    assert!(cudarc.iter().any(|f| f == "dynamic-loading"), "{cudarc:?}");
    let linked = |feature: &String| feature.ends_with("-linking") || feature.contains("system");
    assert!(!cudarc.iter().any(linked), "{cudarc:?}");
    for name in ["candle-core", "candle-nn"] {
        let found = features(name);
        let cuda = |feature: &String| feature.contains("cud") || feature == "nccl";
        assert!(!found.iter().any(cuda), "{name}: {found:?}");
    }
}

#[test]
fn only_one_cuda_source_has_inline_assembly() {
    let found = places(&cuda_sources(), |source, line| {
        line.contains("asm") && source.path != "kernels/src/cuda/intrinsics.cuh"
    });
    check_none("PTX is for kernels/src/cuda/intrinsics.cuh only", found);
}

/// What a kernel computes, whose idea it is and what it moves stand before its code.
#[test]
fn every_kernel_has_a_head() {
    let kernels = cuda_sources()
        .into_iter()
        .filter(|source| source.path.ends_with(".cu") && !source.path.ends_with("/all.cu"));
    let lacking: Vec<String> = kernels
        .filter_map(|source| {
            let lines = source.text.lines();
            let head: Vec<&str> = lines.take_while(|line| line.starts_with("//")).collect();
            let head = head.join("\n");
            let has = |words: &[&str]| words.iter().any(|word| head.contains(word));
            let whole = has(&["Bytes"]) && has(&["Operations"]) && has(&["Idea", "Source"]);
            (!whole).then_some(source.path)
        })
        .collect();
    check_none("heads that lack bytes, operations or a source", lacking);
}

#[test]
fn only_wire_knows_json() {
    // Our own shapes that are JSON by nature: the configuration's text form and the ledger's lines.
    const EXCEPTIONS: [&str; 3] = [
        "plugin/core/src/config/",
        "plugin/core/src/ledger.rs",
        "plugin/core/src/wire/",
    ];
    let sources = [rust_sources("plugin/core/src"), rust_sources("plugin/src")].concat();
    let found = places(&sources, |source, line| {
        line.contains("serde_json") && !EXCEPTIONS.iter().any(|path| source.path.starts_with(path))
    });
    check_none("serde_json is for wire/ and the named exceptions", found);
}

#[test]
fn what_runs_in_envoy_cannot_panic() {
    for manifest in ["plugin/Cargo.toml", "plugin/core/Cargo.toml"] {
        let text = std::fs::read_to_string(paths::workspace_root().join(manifest));
        let text = text.expect("the manifest");
        for lint in ["unwrap_used", "expect_used", "panic", "indexing_slicing"] {
            assert!(
                text.contains(&format!("{lint} = \"deny\"")),
                "{manifest} allows {lint}"
            );
        }
        assert!(
            text.contains("unsafe_code = \"forbid\""),
            "{manifest} allows unsafe code"
        );
    }
}

#[test]
fn unsafe_code_is_where_it_may_be() {
    let sources = rust_sources("");
    let found = places(&sources, |source, line| {
        let code = line.split("//").next().unwrap_or_default();
        let uses = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
        // The emulator is C++, because the kernels are, and its memory is theirs to write.
        let allowed = source.path.starts_with("kernels/")
            || source.path.starts_with("host-tests/gpu/emulator/")
            || source.path.starts_with("backend/src/model/")
            || source.path.contains("tests/it/tidy");
        uses.iter().any(|form| code.contains(form)) && !allowed
    });
    check_none(
        "unsafe code is for kernels and the memory map of a model",
        found,
    );
}

#[test]
fn every_limit_says_why() {
    let path = "plugin/core/src/limits.rs";
    let sources = rust_sources("plugin/core/src");
    let limits = sources
        .iter()
        .find(|source| source.path == path)
        .expect("the limits");
    let mut before = "";
    let mut bare = Vec::new();
    for line in limits.text.lines() {
        // A least and a most of the same thing may share a reason.
        let limit = line.starts_with("pub const");
        if limit && !before.starts_with("///") && !before.starts_with("pub const") {
            bare.push(line.to_string());
        }
        before = line;
    }
    check_none("a limit without a reason", bare);
}
