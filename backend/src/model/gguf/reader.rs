//! A bounded cursor over a file's bytes. Nothing is taken that is not there, and no length that the
//! file claims is trusted before it is compared with what remains.

use crate::error::BackendError;

/// A position in the bytes of a model file. All integers are little-endian.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// A cursor over a part that was already walked once.
    pub(super) fn over(bytes: &'a [u8], range: std::ops::Range<usize>) -> Reader<'a> {
        Reader {
            bytes: bytes.get(..range.end).unwrap_or(bytes),
            at: range.start,
        }
    }

    /// Bytes from the file's start.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Bytes to the file's end.
    pub(super) fn remaining(&self) -> u64 {
        self.bytes.len().saturating_sub(self.at) as u64
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: u64) -> Result<&'a [u8], BackendError> {
        if len > self.remaining() {
            return Err(BackendError::Gguf(format!(
                "{len} bytes are claimed at byte {}, where the file has {} left",
                self.at,
                self.remaining()
            )));
        }
        // `len` is at most the slice's length, so it fits `usize` and the range is inside.
        let start = self.at;
        self.at += len as usize;
        Ok(&self.bytes[start..self.at])
    }

    pub(super) fn u32(&mut self) -> Result<u32, BackendError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, BackendError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A fixed number of bytes, for a number's `from_le_bytes`.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], BackendError> {
        let bytes = self.take(N as u64)?;
        Ok(bytes
            .try_into()
            .expect("`take` returned as many bytes as were asked for"))
    }

    /// A string: its length in bytes as u64, then UTF-8.
    pub(super) fn string(&mut self, bytes_max: u64) -> Result<&'a str, BackendError> {
        let start = self.at;
        let len = self.u64()?;
        if len > bytes_max {
            return Err(BackendError::Gguf(format!(
                "the string at byte {start} claims {len} bytes, more than {bytes_max}"
            )));
        }
        std::str::from_utf8(self.take(len)?)
            .map_err(|_| BackendError::Gguf(format!("the string at byte {start} is not UTF-8")))
    }
}
