//! Packed weights times tokens: which kernel, how it is started, and what it must compute.
//!
//! The kernels are those of [`super::gemv`], [`super::gemm_small`], [`super::gemm_large`] and
//! [`super::gemm_hopper`]; each is a [`Family`] with one entry a format. They take the same
//! operands: `out[token][row] = sum over col of w[row][col] * x[token][col]`, x and w in f16, sums
//! in f32. [`super::multiply`] chooses among them, and what does a product that they refuse.

use half::f16;

use super::lengths::check_lengths;
use super::spans::Spans;
use super::weights::{DeviceWeights, Format, TILE_ROWS, WeightShape};
use super::{Arg, CudaError, Device, Launch, Properties};
use super::{gemm_hopper, gemm_large};

/// Most tokens of one product: a step of the engine has far fewer.
pub const TOKENS_MAX: usize = 1 << 20;

/// What becomes of the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Rounded to f16; what is beyond its range becomes its largest value.
    F16 = 0,
    /// Kept as f32.
    F32 = 1,
    /// Added to the f32 that are there: the residual stream.
    Add = 2,
}

impl Store {
    /// Bytes of an output.
    pub fn output_bytes(self) -> usize {
        match self {
            Store::F16 => 2,
            Store::F32 | Store::Add => 4,
        }
    }
}

/// Kernels that differ in the format alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Entry points in the order of [`Format::ALL`].
    pub kernels: [&'static str; 4],
    /// Most tokens that it takes at once; `usize::MAX` if it takes them unit by unit.
    pub tokens_max: usize,
    /// Blocks of 64 outputs of a unit, its tokens, and tiles of inputs of a chunk.
    pub unit_row_blocks: usize,
    pub unit_tokens: usize,
    pub chunk_tiles: usize,
    /// Blocks that a multiprocessor has at once.
    pub blocks: usize,
    /// Shared memory that stays the same, and stages in the order of [`Format::ALL`].
    pub board_bytes: usize,
    pub stages: [usize; 4],
    /// Rows of 32 inputs of a stage's tokens (64 bytes each), and stages a block has of its own.
    pub stage_token_rows: usize,
    pub stage_tiles: usize,
    pub rings: usize,
    /// A stage's bytes are rounded up to a multiple of it.
    pub stage_alignment: usize,
}

/// Threads of a block, in every family.
pub const THREADS: u32 = 256;

impl Family {
    /// The family for so many tokens on this card.
    pub fn for_tokens(tokens: usize, properties: &Properties) -> &'static Family {
        let families: &[&Family] = if properties.capability == (9, 0) {
            &gemm_hopper::FAMILIES
        } else {
            &gemm_large::FAMILIES
        };
        let fits = |family: &&&Family| {
            tokens <= family.tokens_max
                && Format::ALL
                    .iter()
                    .all(|f| family.shared_bytes(*f) <= properties.shared_bytes_max as usize)
        };
        families.iter().find(fits).unwrap_or(&&gemm_large::LARGE)
    }

    /// Bytes of dynamic shared memory of a block.
    pub fn shared_bytes(&self, format: Format) -> usize {
        let tile = format.tile_bytes() + format.scale_bytes();
        let stage = self.stage_tiles * tile + self.stage_token_rows * 64;
        let stage = stage.next_multiple_of(self.stage_alignment);
        self.board_bytes + self.rings * self.stages[format.index()] * stage
    }

    /// How the kernel is started and what memory it needs.
    ///
    /// # Errors
    /// It does not take this many tokens, or the weights' shape is none.
    pub fn plan(
        &self,
        shape: &WeightShape,
        tokens: usize,
        properties: &Properties,
    ) -> Result<Plan, CudaError> {
        shape.check()?;
        let kernel = self.kernels[shape.format.index()];
        let refused = |name, value, rule| {
            Err(CudaError::Shape {
                kernel,
                name,
                value,
                rule,
            })
        };
        if tokens == 0 || tokens > self.tokens_max.min(TOKENS_MAX) {
            return refused("tokens", tokens, "1 to what its family takes");
        }
        let shared_bytes = self.shared_bytes(shape.format);
        if shared_bytes > properties.shared_bytes_max as usize {
            return refused(
                "shared_bytes",
                shared_bytes,
                "what a block of this card has",
            );
        }
        let units =
            shape.row_blocks().div_ceil(self.unit_row_blocks) * tokens.div_ceil(self.unit_tokens);
        let unit_chunks = shape.tiles().div_ceil(self.chunk_tiles);
        if units * unit_chunks > Spans::CHUNKS_MAX {
            return refused("tokens", tokens, "fewer for a matrix of this size");
        }
        let blocks = properties.multiprocessors as usize * self.blocks;
        let spans = Spans::new(units, unit_chunks, blocks);
        let part_bytes = self.unit_row_blocks * TILE_ROWS * self.unit_tokens.max(8) * 4;
        Ok(Plan {
            launch: Launch {
                kernel,
                grid: [spans.blocks as u32, 1, 1],
                threads: THREADS,
                shared_bytes: shared_bytes as u32,
            },
            spans,
            workspace_bytes: spans.slots() * part_bytes,
            counter_bytes: units * 4,
        })
    }
}

