//! Documents as the stages of this crate read them: id and text, part by part.

use contract::{Result, StageError};
use datafusion::arrow::array::{AsArray, RecordBatch, StringArray};
use tables::{CONTENT, ID, Part};

/// The ids and texts of a part, a batch at a time.
///
/// # Errors
/// When the part cannot be opened; each batch, when it cannot be read.
pub fn texts(part: &Part) -> Result<impl Iterator<Item = Result<(StringArray, StringArray)>>> {
    Ok(part.read(&[ID, CONTENT])?.map(|batch| {
        let batch = batch?;
        Ok((column(&batch, 0)?, column(&batch, 1)?))
    }))
}

/// The ids of a part, a batch at a time.
///
/// # Errors
/// As [`texts`].
pub fn ids(part: &Part) -> Result<impl Iterator<Item = Result<StringArray>>> {
    Ok(part.read(&[ID])?.map(|batch| column(&batch?, 0)))
}

fn column(batch: &RecordBatch, index: usize) -> Result<StringArray> {
    let column = batch.columns().get(index).and_then(|column| column.as_string_opt::<i32>());
    column.cloned().ok_or_else(|| StageError::new("the table's ids or texts are not text"))
}
