//! Puts vocabularies into the filter by build choice: `FARTHING_EMBED` names their files, separated
//! as in `PATH`. A vocabulary is called what its file is called, without the extension. Where it is
//! unset, which is the rule, the filter holds none and asks the backend.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

const VARIABLE: &str = "FARTHING_EMBED";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rerun-if-changed=build.rs");
    let mut list = String::new();
    for file in env::split_paths(&env::var_os(VARIABLE).unwrap_or_default()) {
        if file.as_os_str().is_empty() {
            continue;
        }
        let file = fs::canonicalize(&file)
            .map_err(|error| format!("{VARIABLE}: {}: {error}", file.display()))?;
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        writeln!(list, "    ({name:?}, include_bytes!({file:?})),")?;
    }
    let source = format!("&[\n{list}]\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("embedded.rs"), source)?;
    Ok(())
}