/// One product's start, and the memory that it needs beside its operands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub launch: Launch,
    pub spans: Spans,
    pub workspace_bytes: usize,
    /// Counters must be zero, and are zero again afterwards.
    pub counter_bytes: usize,
}

/// The operands of a product.
pub struct Operands<'a, B> {
    pub weights: &'a DeviceWeights<B>,
    /// f16 `[tokens, cols]`.
    pub x: &'a B,
    pub tokens: usize,
    /// f32 `[rows]`.
    pub bias: Option<&'a B>,
    /// f16 or f32 `[tokens, rows]`.
    pub out: &'a B,
    pub store: Store,
    pub workspace: &'a B,
    pub counters: &'a B,
}

impl<B> Operands<'_, B> {
    /// Multiplies with a given family.
    ///
    /// # Errors
    /// A shape is not taken or a buffer is too short.
    pub fn run_with<D: Device<Buffer = B>>(
        &self,
        family: &Family,
        device: &mut D,
    ) -> Result<(), CudaError> {
        let shape = &self.weights.shape;
        let plan = family.plan(shape, self.tokens, device.properties())?;
        let outputs = self.tokens * shape.rows;
        let bias = self.bias.unwrap_or(self.out);
        check_lengths(
            device,
            plan.launch.kernel,
            &[
                ("quants", &self.weights.quants, shape.quant_bytes()),
                ("scales", &self.weights.scales, shape.scale_bytes()),
                ("x", self.x, self.tokens * shape.cols * 2),
                ("out", self.out, outputs * self.store.output_bytes()),
                ("bias", bias, self.bias.map_or(0, |_| shape.rows * 4)),
                ("workspace", self.workspace, plan.workspace_bytes),
                ("counters", self.counters, plan.counter_bytes),
            ],
        )?;
        let arguments = [
            Arg::Buffer(&self.weights.quants),
            Arg::Buffer(&self.weights.scales),
            Arg::U32(shape.rows as u32),
            Arg::U32(shape.cols as u32),
            Arg::U32(shape.group_shift()),
            Arg::Buffer(self.x),
            Arg::U32(self.tokens as u32),
            Arg::Buffer(self.out),
            self.bias.map_or(Arg::Null, Arg::Buffer),
            Arg::U32(self.store as u32),
            Arg::Buffer(self.workspace),
            Arg::Buffer(self.counters),
        ];
        // SAFETY: these are the parameters of every family's entries (`GEMV_ENTRY`, `GEMM_ENTRY`,
        // `HOPPER_ENTRY`), the buffers have the lengths that the shapes ask for, and all of them
        // wait before they touch anything but the weights.
        unsafe { device.launch_overlapping(&plan.launch, &arguments) }
    }
}

