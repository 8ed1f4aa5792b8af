//! Packages of other ecosystems, in folders of their own: each is made from a file of pins, and
//! made anew when that file changes.

use super::stamp;
use crate::error::XtaskError;
use crate::signals::Interrupt;
use crate::subprocess;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Holds the hash of the pins that a folder was made from; written last.
const MADE_FROM: &str = "made-from.sha256";

/// Fills `folder` with what `install` answers a command for, unless it was filled from the same
/// `pins` before.
pub fn folder(
    what: &str,
    folder: &Path,
    pins: &Path,
    install: impl FnOnce() -> Result<Command, XtaskError>,
    interrupt: &Interrupt,
) -> Result<(), XtaskError> {
    let pinned = stamp::sha256_of(pins)?;
    let made_from = folder.join(MADE_FROM);
    if fs::read_to_string(&made_from).is_ok_and(|text| text == pinned) {
        return Ok(());
    }
    eprintln!("fetch: {what}");
    if folder.exists() {
        // Installers leave what is already there as it is.
        fs::remove_dir_all(folder).map_err(XtaskError::file("remove", folder))?;
    }
    fs::create_dir_all(folder).map_err(XtaskError::file("make", folder))?;
    let finished = subprocess::run(&mut install()?, interrupt, |_| {})?;
    finished.require_success(&format!("installing {what}"))?;
    fs::write(&made_from, pinned).map_err(XtaskError::file("write", &made_from))
}
