//! The compiler's wasm target. `rust-toolchain.toml` names it too; a toolchain that was installed
//! before that file was read may still lack it.

use crate::error::XtaskError;
use crate::signals::Interrupt;
use crate::subprocess;
use std::path::Path;
use std::process::Command;

/// What the filter is compiled for.
pub const WASM_TARGET: &str = "wasm32-wasip1";

/// Adds the target to the toolchain, unless its standard library is there.
pub fn ensure_wasm_target(interrupt: &Interrupt) -> Result<(), XtaskError> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut find = Command::new(rustc);
    find.args(["--print", "target-libdir", "--target", WASM_TARGET]);
    let found = subprocess::run(&mut find, interrupt, |_| {})?;
    let folder = found
        .require_success("rustc --print target-libdir")?
        .pop()
        .unwrap_or_default();
    if Path::new(&folder).exists() {
        return Ok(());
    }
    eprintln!("fetch: the compiler's target {WASM_TARGET}");
    let mut add = Command::new("rustup");
    add.args(["target", "add", WASM_TARGET]);
    subprocess::run(&mut add, interrupt, |_| {})?.require_success("rustup target add")?;
    Ok(())
}
