//! Memory of the emulated device.

use std::cell::UnsafeCell;

/// Bytes before and after a buffer that nobody may write.
const GUARD_BYTES: usize = 4096;
/// What they hold: no number, as f16 and as f32, so that what reads them is seen.
const GUARD: u8 = 0xff;
/// As a card's memory is aligned.
const ALIGN_BYTES: usize = 256;

/// Bytes with a guard on both sides. Kernels write them through pointers, hence the cells.
pub struct Buffer {
    memory: Box<[UnsafeCell<u8>]>,
    /// Where the bytes start in the memory.
    start: usize,
    len: usize,
}

impl Buffer {
    pub(crate) fn filled(len: usize, byte: u8) -> Buffer {
        let total = len + 2 * GUARD_BYTES + ALIGN_BYTES;
        let memory: Box<[UnsafeCell<u8>]> = (0..total).map(|_| UnsafeCell::new(GUARD)).collect();
        let aligned = (memory.as_ptr().addr() + GUARD_BYTES).next_multiple_of(ALIGN_BYTES);
        let start = aligned - memory.as_ptr().addr();
        let mut buffer = Buffer { memory, start, len };
        for cell in buffer.cells_mut() {
            *cell.get_mut() = byte;
        }
        buffer
    }

    pub(crate) fn of(bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::filled(bytes.len(), GUARD);
        for (cell, byte) in buffer.cells_mut().iter_mut().zip(bytes) {
            *cell.get_mut() = *byte;
        }
        buffer
    }

    fn cells_mut(&mut self) -> &mut [UnsafeCell<u8>] {
        &mut self.memory[self.start..self.start + self.len]
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The address of the first byte.
    pub(crate) fn address(&self) -> u64 {
        self.memory[self.start..].as_ptr().expose_provenance() as u64
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.read(self.start, self.len)
    }

    /// Writes bytes from an offset on, as a kernel does.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        let cells = &self.memory[self.start..self.start + self.len][offset..][..bytes.len()];
        for (cell, byte) in cells.iter().zip(bytes) {
            // SAFETY: nothing borrows what is in the cells beyond a call of `read`, and a buffer is
            // not `Sync`, so none is under way.
            unsafe { *cell.get() = *byte };
        }
    }

    pub(crate) fn guards_are_whole(&self) -> bool {
        let end = self.start + self.len;
        let whole = |bytes: Vec<u8>| bytes.iter().all(|byte| *byte == GUARD);
        whole(self.read(0, self.start)) && whole(self.read(end, self.memory.len() - end))
    }

    fn read(&self, start: usize, len: usize) -> Vec<u8> {
        let cells = &self.memory[start..start + len];
        // SAFETY: kernels, the only other writers, run within `launch`, which borrows nothing of
        // this; a buffer is not `Sync`, so no launch is under way while this runs.
        let bytes = unsafe { std::slice::from_raw_parts(cells.as_ptr().cast::<u8>(), len) };
        bytes.to_vec()
    }
}
