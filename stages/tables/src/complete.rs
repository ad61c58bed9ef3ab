//! Checks that a reader returned everything that the writer wrote: the shared implementation for every reader of a table
//! and of plain files.
//!
//! The expected values are those in the footers of the Parquet files: the rows of a part, and the bytes of text of a
//! row group (its size statistics), which are compared if all texts of the group are read. A reader that is dropped
//! before its end (the limit of a query, a sample) is not checked.

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use parquet::file::metadata::RowGroupMetaData;

use crate::error::TableError;

/// The number of rows of a file that have been read, and the expected number.
#[derive(Debug)]
pub(crate) struct RowCount {
    file: String,
    expected: u64,
    found: u64,
    ended: bool,
}

impl RowCount {
    /// Creates a count of 0 of `expected` rows; errors name `file`.
    pub(crate) fn new(file: impl ToString, expected: u64) -> Self {
        Self { file: file.to_string(), expected, found: 0, ended: false }
    }

    /// Counts and returns a reader's next item. After an error, the reader is exhausted.
    ///
    /// # Errors
    /// Returns the reader's error, or an error if it ends before the last row or continues after it.
    pub(crate) fn pass(
        &mut self,
        next: Option<Result<RecordBatch, TableError>>,
    ) -> Option<Result<RecordBatch, TableError>> {
        let file = self.file.clone();
        let incomplete = |expected, found| TableError::Incomplete { file, what: "rows", expected, found };
        self.pass_or(next, incomplete)
    }

    /// Does the same as [`RowCount::pass`] with a custom error, built from the rows expected and found.
    pub(crate) fn pass_or<E>(
        &mut self,
        next: Option<Result<RecordBatch, E>>,
        incomplete: impl FnOnce(u64, u64) -> E,
    ) -> Option<Result<RecordBatch, E>> {
        if self.ended {
            return None;
        }
        self.ended = !matches!(next, Some(Ok(_)));
        if let Some(Ok(batch)) = &next {
            self.found += batch.num_rows() as u64;
        }
        let is_complete = match next {
            None => self.found == self.expected,
            Some(_) => self.found <= self.expected,
        };
        if is_complete {
            return next;
        }
        self.ended = true;
        Some(Err(incomplete(self.expected, self.found)))
    }
}

/// Compares all texts of a row group with the size statistics in its footer; a file without statistics passes.
///
/// # Errors
/// Returns an error if the texts have a different number of bytes from what was written.
pub(crate) fn text_bytes(file: impl ToString, group: &RowGroupMetaData, texts: &ArrayRef) -> Result<(), TableError> {
    let written = group.columns().iter().find_map(|column| column.unencoded_byte_array_data_bytes());
    let Some(expected) = written.and_then(|bytes| u64::try_from(bytes).ok()) else { return Ok(()) };
    let found = texts.as_string_opt::<i32>().map_or(0, |texts| match texts.offsets().as_ref() {
        [first, .., last] => u64::try_from(last - first).unwrap_or_default(),
        _ => 0,
    });
    if found == expected {
        return Ok(());
    }
    Err(TableError::Incomplete { file: file.to_string(), what: "bytes of text", expected, found })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Array, StringArray, UInt32Array};
    use parquet::file::metadata::ColumnChunkMetaData;

    use super::*;

    fn batch(rows: u32) -> Option<Result<RecordBatch, TableError>> {
        let column: ArrayRef = Arc::new(UInt32Array::from_iter_values(0..rows));
        Some(RecordBatch::try_from_iter([("row", column)]).map_err(|error| TableError::parquet("x")(error.into())))
    }

    fn found(item: Option<Result<RecordBatch, TableError>>) -> u64 {
        match item {
            Some(Err(TableError::Incomplete { found, .. })) => found,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reader_that_gives_all_rows_ends_without_an_error() {
        let mut count = RowCount::new("x", 5);
        assert!(matches!(count.pass(batch(3)), Some(Ok(_))));
        assert!(matches!(count.pass(batch(2)), Some(Ok(_))));
        assert!(count.pass(None).is_none());
        assert!(RowCount::new("x", 0).pass(None).is_none());
    }

    #[test]
    fn texts_with_other_bytes_than_were_written_are_an_error() {
        let descriptor = parquet::schema::parser::parse_message_type("message m { required binary content (UTF8); }");
        let schema = Arc::new(parquet::schema::types::SchemaDescriptor::new(Arc::new(descriptor.unwrap())));
        let group = |bytes| {
            let column = ColumnChunkMetaData::builder(schema.column(0)).set_unencoded_byte_array_data_bytes(bytes);
            let group = RowGroupMetaData::builder(schema.clone()).add_column_metadata(column.build().unwrap());
            group.build().unwrap()
        };
        let all: ArrayRef = Arc::new(StringArray::from(vec!["é", "", "abc"]));
        let sliced = all.slice(1, 2);
        assert!(text_bytes("x", &group(Some(5)), &all).is_ok());
        assert!(text_bytes("x", &group(Some(3)), &sliced).is_ok());
        assert!(text_bytes("x", &group(None), &all).is_ok(), "nothing to compare with");
        for bytes in [4, 6] {
            let error = text_bytes("x", &group(Some(bytes)), &all).unwrap_err().to_string();
            assert_eq!(error, format!("read 5 bytes of text of the table's file 'x', expected {bytes}"));
        }
    }

    #[test]
    fn a_reader_that_ends_a_row_early_or_goes_on_is_an_error_once() {
        let mut count = RowCount::new("x", 5);
        assert!(matches!(count.pass(batch(4)), Some(Ok(_))));
        assert_eq!(found(count.pass(None)), 4);
        assert!(count.pass(None).is_none());
        let mut count = RowCount::new("x", 5);
        assert_eq!(found(count.pass(batch(6))), 6);
        assert!(count.pass(batch(1)).is_none());
    }
}
