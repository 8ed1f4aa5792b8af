//! FrugalGPT's HEADLINES (Apache-2.0): which way a headline says that the price of gold goes. The
//! eight examples that its authors put before each stand in the same message.

use super::{read, unexpected};
use crate::error::XtaskError;
use serde_json::{Value, json};
use std::path::Path;

/// The first `count` rows of `HEADLINES_train.csv` in `folder`; all of them without a count.
pub fn rows(folder: &Path, count: Option<usize>) -> Result<Vec<Value>, XtaskError> {
    let examples = read(&folder.join("prompt_HEADLINES_prefix_e8.txt"))?;
    let path = folder.join("HEADLINES_train.csv");
    let mut csv = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_path(&path)
        .map_err(|error| unexpected(&path, &error.to_string()))?;
    (1_u64..)
        .zip(csv.records())
        .take(count.unwrap_or(usize::MAX))
        .map(|(number, record)| {
            let record = record.map_err(|error| unexpected(&path, &error.to_string()))?;
            let (Some(question), Some(answer)) = (record.get(0), record.get(1)) else {
                let problem = format!("row {number} has not two fields: question and answer");
                return Err(unexpected(&path, &problem));
            };
            let prompt = format!("{}\n\n{question}", examples.trim_end());
            Ok(json!({"prompt": prompt, "answer": answer, "check": "exact"}))
        })
        .collect()
}
