//! The text files of the repository.

use farthing_host_tests::paths;
use std::fs;
use std::path::Path;

/// A file, by its path from the root with `/` between the parts.
#[derive(Clone)]
pub struct Source {
    pub path: String,
    pub text: String,
}

/// Folders with nothing of ours inside.
const SKIPPED: [&str; 3] = ["target", ".git", ".farthing"];

/// Every Rust file below a folder.
pub fn rust_sources(folder: &str) -> Vec<Source> {
    sources(folder, &["rs"])
}

/// Every file that people read.
pub fn text_sources() -> Vec<Source> {
    sources(
        "",
        &[
            "rs", "md", "toml", "yaml", "case", "cu", "cuh", "h", "cpp", "sh",
        ],
    )
}

/// Every CUDA source.
pub fn cuda_sources() -> Vec<Source> {
    sources("kernels", &["cu", "cuh"])
}

fn sources(folder: &str, extensions: &[&str]) -> Vec<Source> {
    let root = paths::workspace_root();
    let mut found = Vec::new();
    collect(&root, &root.join(folder), extensions, &mut found);
    assert!(!found.is_empty(), "no files below {folder}");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(root: &Path, folder: &Path, extensions: &[&str], found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                collect(root, &path, extensions, found);
            }
            continue;
        }
        let extension = path
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !extensions.contains(&extension.as_str()) {
            continue;
        }
        let relative = path.strip_prefix(root).unwrap_or(&path);
        let relative = relative.to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{relative}: {e}"));
        found.push(Source {
            path: relative,
            text,
        });
    }
}