/// The product in f64 of unpacked weights `[rows, cols]` and x `[tokens, cols]`: `[tokens, rows]`,
/// the reference of every family.
///
/// # Panics
/// If lengths are no multiples of `cols`, or a bias is shorter than the rows.
pub fn reference(weights: &[f16], x: &[f16], cols: usize, bias: Option<&[f32]>) -> Vec<f32> {
    assert!(weights.len().is_multiple_of(cols) && x.len().is_multiple_of(cols));
    let weights: Vec<f32> = weights.iter().map(|w| w.to_f32()).collect();
    let mut out = Vec::with_capacity(x.len() / cols * (weights.len() / cols));
    for x in x.chunks_exact(cols) {
        let x: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
        for (row, weights) in weights.chunks_exact(cols).enumerate() {
            let products = weights
                .iter()
                .zip(&x)
                .map(|(w, x)| f64::from(*w) * f64::from(*x));
            let bias = bias.map_or(0.0, |bias| f64::from(bias[row]));
            out.push((products.sum::<f64>() + bias) as f32);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Family, TOKENS_MAX};
    use crate::cuda::weights::{Format, WeightShape};
    use crate::cuda::{Properties, gemm_hopper, gemm_large};

    fn card(capability: (u32, u32), multiprocessors: u32, shared_kib: u32) -> Properties {
        Properties {
            name: "a card".to_string(),
            capability,
            multiprocessors,
            shared_bytes_max: shared_kib << 10,
            l2_bytes: 50 << 20,
        }
    }

    /// Every number of tokens has kernels on every kind of card, with the shared memory it has.
    #[test]
    fn every_card_has_a_family_for_every_number_of_tokens() {
        let cards = [
            card((8, 0), 108, 163),
            card((8, 6), 84, 99),
            card((8, 9), 142, 99),
            card((9, 0), 132, 227),
            card((10, 0), 148, 227),
        ];
        for card in &cards {
            for tokens in [1, 2, 8, 9, 16, 17, 32, 33, 64, 65, 128, 4096, TOKENS_MAX] {
                for format in Format::ALL {
                    let shape = WeightShape {
                        format,
                        rows: 576,
                        cols: 576,
                        group: 32,
                    };
                    let family = Family::for_tokens(tokens, card);
                    let plan = family.plan(&shape, tokens, card).expect("a plan");
                    assert!(plan.launch.shared_bytes <= card.shared_bytes_max);
                    assert!(plan.launch.grid[0] >= 1);
                }
            }
        }
    }

    /// A token's outputs must not depend on how many others there are, up to 16.
    #[test]
    fn few_tokens_are_cut_alike() {
        let card = card((9, 0), 132, 227);
        let shape = WeightShape {
            format: Format::NibbleAffine,
            rows: 4096,
            cols: 4096,
            group: 32,
        };
        let spans = |tokens| {
            let family = Family::for_tokens(tokens, &card);
            family.plan(&shape, tokens, &card).expect("a plan").spans
        };
        assert!((2..=16).all(|tokens| spans(tokens) == spans(1)));
    }

    #[test]
    fn what_a_family_does_not_take_is_refused_by_name() {
        let card = card((9, 0), 132, 99);
        let shape = WeightShape {
            format: Format::ByteSymmetric,
            rows: 64,
            cols: 64,
            group: 32,
        };
        for (family, tokens, name) in [
            (&gemm_large::LARGE, 0, "tokens"),
            (&gemm_large::LARGE, TOKENS_MAX + 1, "tokens"),
            (gemm_large::FAMILIES[0], 2, "tokens"),
            (&gemm_hopper::HOPPER_128, 1, "shared_bytes"),
        ] {
            let error = family
                .plan(&shape, tokens, &card)
                .expect_err(name)
                .to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
