//! How a kernel is started: its name, its grid and its arguments.

/// One start of a kernel. A pure value, made from shapes, so that it can be tested anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// The entry point's name in the CUDA source.
    pub kernel: &'static str,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block, all along x.
    pub threads: u32,
    /// Bytes of shared memory beside what the kernel declares itself.
    pub shared_bytes: u32,
}

/// One argument of a kernel; they follow the order of its parameters.
pub enum Arg<'a, B> {
    /// The address of a buffer's first byte.
    Buffer(&'a B),
    /// The address of this byte of a buffer.
    At(&'a B, usize),
    /// A null pointer, where the kernel takes none of an operand.
    Null,
    U32(u32),
    U64(u64),
    F32(f32),
}
