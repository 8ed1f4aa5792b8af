//! Which road a product takes: our own kernels, or, where they do not take it, a library of dense
//! products; and the product itself by either.

use super::dense_product::{self, Limits, WeightMatrix, Weights};
use super::matmul::Library;
use super::product::{self, Family, Store, TOKENS_MAX};
use super::{CudaError, Device, Properties};

/// A road and what memory it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Road {
    /// Kernels for packed weights.
    Kernels(&'static Family, product::Plan),
    /// [`dense_product`].
    Library(dense_product::Plan),
}

impl Road {
    /// The road for so many tokens on this card; `library` is asked where our kernels refuse.
    ///
    /// # Errors
    /// There can be no such product, or our kernels refuse it and there is no library.
    pub fn find(
        matrix: &WeightMatrix,
        tokens: usize,
        properties: &Properties,
        library: impl FnOnce() -> Library,
    ) -> Result<Road, CudaError> {
        matrix.check()?;
        if tokens == 0 || tokens > TOKENS_MAX {
            return Err(CudaError::Shape {
                kernel: "a product",
                name: "tokens",
                value: tokens,
                rule: "1 to 1,048,576",
            });
        }
        let reason = match matrix {
            WeightMatrix::Packed(shape) => {
                let family = Family::for_tokens(tokens, properties);
                match family.plan(shape, tokens, properties) {
                    Ok(plan) => return Ok(Road::Kernels(family, plan)),
                    Err(error) => error.to_string(),
                }
            }
            WeightMatrix::Dense { .. } => "they take packed weights only".to_string(),
        };
        match library() {
            Library::Present => {
                dense_product::Plan::new(matrix, tokens, Limits::default()).map(Road::Library)
            }
            Library::Absent => Err(CudaError::NoRoad {
                rows: matrix.rows(),
                cols: matrix.cols(),
                tokens,
                card: properties.name.clone(),
                reason,
            }),
        }
    }

    /// Bytes of the workspace.
    pub fn workspace_bytes(&self) -> usize {
        match self {
            Road::Kernels(_, plan) => plan.workspace_bytes,
            Road::Library(plan) => plan.workspace_bytes,
        }
    }

    /// Bytes of the counters, which must be zero and are zero again afterwards.
    pub fn counter_bytes(&self) -> usize {
        match self {
            Road::Kernels(_, plan) => plan.counter_bytes,
            Road::Library(_) => 0,
        }
    }
}

