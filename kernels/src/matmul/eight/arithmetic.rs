//! What a processor does for a multiplication of eight outputs.

/// Arithmetic on registers that hold eight outputs, or on two that hold four each.
///
/// Weights are a *quad* for each output, four bytes of neighbouring columns. Their products with
/// four activations are summed in whatever width is fast: a few quads' `Products` at first, which
/// cannot overflow as often as the loops add to them, then 32-bit `Sums`. All of it is exact.
///
/// # Safety
/// Every method: the processor must have the instructions of the implementing type, and the code
/// that calls it must be compiled for them, or each becomes a call. Pointers must be good for what
/// is read; weights and scales lie on 16-byte boundaries.
pub(super) trait Eight {
    /// Eight f32.
    type Floats: Copy;
    /// A quad of unsigned bytes for each output.
    type Bytes: Copy;
    /// The same as products of whole bytes want it.
    type Whole: Copy;
    /// Four activations, for every output.
    type Quad: Copy;
    /// Sums of products: of eight quads of 4-bit weights, four of 5 bits, two of 6 bits.
    type Products: Copy;
    /// Eight 32-bit integers.
    type Sums: Copy;

    /// Quads of whole bytes whose products can be summed; a divisor of the eight of a block.
    const BYTE_QUADS: usize;

    unsafe fn splat(value: f32) -> Self::Floats;
    unsafe fn store(values: Self::Floats, to: *mut f32);
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + sum`, rounded once.
    unsafe fn mul_add(a: Self::Floats, b: Self::Floats, sum: Self::Floats) -> Self::Floats;

    /// Eight numbers, widened.
    unsafe fn f32s(from: *const u8) -> Self::Floats;
    unsafe fn f16s(from: *const u8) -> Self::Floats;
    unsafe fn bf16s(from: *const u8) -> Self::Floats;
    unsafe fn u8s(from: *const u8) -> Self::Floats;
    unsafe fn i8s(from: *const u8) -> Self::Floats;

    /// 32 bytes of weights.
    unsafe fn bytes(from: *const u8) -> Self::Bytes;
    /// The low nibble of each byte.
    unsafe fn low(bytes: Self::Bytes) -> Self::Bytes;
    /// The high nibble of each byte.
    unsafe fn high(bytes: Self::Bytes) -> Self::Bytes;
    /// Each byte's low nibble in the place of its high one. What is below it is undefined.
    unsafe fn left_4(bytes: Self::Bytes) -> Self::Bytes;
    /// The high nibble of each byte one bit lower. What is around it is undefined.
    unsafe fn right_1(bytes: Self::Bytes) -> Self::Bytes;
    /// The high nibble of each byte two bits lower. What is around it is undefined.
    unsafe fn right_2(bytes: Self::Bytes) -> Self::Bytes;
    /// Nibbles with bit 4 of each byte of `plane`.
    unsafe fn join_5(nibbles: Self::Bytes, plane: Self::Bytes) -> Self::Bytes;
    /// Nibbles with bits 4 and 5 of each byte of `plane`.
    unsafe fn join_6(nibbles: Self::Bytes, plane: Self::Bytes) -> Self::Bytes;
    /// Bytes that are 128 too high, as their products want them.
    unsafe fn whole(bytes: Self::Bytes) -> Self::Whole;

    /// Four activations, wherever they lie.
    unsafe fn quad(from: *const i8) -> Self::Quad;
    unsafe fn no_products() -> Self::Products;
    /// Adds the products of weights of up to six bits.
    unsafe fn add_products(
        products: Self::Products,
        weights: Self::Bytes,
        quad: Self::Quad,
    ) -> Self::Products;
    /// Adds the products of whole bytes.
    unsafe fn add_byte_products(
        products: Self::Products,
        weights: Self::Whole,
        quad: Self::Quad,
    ) -> Self::Products;

    /// The same number for every output.
    unsafe fn sums(value: i32) -> Self::Sums;
    /// What sums of products of whole bytes begin with, where `offset` is what the activations
    /// times the 128 are.
    unsafe fn byte_sums(offset: i32) -> Self::Sums;
    unsafe fn sum(sums: Self::Sums, products: Self::Products) -> Self::Sums;
    unsafe fn floats(sums: Self::Sums) -> Self::Floats;
}
