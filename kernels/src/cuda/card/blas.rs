//! Products of dense half-precision matrices by NVIDIA's cuBLASLt: what our own kernels are
//! measured against, and what takes many rows of dense weights.

use super::cublaslt::{result, sys};
use super::{Card, CardBuffer, CudaError, require};
use result::CublasError;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::mem::size_of_val;
use std::ptr;

/// Scratch memory that the library may use: what NVIDIA advises for Hopper cards.
const WORKSPACE_BYTES: usize = 32 << 20;
/// `CUBLAS_OP_T` of the library's header.
const TRANSPOSED: i32 = 1;
const NAME: &str = "cublaslt";

/// A format of sixteen bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HalfFormat {
    F16,
    Bf16,
}

/// `out[rows, outputs] = x[rows, inputs] * weights[outputs, inputs]^T`, all row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MatmulShape {
    pub format: HalfFormat,
    pub rows: usize,
    pub outputs: usize,
    pub inputs: usize,
}

/// The library, with an algorithm chosen for each shape that it has met.
pub struct Blas {
    handle: sys::cublasLtHandle_t,
    workspace: CardBuffer,
    plans: HashMap<MatmulShape, Plan>,
}

// SAFETY: the library's handles may be used from any one thread at a time.
unsafe impl Send for Blas {}

impl Card {
    /// Whether cuBLASLt is on this machine.
    pub fn has_blas() -> bool {
        // SAFETY: opening the library runs its initializers, which NVIDIA answers for.
        unsafe { sys::is_culib_present() }
    }

    /// Queues a product with sums in f32; `out` has the format of the operands.
    ///
    /// # Errors
    /// cuBLASLt is not on this machine or does not take the shape, or a buffer is too short.
    pub fn matmul(
        &mut self,
        shape: MatmulShape,
        x: &CardBuffer,
        weights: &CardBuffer,
        out: &CardBuffer,
    ) -> Result<(), CudaError> {
        shape.check(x, weights, out)?;
        self.bind()?;
        let mut blas = match self.blas.take() {
            Some(blas) => blas,
            None => Blas::open(self.allocate(WORKSPACE_BYTES)?)?,
        };
        let multiplied = blas.matmul(shape, [x, weights, out], self.stream.cu_stream().cast());
        self.blas = Some(blas);
        multiplied
    }
}

impl MatmulShape {
    /// The operands are as long as the shape says.
    fn check(
        &self,
        x: &CardBuffer,
        weights: &CardBuffer,
        out: &CardBuffer,
    ) -> Result<(), CudaError> {
        let MatmulShape {
            rows,
            outputs,
            inputs,
            ..
        } = *self;
        let sizes = [("rows", rows), ("outputs", outputs), ("inputs", inputs)];
        for (name, value) in sizes {
            if value == 0 || i32::try_from(value).is_err() {
                return Err(CudaError::Shape {
                    kernel: NAME,
                    name,
                    value,
                    rule: "it is from 1 to 2^31 - 1",
                });
            }
        }
        // Each is below 2^31, so that twice the product of two is below 2^63.
        require(NAME, "x", x, 2 * rows * inputs)?;
        require(NAME, "weights", weights, 2 * outputs * inputs)?;
        require(NAME, "out", out, 2 * rows * outputs)
    }
}

impl Blas {
    fn open(workspace: CardBuffer) -> Result<Blas, CudaError> {
        if !Card::has_blas() {
            return Err(CudaError::Driver {
                action: "multiply dense matrices".to_string(),
                reason: "libcublasLt is not on this machine".to_string(),
            });
        }
        Ok(Blas {
            handle: result::create_handle().map_err(refused)?,
            workspace,
            plans: HashMap::new(),
        })
    }

