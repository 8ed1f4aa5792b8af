//! Whether a fetched file is what was pinned. Half a gigabyte is hashed once: the result is kept
//! with the size and time of the file, and holds for as long as those do.

use super::pins::Artifact;
use crate::error::XtaskError;
use farthing_host_tests::paths;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// How much of a file is hashed at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What lies at an artifact's path.
pub enum State {
    Verified,
    Missing,
    /// There is a file, but with other bytes.
    Damaged,
}

/// Where an artifact goes.
pub fn path(artifact: &Artifact) -> PathBuf {
    paths::farthing_dir().join(artifact.path)
}

/// Looks at an artifact's file, and hashes it only when it has changed since it was hashed last.
pub fn state(artifact: &Artifact) -> Result<State, XtaskError> {
    let file = path(artifact);
    if !file.exists() {
        return Ok(State::Missing);
    }
    if fs::metadata(&file)
        .map_err(XtaskError::file("read", &file))?
        .len()
        != artifact.size_bytes
    {
        return Ok(State::Damaged);
    }
    let expected = fingerprint(artifact)?;
    if fs::read_to_string(stamp_path(artifact)).is_ok_and(|found| found == expected) {
        return Ok(State::Verified);
    }
    if sha256_of(&file)? != artifact.sha256 {
        return Ok(State::Damaged);
    }
    record(artifact)?;
    Ok(State::Verified)
}

/// Notes that an artifact's file has been hashed as it lies there now.
pub fn record(artifact: &Artifact) -> Result<(), XtaskError> {
    let stamp = stamp_path(artifact);
    if let Some(folder) = stamp.parent() {
        fs::create_dir_all(folder).map_err(XtaskError::file("make", folder))?;
    }
    fs::write(&stamp, fingerprint(artifact)?).map_err(XtaskError::file("write", &stamp))
}

/// The SHA-256 of a file in lower-case hexadecimal.
pub fn sha256_of(path: &Path) -> Result<String, XtaskError> {
    let mut file = File::open(path).map_err(XtaskError::file("open", path))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => hasher.update(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(XtaskError::file("read", path)(error)),
        }
    }
    Ok(hexadecimal(&hasher.finalize()))
}

/// Bytes as lower-case hexadecimal.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// The pinned hash, and the size and time of the file that it was found in.
fn fingerprint(artifact: &Artifact) -> Result<String, XtaskError> {
    let file = path(artifact);
    let metadata = fs::metadata(&file).map_err(XtaskError::file("read", &file))?;
    let modified = metadata
        .modified()
        .map_err(XtaskError::file("read", &file))?;
    let modified_ns = modified
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    Ok(format!(
        "{} {} {modified_ns}\n",
        artifact.sha256,
        metadata.len()
    ))
}

fn stamp_path(artifact: &Artifact) -> PathBuf {
    paths::farthing_dir()
        .join("stamps")
        .join(artifact.path.replace('/', "-"))
}
