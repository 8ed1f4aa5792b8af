//! `farthing calibrate` and `farthing eval`: what the routers know is learned from prompts that two
//! models have answered, and measured on them. [`train`] and [`measure`] are pure; here the files
//! are read and the result is said.

mod curve;
mod embedded;
mod json_rows;
pub(crate) mod logistic;
mod measure;
mod quality;
mod report;
mod rows;
mod train;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use farthing_core::base64;
use farthing_core::limits::CALIBRATION_ROWS_MIN;
use farthing_core::route::{GainCalibration, GainCalibrationError};
use serde_json::json;

use crate::cli::{CalibrateRouterArgs, EvalRouterArgs};
use crate::embed;
use crate::error::BackendError;
use crate::picture;
use crate::pre_router::PreRouter;
use embedded::Embedded;
use quality::{Quality, Scores};
use rows::{Row, RowFile};
use train::Examples;

/// Why there is no calibration.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    #[error("{}: line {line}: {problem}", .path.display())]
    Row {
        path: PathBuf,
        line: u64,
        problem: String,
    },
    #[error("{have} rows are too few: {CALIBRATION_ROWS_MIN} are needed")]
    TooFew { have: usize },
    #[error(
        "the strong model is right on {strong} of the rows and the weak one on {weak}: there is \
         nothing to gain, so swap them or send everything to the cheaper"
    )]
    NothingToGain { weak: usize, strong: usize },
    #[error("{}: {error}", .path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{}: {error}", .path.display())]
    Calibration {
        path: PathBuf,
        error: GainCalibrationError,
    },
    #[error("the calibration of this build {0}")]
    Embedded(GainCalibrationError),
    #[error("cannot print: {0}")]
    Print(io::Error),
}

/// `farthing calibrate router`
pub fn calibrate_router(args: &CalibrateRouterArgs) -> Result<(), BackendError> {
    let files = rows::read(&args.files)?;
    if let Some(folder) = &args.embedding_model {
        check_enough(&files)?;
        return calibrate_pre_router(args, &files, folder);
    }
    let calibration = examples(&files)?.train();
    let file = calibration.encode();
    write(&args.out, &file)?;
    let mut out = io::stdout().lock();
    let said = match args.json {
        true => writeln!(
            out,
            "{}",
            json!({"calibration": "router", "file": args.out, "measured": calibration.measured,
                "base64": base64::encode(&file)})
        ),
        false => report::calibration(&mut out, &calibration, &base64::encode(&file)),
    };
    Ok(said.map_err(CalibrateError::Print)?)
}

fn calibrate_pre_router(
    args: &CalibrateRouterArgs,
    files: &[RowFile],
    folder: &Path,
) -> Result<(), BackendError> {
    let pre_router = Embedded::new(folder, files)?.train()?;
    write(&args.out, &pre_router.encode())?;
    let measured = pre_router.measured();
    let mut out = io::stdout().lock();
    let said = match args.json {
        true => writeln!(
            out,
            "{}",
            json!({"calibration": "pre-router", "file": args.out, "measured": measured})
        ),
        false => report::pre_router(&mut out, &measured, &args.out),
    };
    Ok(said.map_err(CalibrateError::Print)?)
}

/// `farthing eval router`
pub fn eval_router(args: &EvalRouterArgs) -> Result<(), BackendError> {
    let files = rows::read(&args.files)?;
    check_enough(&files)?;
    let scores = scores(args, &files)?;
    let rows: Vec<&Row> = files.iter().flat_map(|file| &file.rows).collect();
    if let Some(path) = &args.svg {
        picture::write(path, &curve::picture(&rows, &scores))?;
    }
    let mut groups: Vec<(Option<&Path>, std::ops::Range<usize>)> = vec![(None, 0..rows.len())];
    let mut first = 0;
    for file in files.iter().filter(|_| args.group_by_file) {
        groups.push((Some(&file.path), first..first + file.rows.len()));
        first += file.rows.len();
    }
    let mut out = io::stdout().lock();
    for (path, range) in groups {
        let quality = Quality::of(&rows[range.clone()], &scores.of(range));
        let said = match args.json {
            true => report::quality_json(&mut out, path, &quality),
            false => report::quality(&mut out, path, &quality),
        };
        said.map_err(CalibrateError::Print)?;
    }
    Ok(())
}

/// What the router to be measured says of each row. A calibration that is given, or that of this
/// build, is taken as it is; with `--group-by-file` or an embedding model each file is left out in
/// turn (of one file a fifth of the rows), and what scores it is learned from the others.
fn scores(args: &EvalRouterArgs, files: &[RowFile]) -> Result<Scores, BackendError> {
    if let Some(path) = &args.calibration {
        let bytes = fs::read(path).map_err(|error| CalibrateError::File {
            path: path.clone(),
            error,
        })?;
        if PreRouter::is_file(&bytes) {
            let pre_router = PreRouter::decode(&bytes).map_err(|error| error.in_file(path))?;
            return Ok(embedded(args, files)?.by(&pre_router));
        }
        return Ok(Examples::new(files).by(&calibration(path, &bytes)?));
    }
    if args.lexical && args.group_by_file {
        return Ok(Examples::new(files).files_out());
    }
    if args.embedding_model.is_some() || (args.group_by_file && !args.lexical) {
        return embedded(args, files)?.left_out();
    }
    let of_build = GainCalibration::embedded().map_err(CalibrateError::Embedded)?;
    Ok(Examples::new(files).by(&of_build))
}

/// All rows by the embedding model that is given, or the one that is fetched.
fn embedded<'a>(args: &EvalRouterArgs, files: &'a [RowFile]) -> Result<Embedded<'a>, BackendError> {
    let folder = args.embedding_model.as_deref();
    Embedded::new(folder.unwrap_or(Path::new(embed::FETCHED)), files)
}

fn calibration(path: &Path, bytes: &[u8]) -> Result<GainCalibration, CalibrateError> {
    GainCalibration::decode(bytes).map_err(|error| CalibrateError::Calibration {
        path: path.to_owned(),
        error,
    })
}

fn check_enough(files: &[RowFile]) -> Result<(), CalibrateError> {
    match files.iter().map(|file| file.rows.len()).sum() {
        have @ 0..CALIBRATION_ROWS_MIN => Err(CalibrateError::TooFew { have }),
        _ => Ok(()),
    }
}

fn examples(files: &[RowFile]) -> Result<Examples<'_>, CalibrateError> {
    let rows = || files.iter().flat_map(|file| &file.rows);
    check_enough(files)?;
    let weak = rows().filter(|row| row.weak).count();
    let strong = rows().filter(|row| row.strong).count();
    if strong <= weak {
        return Err(CalibrateError::NothingToGain { weak, strong });
    }
    Ok(Examples::new(files))
}

fn write(path: &Path, file: &[u8]) -> Result<(), CalibrateError> {
    fs::write(path, file).map_err(|error| CalibrateError::File {
        path: path.to_owned(),
        error,
    })
}
