//! Sizes, names and words.

use super::files::{cuda_sources, rust_sources, text_sources};
use super::{check_none, places};
use farthing_host_tests::paths;

/// Lines of a file and columns of a line.
const FILE_LINES_MAX: usize = 600;
const COLUMNS_MAX: usize = 100;

#[test]
fn files_and_lines_are_short() {
    let long: Vec<String> = [rust_sources(""), cuda_sources()]
        .concat()
        .iter()
        .filter(|source| source.text.lines().count() > FILE_LINES_MAX)
        .map(|source| source.path.clone())
        .collect();
    check_none("files over the limit", long);
    let found = places(&text_sources(), |source, line| {
        // rustfmt sees to code. What cannot be broken (a URL, a pattern) may stick out.
        let comment = source.path.ends_with(".rs") && line.trim_start().starts_with("//");
        let prose = comment || source.path.starts_with("envoy/");
        let unbreakable = line.trim().splitn(3, ' ').count() < 3 || line.contains(r"\p{L}");
        prose && line.chars().count() > COLUMNS_MAX && !unbreakable
    });
    check_none("lines over the limit", found);
    let found = places(&cuda_sources(), |_, line| {
        line.chars().count() > COLUMNS_MAX
    });
    check_none("lines of CUDA over the limit", found);
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
