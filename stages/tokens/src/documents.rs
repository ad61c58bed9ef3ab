//! Reads the ids and texts of documents, part by part. Neither is ever null: a row that lacks
//! one is an error, so that no row is lost silently.

use contract::figures::counted;
use contract::{Result, StageError};
use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringArray};
use tables::{CONTENT, ID, Part};

/// Ids or texts of some rows, in order; none is null.
#[derive(Debug, Clone)]
pub struct Strings(StringArray);

impl Strings {
    /// Returns an iterator over them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.0.len()).map(|row| self.0.value(row))
    }
}

/// Reads the ids and texts of a part, a batch at a time.
///
/// # Errors
/// Returns an error if the part cannot be opened. A batch is an error if it cannot be read or a row lacks its id or
/// text.
pub fn texts(part: &Part) -> Result<impl Iterator<Item = Result<(Strings, Strings)>>> {
    Ok(part.read(&[ID, CONTENT])?.map(|batch| {
        let batch = batch?;
        Ok((strings(part, &batch, ID)?, strings(part, &batch, CONTENT)?))
    }))
}

/// Reads the ids of a part, a batch at a time.
///
/// # Errors
/// See [`texts`].
pub fn ids(part: &Part) -> Result<impl Iterator<Item = Result<Strings>>> {
    Ok(part.read(&[ID])?.map(|batch| strings(part, &batch?, ID)))
}

fn strings(part: &Part, batch: &RecordBatch, name: &str) -> Result<Strings> {
    let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    let column = column.ok_or_else(|| StageError::new(format!("the table's column '{name}' is not text")))?;
    match column.null_count() {
        0 => Ok(Strings(column.clone())),
        rows => Err(StageError::new(format!(
            "the table's part '{}' has {} without '{name}'",
            part.name,
            counted(rows as u64, "row")
        ))
        .hint("the file may be damaged: rebuild the stage that wrote it")),
    }
}
