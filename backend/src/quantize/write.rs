//! The file itself: beside its place until it is whole, then moved there.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use farthing_kernels::{Dtype, ThreadPool, dequantize_row, quantize_row};
use tokio::signal::unix::{SignalKind, signal};

use super::plan::Plan;
use crate::error::BackendError;
use crate::model::ModelFile;
use crate::model::gguf::{Tensor, TensorDescription, padding};

/// Weights that are in memory as f32 at once, 4 MiB of them, or one row.
const PART_WEIGHTS: usize = 1 << 20;

/// Writes the file. `may_replace` is asked once more before it is moved into its place.
///
/// # Errors
/// A tensor cannot be converted, or the file cannot be written; then there is none.
pub(super) fn write(
    pool: &ThreadPool,
    file: &ModelFile,
    plan: &Plan,
    out: &Path,
    may_replace: impl Fn() -> Result<(), BackendError>,
) -> Result<(), BackendError> {
    let partial = partial(out);
    remove_when_interrupted(partial.clone())?;
    let done = write_partial(pool, file, plan, &partial)
        .and_then(|()| may_replace())
        .and_then(|()| fs::rename(&partial, out).map_err(|error| io(out, error)));
    if done.is_err() {
        // What could not be written whole is of no use; that it may not be there either is fine.
        let _ = fs::remove_file(&partial);
    }
    done
}

/// In the same folder, so that moving it is one step.
fn partial(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    out.with_file_name(name)
}

/// What a shell expects of a program that SIGINT has ended.
const EXIT_INTERRUPTED: i32 = 130;

/// From now on SIGINT takes the unfinished file away before it ends the program; one that is in its
/// place already has another name.
fn remove_when_interrupted(partial: PathBuf) -> Result<(), BackendError> {
    let failed = |source| BackendError::Io {
        what: "SIGINT".to_owned(),
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let waiting = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    drop(waiting);
    std::thread::spawn(move || {
        runtime.block_on(interrupt.recv());
        let _ = fs::remove_file(&partial);
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(())
}

fn write_partial(
    pool: &ThreadPool,
    file: &ModelFile,
    plan: &Plan,
    path: &Path,
) -> Result<(), BackendError> {
    let created = File::create(path).map_err(|error| io(path, error))?;
    let mut out = BufWriter::with_capacity(1 << 20, created);
    let header = plan.pairs.header(&plan.tensors);
    out.write_all(&header).map_err(|error| io(path, error))?;
    for planned in &plan.tensors {
        let tensor = file.tensor(&planned.name)?;
        convert(pool, &tensor, planned, &mut |bytes| {
            out.write_all(bytes).map_err(|error| io(path, error))
        })?;
        drop(tensor);
        file.release(&planned.name);
        let zeros = vec![0; padding(planned.bytes) as usize];
        out.write_all(&zeros).map_err(|error| io(path, error))?;
    }
    let written = out
        .into_inner()
        .map_err(|error| io(path, error.into_error()))?;
    written.sync_all().map_err(|error| io(path, error))
}

/// Hands on the tensor's rows in the planned format, in parts.
fn convert(
    pool: &ThreadPool,
    tensor: &Tensor<'_>,
    planned: &TensorDescription,
    put: &mut dyn FnMut(&[u8]) -> Result<(), BackendError>,
) -> Result<(), BackendError> {
    if tensor.dtype == planned.dtype {
        return put(&tensor.bytes);
    }
    let columns = tensor.dims[0];
    let (from, to) = (
        tensor.dtype.row_bytes(columns)?,
        planned.dtype.row_bytes(columns)?,
    );
    let rows = (PART_WEIGHTS / columns).max(1);
    for part in tensor.bytes.chunks(rows * from) {
        let mut written = vec![0; part.len() / from * to];
        convert_rows(
            pool,
            (tensor.dtype, part),
            (planned.dtype, &mut written),
            columns,
        )
        .map_err(|error| BackendError::Model(format!("the tensor '{}': {error}", planned.name)))?;
        put(&written)?;
    }
    Ok(())
}

/// Converts whole rows, shared among threads.
fn convert_rows(
    pool: &ThreadPool,
    (from, source): (Dtype, &[u8]),
    (to, out): (Dtype, &mut [u8]),
    columns: usize,
) -> Result<(), BackendError> {
    let (from_bytes, to_bytes) = (from.row_bytes(columns)?, to.row_bytes(columns)?);
    let rows = source.len() / from_bytes;
    let share = rows.div_ceil(pool.threads() * 2).max(1);
    // Each share is locked once, by the one task that works on it.
    let shares = source
        .chunks(share * from_bytes)
        .zip(out.chunks_mut(share * to_bytes));
    let shares: Vec<_> = shares.map(Mutex::new).collect();
    let failed = Mutex::new(None);
    pool.run(shares.len(), &|task| {
        let mut share = shares[task].lock().unwrap_or_else(PoisonError::into_inner);
        let (source, out) = &mut *share;
        let mut values = vec![0.0; columns];
        let rows = source
            .chunks_exact(from_bytes)
            .zip(out.chunks_exact_mut(to_bytes));
        for (source, out) in rows {
            let converted = dequantize_row(from, source, &mut values)
                .and_then(|()| quantize_row(to, &values, out));
            if let Err(error) = converted {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return;
            }
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some(error) => Err(error.into()),
    }
}

fn io(path: &Path, source: std::io::Error) -> BackendError {
    BackendError::Io {
        what: path.display().to_string(),
        source,
    }
}
