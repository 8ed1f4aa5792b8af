//! Which file a model's answers came from: an id may be given to another file while answers of the
//! one before are still kept.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use farthing_core::limits::MODEL_REVISION_BYTES;
use sha2::{Digest, Sha256};

/// Hexadecimal digits that differ for different files and for different versions of this program:
/// a hash over the version, the file's size and time, and its first and last bytes, for hashing all
/// of it would double the time of a start.
///
/// # Errors
/// The file cannot be read.
pub fn revision(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH);
    let mut digest = Sha256::new();
    digest.update(env!("CARGO_PKG_VERSION"));
    digest.update([0]);
    digest.update(metadata.len().to_le_bytes());
    digest.update(modified.unwrap_or_default().as_nanos().to_le_bytes());
    let mut bytes = Vec::new();
    Read::by_ref(&mut file)
        .take(MODEL_REVISION_BYTES)
        .read_to_end(&mut bytes)?;
    digest.update(&bytes);
    bytes.clear();
    let last = metadata.len().saturating_sub(MODEL_REVISION_BYTES);
    file.seek(SeekFrom::Start(last))?;
    file.take(MODEL_REVISION_BYTES).read_to_end(&mut bytes)?;
    digest.update(&bytes);
    let hash = digest.finalize();
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}
