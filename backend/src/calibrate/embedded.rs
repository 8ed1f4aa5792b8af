//! Rows with their embeddings: learning a pre-router, and measuring one.

use std::path::Path;

use farthing_core::limits::SEMANTIC_EVAL_BATCH;

use super::measure::{SEED, ece, next};
use super::quality::{Quality, Scores};
use super::rows::{Row, RowFile};
use super::train::FOLDS;
use crate::embed::Embedder;
use crate::error::BackendError;
use crate::pre_router::{Example, Gain, Measured, Parts, PreRouter, Training};

/// Rows of files, in their order.
pub(super) struct Embedded<'a> {
    rows: Vec<&'a Row>,
    /// The file of each.
    files: Parts,
    embeddings: Vec<Vec<f32>>,
}

impl<'a> Embedded<'a> {
    /// Embeds all prompts by the model of a folder.
    pub(super) fn new(folder: &Path, files: &'a [RowFile]) -> Result<Embedded<'a>, BackendError> {
        let embedder = Embedder::load(folder).map_err(|error| error.in_file(folder))?;
        let rows: Vec<&Row> = files.iter().flat_map(|file| &file.rows).collect();
        let mut embeddings = Vec::with_capacity(rows.len());
        for some in rows.chunks(SEMANTIC_EVAL_BATCH) {
            let texts: Vec<String> = some.iter().map(|row| row.prompt.clone()).collect();
            let embedded = embedder.embed(&texts, || true)?;
            embeddings.extend(embedded.map_or_else(Vec::new, |embedded| embedded.vectors));
        }
        let of = files.iter().enumerate();
        let of = of.flat_map(|(at, file)| std::iter::repeat_n(at, file.rows.len()));
        Ok(Embedded {
            rows,
            files: Parts {
                of: of.collect(),
                count: files.len(),
            },
            embeddings,
        })
    }

    /// The pre-router of all rows, with what was measured on rows and files left out.
    pub(super) fn train(&self) -> Result<PreRouter, BackendError> {
        let training = self.training();
        let folds = self.folds();
        let told = training.leave_out(&folds)?;
        let quality = Quality::of(&self.rows, &Scores::by_value(&told));
        let files_out = match self.files.count {
            ..=1 => None,
            _ => {
                let scores = Scores::by_rank(&training.leave_out(&self.files)?);
                Quality::of(&self.rows, &scores)
                    .apgr
                    .map(|(value, _)| value)
            }
        };
        let stated: Vec<f64> = told
            .iter()
            .map(|gain| f64::from(gain.p_weak_right))
            .collect();
        let weak: Vec<bool> = self.rows.iter().map(|row| row.weak).collect();
        let parts = if self.files.count > 1 {
            &self.files
        } else {
            &folds
        };
        let measured = Measured {
            rows: quality.rows as u64,
            apgr: quality.apgr.map(|(value, _)| value),
            apgr_files_out: files_out,
            apgr_length: quality.apgr_length,
            ece: ece(&stated, &weak),
            accuracy: quality.accuracy(),
            cost_share: quality.cost_share(),
        };
        training.finish(parts, measured)
    }

    /// Scores by pre-routers of other rows: of the other files if there are any, else of the other
    /// folds.
    pub(super) fn left_out(&self) -> Result<Scores, BackendError> {
        let training = self.training();
        match self.files.count {
            ..=1 => Ok(Scores::by_value(&training.leave_out(&self.folds())?)),
            _ => Ok(Scores::by_rank(&training.leave_out(&self.files)?)),
        }
    }

    /// Scores by a pre-router that was made elsewhere.
    pub(super) fn by(&self, pre_router: &PreRouter) -> Scores {
        let told = self.rows.iter().zip(&self.embeddings);
        let told: Vec<Gain> = told
            .map(|(row, embedding)| pre_router.gain(&row.prompt, embedding))
            .collect();
        Scores::by_value(&told)
    }

    fn training(&self) -> Training {
        let examples = self.rows.iter().zip(&self.embeddings);
        let examples: Vec<Example<'_>> = examples
            .map(|(row, embedding)| Example {
                prompt: &row.prompt,
                embedding: embedding.clone(),
                weak: row.weak,
                strong: row.strong,
            })
            .collect();
        Training::new(&examples)
    }

    fn folds(&self) -> Parts {
        let mut state = SEED;
        let fold = |_: &&Row| (next(&mut state) % FOLDS as u64) as usize;
        Parts {
            of: self.rows.iter().map(fold).collect(),
            count: FOLDS,
        }
    }
}

impl Scores {
    /// Of pre-routers whose gains are comparable.
    fn by_value(told: &[Gain]) -> Scores {
        let gains: Vec<f64> = told.iter().map(|gain| f64::from(gain.value)).collect();
        Scores {
            order: gains.clone(),
            gains,
        }
    }

    /// Of one for each file: their gains differ by how often the strong model was better in the
    /// files of each; a router goes by the rank.
    fn by_rank(told: &[Gain]) -> Scores {
        Scores {
            order: told.iter().map(|gain| f64::from(gain.rank)).collect(),
            ..Scores::by_value(told)
        }
    }
}
