//! The description of a table that `pipeline show` prints.

use contract::{InputTree, Result};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::json::LineDelimitedWriter;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::TableError;
use crate::format::CONTENT;
use crate::rows::RowsTable;
use crate::table::Table;

/// The number of rows in the sample.
const SAMPLE_ROWS: usize = 5;
/// The maximum number of characters of a text in the sample.
const SAMPLE_TEXT: usize = 200;

/// The sizes, columns and first rows of a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    /// The number of files in its tree.
    pub files: usize,
    /// The size of its files, in bytes.
    pub bytes: u64,
    /// The number of rows.
    pub rows: u64,
    /// The columns, including `content`.
    pub columns: Vec<Column>,
    /// The first rows; long texts are truncated.
    pub sample: Vec<Map<String, Value>>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// The name.
    pub name: String,
    /// The type, as Arrow names it.
    #[serde(rename = "type")]
    pub ty: String,
}

/// Describes a table of documents or of rows.
///
/// # Errors
/// Returns an error if the tree is neither, or its files cannot be read.
pub fn describe(tree: &InputTree) -> Result<Description> {
    let (rows, schema, batch) = match RowsTable::open(tree)? {
        Some(table) => {
            let first = table.parts.first().map(|part| part.read()?.next().transpose()).transpose()?.flatten();
            (table.rows(), table.schema, first)
        }
        None => {
            let table = Table::open(tree)?;
            let first = table.parts().first().map(|part| part.documents()?.next().transpose()).transpose()?.flatten();
            (table.rows(), table.schema(), first)
        }
    };
    let column = |field: &std::sync::Arc<datafusion::arrow::datatypes::Field>| Column {
        name: field.name().clone(),
        ty: field.data_type().to_string(),
    };
    Ok(Description {
        files: tree.files.len(),
        bytes: tree.files.iter().map(|file| file.size).sum(),
        rows,
        columns: schema.fields().iter().map(column).collect(),
        sample: batch
            .map_or_else(|| Ok(Vec::new()), |batch| sample(&batch.slice(0, batch.num_rows().min(SAMPLE_ROWS))))?,
    })
}

fn sample(batch: &RecordBatch) -> Result<Vec<Map<String, Value>>, TableError> {
    let mut lines = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut lines);
    writer.write(batch).and_then(|()| writer.finish()).map_err(|error| TableError::parquet("sample")(error.into()))?;
    drop(writer);
    let rows = serde_json::Deserializer::from_slice(&lines).into_iter::<Map<String, Value>>();
    let mut rows: Vec<_> = rows.filter_map(Result::ok).collect();
    for text in rows.iter_mut().filter_map(|row| row.get_mut(CONTENT)) {
        if let Some((end, _)) = text.as_str().and_then(|text| text.char_indices().nth(SAMPLE_TEXT)) {
            *text = Value::String(format!("{}…", &text.as_str().unwrap_or_default()[..end]));
        }
    }
    Ok(rows)
}
