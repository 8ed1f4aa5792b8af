//! `farthing calibrate` and `farthing eval`: what the router knows is learned from prompts that two
//! models have answered, and measured on them. [`train`] and [`measure`] are pure; here the files
//! are read and the result is said.

pub(crate) mod logistic;
mod measure;
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
use rows::RowFile;
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
pub fn calibrate_router(args: &CalibrateRouterArgs) -> Result<(), CalibrateError> {
    let files = rows::read(&args.files)?;
    let examples = examples(&files)?;
    let calibration = examples.train();
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
    said.map_err(CalibrateError::Print)
}

/// `farthing eval router`
pub fn eval_router(args: &EvalRouterArgs) -> Result<(), CalibrateError> {
    let files = rows::read(&args.files)?;
    examples(&files)?;
    let calibration = calibration(args.calibration.as_deref())?;
    let mut groups: Vec<(Option<&Path>, &[RowFile])> = vec![(None, files.as_slice())];
    if args.group_by_file {
        let each = files
            .iter()
            .map(|file| file.path.as_path())
            .zip(files.chunks(1));
        groups.extend(each.map(|(path, file)| (Some(path), file)));
    }
    let mut out = io::stdout().lock();
    for (path, files) in groups {
        let apart = Examples::new(files).measure_with(&calibration);
        let said = match args.json {
            true => report::quality_json(&mut out, path, &apart),
            false => report::quality(&mut out, path, &apart),
        };
        said.map_err(CalibrateError::Print)?;
    }
    Ok(())
}

/// The one of this build, or that of a file.
fn calibration(path: Option<&Path>) -> Result<GainCalibration, CalibrateError> {
    let Some(path) = path else {
        return GainCalibration::embedded().map_err(CalibrateError::Embedded);
    };
    let file = fs::read(path).map_err(|error| CalibrateError::File {
        path: path.to_owned(),
        error,
    })?;
    GainCalibration::decode(&file).map_err(|error| CalibrateError::Calibration {
        path: path.to_owned(),
        error,
    })
}

fn examples(files: &[RowFile]) -> Result<Examples<'_>, CalibrateError> {
    let rows = || files.iter().flat_map(|file| &file.rows);
    let have = rows().count();
    if have < CALIBRATION_ROWS_MIN {
        return Err(CalibrateError::TooFew { have });
    }
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
