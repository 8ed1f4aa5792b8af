//! Products of dense half-precision matrices by NVIDIA's cuBLASLt: what our own kernels are checked
//! with and measured against, and what does the products that they do not take.

use super::cublaslt::{result, sys};
use super::{CardBuffer, CudaError};
use crate::cuda::matmul::{HalfFormat, Library, Matmul, MatmulShape, Part, SumFormat};
use result::CublasError;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::mem::size_of_val;
use std::ptr;

/// Scratch memory that the library may use: what NVIDIA advises for Hopper cards.
pub const WORKSPACE_BYTES: usize = 32 << 20;
/// `CUBLAS_OP_T` of the library's header.
const TRANSPOSED: i32 = 1;

/// The library, with an algorithm chosen for each shape that it has met.
pub struct Blas {
    handle: sys::cublasLtHandle_t,
    workspace: CardBuffer,
    plans: HashMap<MatmulShape, Plan>,
}

// SAFETY: the library's handles may be used from any one thread at a time.
unsafe impl Send for Blas {}

/// Whether cuBLASLt is on this machine. Looking opens it, which takes a while the first time.
pub fn find() -> Library {
    // SAFETY: opening the library runs its initializers, which NVIDIA answers for.
    match unsafe { sys::is_culib_present() } {
        true => Library::Present,
        false => Library::Absent,
    }
}

impl Blas {
    /// Opens the library.
    ///
    /// # Errors
    /// It is not on this machine, or refuses.
    pub fn open(library: Library, workspace: CardBuffer) -> Result<Blas, CudaError> {
        if library == Library::Absent {
            return Err(CudaError::NoLibrary);
        }
        Ok(Blas {
            handle: result::create_handle().map_err(refused)?,
            workspace,
            plans: HashMap::new(),
        })
    }

    /// Queues a product whose operands have been found to be long enough.
    ///
    /// # Errors
    /// The library does not take the shape.
    pub fn matmul(
        &mut self,
        product: &Matmul<'_, CardBuffer>,
        stream: sys::cudaStream_t,
    ) -> Result<(), CudaError> {
        let shape = product.shape;
        let plan = match self.plans.entry(shape) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Plan::new(self.handle, shape).map_err(refused)?),
        };
        let (one, zero) = (1.0f32, 0.0f32);
        let [weights, x, out] = [&product.weights, &product.x, &product.out].map(pointer);
        // SAFETY: the plan is of this library and shape, whose lengths the buffers have; the
        // scratch memory is ours alone, and the stream runs one product after the other.
        unsafe {
            result::matmul(
                self.handle,
                plan.description,
                ptr::from_ref(&one).cast(),
                ptr::from_ref(&zero).cast(),
                weights,
                plan.weights,
                x,
                plan.x,
                out,
                plan.out,
                out,
                plan.out,
                &plan.algorithm,
                self.workspace.address as *mut c_void,
                self.workspace.len,
                stream,
            )
        }
        .map_err(refused)
    }
}

fn pointer(part: &Part<'_, CardBuffer>) -> *mut c_void {
    (part.buffer.address + part.offset as u64) as *mut c_void
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
        let sums = match shape.sums {
            SumFormat::Half => data,
            SumFormat::F32 => sys::cudaDataType::CUDA_R_32F,
        };
        let layout = |data, rows: usize, columns: usize| {
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
        plan.weights = layout(data, shape.inputs, shape.outputs)?;
        plan.x = layout(data, shape.inputs, shape.rows)?;
        plan.out = layout(sums, shape.outputs, shape.rows)?;
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
