//! `farthing quantize`: a model in fewer bits per weight, as a GGUF file that this backend and
//! llama.cpp read. Tensors go through one by one, in parts, from the mapped source to the file, so
//! memory does not grow with the model; the file appears whole or not at all.

mod plan;
mod report;
mod write;

use std::num::NonZeroUsize;
use std::path::Path;

use farthing_kernels::ThreadPool;

use crate::cli::QuantizeArgs;
use crate::error::BackendError;
use crate::model::ModelFile;
use crate::perplexity::{self, Perplexity, WINDOW_DEFAULT};
use crate::server::process::print;
use plan::Plan;
use report::Report;

/// Writes the file and prints its size, its bits per weight and, on a text, its perplexity beside
/// that of the source.
///
/// # Errors
/// The source cannot be read or is quantized already, the file is there already or cannot be
/// written, or a weight is not finite; nothing was written then.
pub fn run(args: &QuantizeArgs) -> Result<(), BackendError> {
    refuse_to_overwrite(args)?;
    refuse_in_place(args)?;
    let text = args
        .text
        .as_deref()
        .map(perplexity::read_text)
        .transpose()?;
    let all = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let pool = ThreadPool::new(args.threads.unwrap_or_else(all).get());
    let file = ModelFile::open(&args.from).map_err(|error| error.in_file(&args.from))?;
    let plan = Plan::new(&file, args).map_err(|error| error.in_file(&args.from))?;
    let measure = |path: &Path, text: &str| -> Result<Perplexity, BackendError> {
        let (mut model, window) = perplexity::load_for_up_to(path, WINDOW_DEFAULT)?;
        perplexity::measure(&pool, &mut model, text, window)
    };
    // First, so that a text or a model that cannot be measured costs no file.
    let before = text
        .as_deref()
        .map(|text| measure(&args.from, text))
        .transpose()?;
    write::write(&pool, &file, &plan, &args.out, || refuse_to_overwrite(args))?;
    drop(file);
    let mut report = Report::new(args, &plan);
    if let (Some(text), Some(before)) = (&text, before) {
        report.perplexity(before, measure(&args.out, text)?);
    }
    print(&if args.json {
        report.json()
    } else {
        report.text()
    })
}

/// What is read cannot be replaced: it would be gone, and nothing left to compare with.
fn refuse_in_place(args: &QuantizeArgs) -> Result<(), BackendError> {
    let same = match (args.from.canonicalize(), args.out.canonicalize()) {
        (Ok(from), Ok(out)) => from == out,
        // What is not there yet is another file.
        _ => false,
    };
    if same {
        return Err(BackendError::Config {
            path: "--out".to_owned(),
            message: format!("{} is what --from reads", args.out.display()),
        });
    }
    Ok(())
}

fn refuse_to_overwrite(args: &QuantizeArgs) -> Result<(), BackendError> {
    if args.out.exists() && !args.force {
        return Err(BackendError::Config {
            path: "--out".to_owned(),
            message: format!(
                "{} is there already; --force replaces it",
                args.out.display()
            ),
        });
    }
    Ok(())
}