/// The operands of a product.
pub struct Operands<'a, B> {
    pub weights: Weights<'a, B>,
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
    /// The road on this device.
    ///
    /// # Errors
    /// As of [`Road::find`].
    pub fn road<D: Device<Buffer = B>>(&self, device: &D) -> Result<Road, CudaError> {
        let matrix = self.weights.matrix();
        Road::find(&matrix, self.tokens, device.properties(), || {
            device.library()
        })
    }

    /// Multiplies by the road that this device has.
    ///
    /// # Errors
    /// There is none, a buffer is too short, or the device fails.
    pub fn run<D: Device<Buffer = B>>(&self, device: &mut D) -> Result<(), CudaError> {
        let (x, tokens, bias) = (self.x, self.tokens, self.bias);
        let (out, store, workspace) = (self.out, self.store, self.workspace);
        match (self.road(device)?, &self.weights) {
            (Road::Kernels(family, _), Weights::Packed(weights)) => product::Operands {
                weights,
                x,
                tokens,
                bias,
                out,
                store,
                workspace,
                counters: self.counters,
            }
            .run_with(family, device),
            (Road::Kernels(..), Weights::Dense(_)) => Err(CudaError::Shape {
                kernel: "a product",
                name: "rows",
                value: self.weights.matrix().rows(),
                rule: "our kernels take packed weights only",
            }),
            (Road::Library(plan), weights) => dense_product::Operands {
                weights: *weights,
                x,
                tokens,
                bias,
                out,
                store,
                workspace,
            }
            .run(&plan, device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CudaError, Library, Properties, Road, TOKENS_MAX, WeightMatrix};
    use crate::cuda::weights::{Format, WeightShape};

    fn card(capability: (u32, u32), shared_kib: u32) -> Properties {
        Properties {
            name: "a card".to_string(),
            capability,
            multiprocessors: 108,
            shared_bytes_max: shared_kib << 10,
            l2_bytes: 40 << 20,
        }
    }

    fn packed(format: Format, rows: usize, cols: usize) -> WeightMatrix {
        WeightMatrix::Packed(WeightShape {
            format,
            rows,
            cols,
            group: 32,
        })
    }

    const CARDS: [((u32, u32), u32); 6] = [
        ((8, 0), 163),
        ((8, 6), 99),
        ((8, 9), 99),
        ((9, 0), 227),
        ((10, 0), 227),
        ((12, 0), 99),
    ];

    /// Where our kernels take a product the library is not even looked for.
    #[test]
    fn packed_weights_take_our_kernels_on_every_card() {
        for (capability, shared_kib) in CARDS {
            for format in Format::ALL {
                for tokens in [1, 16, 64, 65, 4096] {
                    let matrix = packed(format, 576, 1536);
                    let card = card(capability, shared_kib);
                    let road = Road::find(&matrix, tokens, &card, || {
                        panic!("{format:?}, {tokens} tokens: the library was asked for")
                    });
                    let road = road.expect("a road");
                    assert!(matches!(road, Road::Kernels(..)), "{road:?}");
                }
            }
        }
    }

    /// What each road is, and the sentence where there is none.
    #[test]
    fn what_our_kernels_refuse_takes_the_library() {
        let wide = packed(Format::NibbleAffine, 4_194_304, 262_144);
        let small = packed(Format::ByteSymmetric, 64, 64);
        let dense = WeightMatrix::Dense { rows: 70, cols: 48 };
        for (matrix, tokens, card, reason) in [
            // Blocks of a card with little shared memory.
            (small, 65, card((8, 7), 48), "shared_bytes"),
            // More pieces than a kernel counts.
            (wide, TOKENS_MAX, card((8, 0), 163), "fewer for a matrix"),
            // Columns that no packed format has.
            (dense, 1, card((9, 0), 227), "packed weights only"),
            (dense, 4096, card((12, 0), 99), "packed weights only"),
        ] {
            let road = Road::find(&matrix, tokens, &card, || Library::Present);
            let road = road.expect("the library takes it");
            assert!(matches!(road, Road::Library(_)), "{road:?}");
            assert_eq!(road.counter_bytes(), 0);
            let error = Road::find(&matrix, tokens, &card, || Library::Absent);
            let error = error.expect_err("there is no road");
            assert!(matches!(error, CudaError::NoRoad { .. }), "{error:?}");
            let (rows, cols) = (matrix.rows(), matrix.cols());
            let sentence = format!("no kernel multiplies {rows} x {cols} weights with {tokens} ");
            let said = error.to_string();
            assert!(
                said.starts_with(&sentence) && said.contains(reason),
                "{said}"
            );
            assert!(
                said.contains("libcublasLt is not on this machine"),
                "{said}"
            );
        }
    }

    /// What nobody could multiply is refused for what it is, library or not.
    #[test]
    fn products_that_cannot_be_are_refused_by_name() {
        let good = packed(Format::NibbleAffine, 64, 64);
        for (matrix, tokens, name) in [
            (good, 0, "tokens"),
            (good, TOKENS_MAX + 1, "tokens"),
            (packed(Format::NibbleAffine, 64, 48), 1, "cols"),
            (WeightMatrix::Dense { rows: 0, cols: 1 }, 1, "rows"),
        ] {
            for library in [Library::Present, Library::Absent] {
                let error = Road::find(&matrix, tokens, &card((9, 0), 227), || library);
                let error = error.expect_err(name).to_string();
                assert!(error.contains(&format!("take {name} =")), "{error}");
            }
        }
    }
}