    fn matmul(
        &mut self,
        shape: MatmulShape,
        [x, weights, out]: [&CardBuffer; 3],
        stream: sys::cudaStream_t,
    ) -> Result<(), CudaError> {
        let plan = match self.plans.entry(shape) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Plan::new(self.handle, shape).map_err(refused)?),
        };
        let (one, zero) = (1.0f32, 0.0f32);
        let pointer = |buffer: &CardBuffer| buffer.address as *mut c_void;
        // SAFETY: the plan is of this library and shape, whose lengths the buffers have; the
        // scratch memory is ours alone, and the stream runs one product after the other.
        unsafe {
            result::matmul(
                self.handle,
                plan.description,
                ptr::from_ref(&one).cast(),
                ptr::from_ref(&zero).cast(),
                pointer(weights),
                plan.weights,
                pointer(x),
                plan.x,
                pointer(out),
                plan.out,
                pointer(out),
                plan.out,
                &plan.algorithm,
                pointer(&self.workspace),
                self.workspace.len,
                stream,
            )
        }
        .map_err(refused)
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: the handle is ours, and no plan is left that was made with it.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// How one shape is multiplied.
///
/// The library's matrices are column-major. Read so, our weights are `inputs x outputs`, our rows
/// `inputs x rows` and our results `outputs x rows`: `results = weights^T * rows`.
struct Plan {
    description: sys::cublasLtMatmulDesc_t,
    weights: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Plan {
    fn new(handle: sys::cublasLtHandle_t, shape: MatmulShape) -> Result<Plan, CublasError> {
        use sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA;
        let data = match shape.format {
            HalfFormat::F16 => sys::cudaDataType::CUDA_R_16F,
            HalfFormat::Bf16 => sys::cudaDataType::CUDA_R_16BF,
        };
        let layout = |rows: usize, columns: usize| {
            result::create_matrix_layout(data, rows as u64, columns as u64, rows as i64)
        };
        let mut plan = Plan {
            description: ptr::null_mut(),
            weights: ptr::null_mut(),
            x: ptr::null_mut(),
            out: ptr::null_mut(),
            algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        // What has been made is destroyed with the plan if a later step fails.
        plan.weights = layout(shape.inputs, shape.outputs)?;
        plan.x = layout(shape.inputs, shape.rows)?;
        plan.out = layout(shape.outputs, shape.rows)?;
        plan.description = result::create_matmul_desc(
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cudaDataType::CUDA_R_32F,
        )?;
        // SAFETY: the description lives, and the attribute is read before the call returns.
        unsafe {
            result::set_matmul_desc_attribute(
                plan.description,
                CUBLASLT_MATMUL_DESC_TRANSA,
                ptr::from_ref(&TRANSPOSED).cast(),
                size_of_val(&TRANSPOSED),
            )?;
        }
        plan.algorithm = plan.choose(handle)?;
        Ok(plan)
    }

    /// The algorithm that the library expects to be the fastest.
    fn choose(
        &self,
        handle: sys::cublasLtHandle_t,
    ) -> Result<sys::cublasLtMatmulAlgo_t, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        let preference = result::create_matmul_pref()?;
        let bytes = WORKSPACE_BYTES as u64;
        // SAFETY: the preference and all of the plan live, and the attribute is read before the
        // call returns.
        let chosen = unsafe {
            result::set_matmul_pref_attribute(
                preference,
                CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                ptr::from_ref(&bytes).cast(),
                size_of_val(&bytes),
            )
            .and_then(|()| {
                result::get_matmul_algo_heuristic(
                    handle,
                    self.description,
                    self.weights,
                    self.x,
                    self.out,
                    self.out,
                    preference,
                )
            })
        };
        // SAFETY: the preference is ours and not used after.
        let _ = unsafe { result::destroy_matmul_pref(preference) };
        chosen.map(|chosen| chosen.algo)
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        for layout in [self.weights, self.x, self.out] {
            if !layout.is_null() {
                // SAFETY: the layout is ours and destroyed once.
                let _ = unsafe { result::destroy_matrix_layout(layout) };
            }
        }
        if !self.description.is_null() {
            // SAFETY: as above.
            let _ = unsafe { result::destroy_matmul_desc(self.description) };
        }
    }
}

fn refused(error: CublasError) -> CudaError {
    CudaError::Driver {
        action: "multiply dense matrices".to_string(),
        reason: format!("cuBLASLt says {:?}", error.0),
    }
}
