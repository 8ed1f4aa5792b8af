//! Which file a model's answers came from: an id may be given to another file while answers of the
//! one before are still kept.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use farthing_core::limits::{
    MODEL_REVISION_BYTES, MODEL_REVISION_PIECE_BYTES, MODEL_REVISION_PIECES,
};
use sha2::{Digest, Sha256};

/// What tells a file's middle from another one's, for hashing all of it would double the time of a
/// start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// When it was written: what is kept is this machine's.
    ByTime,
    /// Pieces of it: what is kept is shared with machines that have copies of their own.
    ByPieces,
}

/// Hexadecimal digits that differ for different files and for different versions of this program:
/// a hash over the version, the file's size, its first and last bytes, and what tells its middle. A
/// folder's is over all its files, for its tokenizer and configuration decide answers as much as
/// its weights.
///
/// # Errors
/// The file, or one of the folder's, cannot be read.
pub fn revision(path: &Path, told: Told) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    digest.update(env!("CARGO_PKG_VERSION"));
    if path.is_dir() {
        let entries = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
        let mut files: Vec<_> = entries.collect::<std::io::Result<_>>()?;
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            digest.update(file.file_name().unwrap_or_default().as_encoded_bytes());
            add(&mut digest, file, told)?;
        }
    } else {
        add(&mut digest, path, told)?;
    }
    let hash = digest.finalize();
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn add(digest: &mut Sha256, path: &Path, told: Told) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let length = metadata.len();
    digest.update([0]);
    digest.update(length.to_le_bytes());
    match told {
        Told::ByTime => {
            let modified = metadata.modified()?.duration_since(UNIX_EPOCH);
            digest.update(modified.unwrap_or_default().as_nanos().to_le_bytes());
        }
        Told::ByPieces => {
            let last = length.saturating_sub(MODEL_REVISION_PIECE_BYTES);
            for piece in 1..=MODEL_REVISION_PIECES {
                let at = u128::from(last) * u128::from(piece) / u128::from(MODEL_REVISION_PIECES);
                let at = u64::try_from(at).unwrap_or(last);
                add_piece(digest, &mut file, at, MODEL_REVISION_PIECE_BYTES)?;
            }
        }
    }
    add_piece(digest, &mut file, 0, MODEL_REVISION_BYTES)?;
    let last = length.saturating_sub(MODEL_REVISION_BYTES);
    add_piece(digest, &mut file, last, MODEL_REVISION_BYTES)
}

fn add_piece(digest: &mut Sha256, file: &mut File, at: u64, length: u64) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.take(length).read_to_end(&mut bytes)?;
    digest.update(&bytes);
    Ok(())
}
