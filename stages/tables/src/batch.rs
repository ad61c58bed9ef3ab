//! Documents of a batch by position, with their types.

use datafusion::arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array};
use datafusion::arrow::datatypes::{Int64Type, UInt32Type};

use crate::error::TableError;
use crate::format::{CONTENT, COPIES, ID, LICENSE, PATH, REPO_NAME, ROW, SIZE};

/// A batch with all columns of a table of documents, as [`crate::Part::documents`] returns them.
#[derive(Debug, Clone)]
pub struct DocumentBatch {
    batch: RecordBatch,
    id: StringArray,
    repo_name: StringArray,
    path: StringArray,
    copies: Int64Array,
    size: Int64Array,
    license: StringArray,
    row: UInt32Array,
    content: StringArray,
}

impl TryFrom<RecordBatch> for DocumentBatch {
    type Error = TableError;

    fn try_from(batch: RecordBatch) -> Result<Self, TableError> {
        let missing = |name: &str, expected: &str| TableError::Column {
            file: "batch".to_owned(),
            column: name.to_owned(),
            expected: expected.to_owned(),
        };
        let text = |name: &str| {
            let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            column.cloned().ok_or_else(|| missing(name, "Utf8"))
        };
        let number = |name: &str| {
            let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
            column.cloned().ok_or_else(|| missing(name, "Int64"))
        };
        let row = batch.column_by_name(ROW).and_then(|column| column.as_primitive_opt::<UInt32Type>()).cloned();
        Ok(Self {
            id: text(ID)?,
            repo_name: text(REPO_NAME)?,
            path: text(PATH)?,
            copies: number(COPIES)?,
            size: number(SIZE)?,
            license: text(LICENSE)?,
            row: row.ok_or_else(|| missing(ROW, "UInt32"))?,
            content: text(CONTENT)?,
            batch,
        })
    }
}

impl DocumentBatch {
    /// Returns the number of documents.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Returns whether the batch is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the id: 64 hexadecimal digits.
    pub fn id(&self, index: usize) -> &str {
        self.id.value(index)
    }

    /// Returns the repository.
    pub fn repo_name(&self, index: usize) -> &str {
        self.repo_name.value(index)
    }

    /// Returns the path in the repository.
    pub fn path(&self, index: usize) -> &str {
        self.path.value(index)
    }

    /// Returns the number of copies in the export.
    pub fn copies(&self, index: usize) -> i64 {
        self.copies.value(index)
    }

    /// The size of the content in bytes, according to the export.
    pub fn size(&self, index: usize) -> i64 {
        self.size.value(index)
    }

    /// Returns the license key, if there is one.
    pub fn license(&self, index: usize) -> Option<&str> {
        (!self.license.is_null(index)).then(|| self.license.value(index))
    }

    /// Returns the position in the text part.
    pub fn row(&self, index: usize) -> u32 {
        self.row.value(index)
    }

    /// Returns the file.
    pub fn content(&self, index: usize) -> &str {
        self.content.value(index)
    }

    /// Returns the underlying batch, for reading columns that stages add.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }
}
