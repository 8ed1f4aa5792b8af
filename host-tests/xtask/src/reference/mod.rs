//! `cargo xtask reference`: the reference of the filter's configuration, made from the types that
//! read it. A field is in the reference because it is in its type; its meaning is the type's own
//! comment, its default the code's, and its limit what the filter says when it is broken.

mod defaults;
mod limits;
mod render;
mod types;

use crate::error::XtaskError;
use farthing_host_tests::paths;
use std::fs;
use std::path::PathBuf;

/// Where the reference is.
const FILE_NAME: &str = "CONFIGURATION.md";

/// Writes the reference.
pub fn write() -> Result<(), XtaskError> {
    let file = file();
    fs::write(&file, make()?).map_err(XtaskError::file("write", &file))?;
    eprintln!("reference: {}", file.display());
    Ok(())
}

fn file() -> PathBuf {
    paths::envoy_config(FILE_NAME)
}

/// The reference, as the types are now.
fn make() -> Result<String, XtaskError> {
    let types = types::Types::read()?;
    let limits = limits::Limits::read()?;
    render::render(&types.fields()?, &limits)
}

#[cfg(test)]
mod tests {
    use super::{file, make};
    use std::fs;

    #[test]
    fn the_reference_is_what_the_types_say() {
        let made = make().unwrap_or_else(|error| panic!("{error}"));
        let written = fs::read_to_string(file()).expect("the reference");
        assert!(written == made, "it is stale: run `cargo xtask reference`");
    }
}
