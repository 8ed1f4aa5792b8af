//! A file's bytes: mapped from disk, or in memory.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use crate::error::BackendError;

/// Where a file's bytes are.
pub(super) enum Bytes {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

// === impl Bytes ===

impl Bytes {
    /// Maps a file read-only.
    ///
    /// # Errors
    /// The file cannot be opened or mapped.
    pub(super) fn map(path: &Path) -> Result<Bytes, BackendError> {
        let io = |source| BackendError::Io {
            what: path.display().to_string(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        Ok(Bytes::Mapped(map(&file).map_err(io)?))
    }

    /// Gives the memory of these bytes back to the system, which reads them from the file again if
    /// they are looked at again.
    #[allow(
        unsafe_code,
        reason = "what is said to the system is unsafe; see SAFETY"
    )]
    pub(super) fn release(&self, range: Range<usize>) {
        if let Bytes::Mapped(map) = self
            && range.end <= map.len()
        {
            // SAFETY: the map is shared with the file and never written, so pages that are dropped
            // come back with the same bytes; references into them stay valid.
            let released = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    range.len(),
                )
            };
            // It is advice: without it the pages stay until the system wants them.
            let _ = released;
        }
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

#[allow(unsafe_code, reason = "mapping a file is unsafe by nature; see SAFETY")]
fn map(file: &File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: the map is shared with the file and never written through. Model files are written
    // once, by renaming a finished download into place, and never changed in place; whoever
    // truncates one under a running server stops that server with SIGBUS, which is documented for
    // operators and cannot be caused by a request.
    unsafe { memmap2::Mmap::map(file) }
}
