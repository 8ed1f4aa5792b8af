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
/// of it would double the time of a start. A folder's is over all its files, for its tokenizer and
/// configuration decide answers as much as its weights.
///
/// # Errors
/// The file, or one of the folder's, cannot be read.
pub fn revision(path: &Path) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    digest.update(env!("CARGO_PKG_VERSION"));
    if path.is_dir() {
        let entries = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
        let mut files: Vec<_> = entries.collect::<std::io::Result<_>>()?;
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            digest.update(file.file_name().unwrap_or_default().as_encoded_bytes());
            add(&mut digest, file)?;
        }
    } else {
        add(&mut digest, path)?;
    }
    let hash = digest.finalize();
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn add(digest: &mut Sha256, path: &Path) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH);
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
    Ok(())
}
