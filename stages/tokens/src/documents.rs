//! Documents as the stages of this crate read them: id and text, part by part.
//!
//! Every row has both. A table of ours cannot hold a row without them; one that another program wrote can, and is an
//! error that names the part, because a row that is passed over would be in no count.

use contract::{Result, StageError};
use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringArray};
use tables::{CONTENT, ID, Part};

/// Some documents of a part, in order.
#[derive(Debug)]
pub struct Texts {
    ids: StringArray,
    texts: StringArray,
}

impl Texts {
    /// Each id with its text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ids.iter().flatten().zip(self.texts.iter().flatten())
    }

    /// The number of documents.
    pub fn len(&self) -> usize {
        self.ids.len()
    }
}

/// The ids and texts of a part, a batch at a time.
///
/// # Errors
/// When the part cannot be opened; each batch, when it cannot be read or a row has no id or no text.
pub fn texts(part: &Part) -> Result<impl Iterator<Item = Result<Texts>>> {
    Ok(part.read(&[ID, CONTENT])?.map(|batch| {
        let batch = batch?;
        Ok(Texts { ids: column(part, &batch, 0)?, texts: column(part, &batch, 1)? })
    }))
}

/// The ids of a part, a batch at a time.
///
/// # Errors
/// As [`texts`].
pub fn ids(part: &Part) -> Result<impl Iterator<Item = Result<StringArray>>> {
    Ok(part.read(&[ID])?.map(|batch| column(part, &batch?, 0)))
}

/// A column of texts without nulls.
fn column(part: &Part, batch: &RecordBatch, index: usize) -> Result<StringArray> {
    let column = batch.columns().get(index).and_then(|column| column.as_string_opt::<i32>());
    let column = column.ok_or_else(|| StageError::new("the table's ids or texts are not text"))?;
    match column.null_count() {
        0 => Ok(column.clone()),
        nulls => {
            let name = batch.schema_ref().field(index).name().clone();
            Err(StageError::new(format!(
                "part '{}' of the table holds rows ({nulls} at least) without '{name}'",
                part.name
            ))
            .hint("the program that wrote the table must give each row its id: import does"))
        }
    }
}
