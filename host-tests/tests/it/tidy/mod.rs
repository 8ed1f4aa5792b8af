//! The rules of the repository that a compiler does not check, each as a test: the invariants of
//! the code map, and the limits on size and words.

mod files;

use farthing_host_tests::paths;
use files::{Source, rust_sources, text_sources};
use std::process::Command;

/// Lines of a file and columns of a line.
const FILE_LINES_MAX: usize = 600;
const COLUMNS_MAX: usize = 100;

/// Fails with every place that breaks the rule.
#[track_caller]
fn check_none(rule: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

/// Places in `sources` where `line` is wrong.
fn places(sources: &[Source], wrong: impl Fn(&Source, &str) -> bool) -> Vec<String> {
    let mut places = Vec::new();
    for source in sources {
        let lines = source
            .text
            .lines()
            .enumerate()
            .filter(|(_, line)| wrong(source, line));
        places.extend(lines.map(|(index, _)| format!("{}:{}", source.path, index + 1)));
    }
    places
}

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
        let allowed = source.path.starts_with("kernels/")
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

#[test]
fn files_and_lines_are_short() {
    let long: Vec<String> = rust_sources("")
        .iter()
        .filter(|source| source.text.lines().count() > FILE_LINES_MAX)
        .map(|source| source.path.clone())
        .collect();
    check_none("files over the limit", long);
    let found = places(&text_sources(), |source, line| {
        // rustfmt sees to code; what it cannot break are texts, and single words such as a URL.
        let text = source.path.ends_with(".rs") && line.contains('"');
        let word = line.trim().splitn(3, ' ').count() < 3;
        let ours = source.path.ends_with(".rs") || source.path.starts_with("envoy/");
        ours && line.chars().count() > COLUMNS_MAX && !text && !word
    });
    check_none("lines over the limit", found);
}

#[test]
fn names_say_what_is_inside() {
    const BANNED: [&str; 8] = [
        "common", "helper", "helpers", "manager", "misc", "stuff", "util", "utils",
    ];
    let sources = text_sources();
    let found = sources
        .iter()
        .filter(|source| {
            let parts = source.path.split(['/', '.', '_', '-']);
            parts.into_iter().any(|part| BANNED.contains(&part))
        })
        .map(|source| source.path.clone());
    check_none("a name that says nothing", found.collect());
}

#[test]
fn nothing_is_left_undone_and_no_machine_is_named() {
    // Put together, so that this file does not contain them.
    let banned: Vec<String> = [
        ("TO", "DO"),
        ("FIX", "ME"),
        ("todo", "!("),
        ("unimplemented", "!("),
        ("dbg", "!("),
        ("#[ig", "nore"),
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/ho", "me/"),
    ]
    .iter()
    .map(|(first, second)| [*first, *second].concat())
    .collect();
    let found = places(&text_sources(), |source, line| {
        !source.path.contains("tests/golden") && banned.iter().any(|word| line.contains(word))
    });
    check_none("unfinished work, or the path of one machine", found);
}

#[test]
fn quotes_are_ascii() {
    let found = places(&rust_sources(""), |_, line| {
        line.contains(['\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}'])
    });
    check_none("typographic quotes in code", found);
}

/// Every path in the README's code map exists.
#[test]
fn the_code_map_is_true() {
    let root = paths::workspace_root();
    let Ok(readme) = std::fs::read_to_string(root.join("README.md")) else {
        return;
    };
    let folders = ["plugin/", "backend/", "kernels/", "host-tests/", "envoy/"];
    let named = readme.split('`').skip(1).step_by(2);
    let gone = named
        .filter(|word| folders.iter().any(|folder| word.starts_with(folder)))
        .filter(|word| !word.contains(['*', ' ', '{']) && !root.join(word).exists())
        .map(String::from);
    check_none("README names what is not there", gone.collect());
}
