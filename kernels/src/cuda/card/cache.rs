//! Compiled kernels on disk: a file each, which holds its own hash, so that a damaged one is
//! noticed.

use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io, process};

const HASH_BYTES: usize = 32;
/// Bytes of the hash that a file's name has.
const NAME_BYTES: usize = 16;

/// The file for kernels that were made of these parts: sources, options, versions.
pub fn path(folder: &Path, architecture: &str, parts: &[&str]) -> PathBuf {
    let mut hasher = Sha256::new();
    for part in parts {
        // Their lengths keep parts apart that are the same one after the other.
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    let mut name = format!("kernels-{architecture}-");
    for byte in hasher.finalize().iter().take(NAME_BYTES) {
        let _ = write!(name, "{byte:02x}");
    }
    folder.join(name)
}

/// What was written there, if it is whole.
pub fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = fs::read(path).ok()?;
    if bytes.len() <= HASH_BYTES {
        return None;
    }
    let image = bytes.split_off(HASH_BYTES);
    (Sha256::digest(&image).as_slice() == bytes).then_some(image)
}

/// Writes a file as a whole: who reads it meanwhile sees none, or all of it.
pub fn write(path: &Path, image: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let unfinished = path.with_extension(process::id().to_string());
    let bytes = [Sha256::digest(image).as_slice(), image].concat();
    fs::write(&unfinished, bytes)
        .and_then(|()| fs::rename(&unfinished, path))
        .inspect_err(|_| {
            let _ = fs::remove_file(&unfinished);
        })
}

#[cfg(test)]
mod tests {
    use super::{path, read, write};
    use std::path::Path;
    use std::{env, fs, process};

    #[test]
    fn a_damaged_file_is_none() {
        let folder = env::temp_dir().join(format!("farthing-kernels-{}", process::id()));
        let file = path(&folder, "sm_80", &["source"]);
        assert_eq!(read(&file), None, "nothing is there");
        write(&file, b"image").expect("a temporary folder can be written");
        assert_eq!(read(&file).as_deref(), Some(&b"image"[..]));
        let whole = fs::read(&file).expect("it was written");
        for length in [0, 1, 32, whole.len() - 1] {
            fs::write(&file, &whole[..length]).expect("it can be written");
            assert_eq!(read(&file), None, "{length} bytes of it");
        }
        let mut changed = whole.clone();
        changed[40 % whole.len()] ^= 1;
        fs::write(&file, &changed).expect("it can be written");
        assert_eq!(read(&file), None, "another byte");
        let left = fs::read_dir(&folder).expect("the folder is there").count();
        assert_eq!(left, 1, "nothing unfinished is left");
        fs::remove_dir_all(&folder).expect("it is ours");
    }

    #[test]
    fn every_part_makes_another_name() {
        let name = |architecture: &str, parts: &[&str]| path(Path::new(""), architecture, parts);
        let first = name("sm_80", &["ab", "c"]);
        assert_eq!(first, name("sm_80", &["ab", "c"]));
        for other in [
            name("sm_89", &["ab", "c"]),
            name("sm_80", &["a", "bc"]),
            name("sm_80", &["ab", "d"]),
        ] {
            assert_ne!(first, other);
        }
    }
}
