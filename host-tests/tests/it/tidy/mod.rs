//! The rules of the repository that a compiler does not check, each as a test.

mod files;
mod invariants;
mod style;

use files::Source;

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
