//! The compiler's targets beside this machine's. `rust-toolchain.toml` names them too; a toolchain
//! that was installed before that file was read may still lack one.

use crate::error::XtaskError;
use crate::signals::Interrupt;
use crate::subprocess;
use std::path::Path;
use std::process::Command;

/// What the filter is compiled for.
pub const WASM_TARGET: &str = "wasm32-wasip1";
/// What the kernels are checked for, wherever that happens.
pub const ARM_TARGET: &str = "aarch64-unknown-linux-gnu";

/// Adds a target to the toolchain, unless its standard library is there.
pub fn ensure(target: &str, interrupt: &Interrupt) -> Result<(), XtaskError> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut find = Command::new(rustc);
    find.args(["--print", "target-libdir", "--target", target]);
    let found = subprocess::run(&mut find, interrupt, |_| {})?;
    let folder = found
        .require_success("rustc --print target-libdir")?
        .pop()
        .unwrap_or_default();
    if Path::new(&folder).exists() {
        return Ok(());
    }
    eprintln!("fetch: the compiler's target {target}");
    let mut add = Command::new("rustup");
    add.args(["target", "add", target]);
    subprocess::run(&mut add, interrupt, |_| {})?.require_success("rustup target add")?;
    Ok(())
}
