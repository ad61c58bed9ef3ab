//! Reads plain Parquet files of other programs, whatever the sizes of their strings.
//!
//! Strings and bytes are read as views of the decoded pages, which have no size limit; an array with 32-bit offsets is limited to 2 GiB. A
//! batch has few rows and a bounded number of bytes, but at least one row.

use std::fs::File;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use crate::complete::RowCount;
use crate::table::row_count;

/// The maximum number of rows in a batch.
const BATCH_ROWS: usize = 64;
/// The maximum size of a batch in bytes, unless one row is larger. The number of rows decoded at a time depends on the mean of the row group.
const BATCH_BYTES: u64 = 32 << 20;

/// The columns of a plain Parquet file, and its rows.
#[derive(Debug, Clone)]
pub struct PlainReader {
    metadata: ArrowReaderMetadata,
    schema: SchemaRef,
}

impl PlainReader {
    /// Reads the footer.
    ///
    /// # Errors
    /// Returns an error if the file has no valid Parquet footer.
    pub fn open(file: &File) -> Result<Self, ParquetError> {
        // The types that the writer intended (64-bit strings, dictionaries) are ignored: all of them are strings.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::load(file, options.clone())?;
        let schema = metadata.schema().clone();
        let fields = schema.fields().iter().map(|field| {
            let view = match field.data_type() {
                DataType::Utf8 => DataType::Utf8View,
                DataType::Binary => DataType::BinaryView,
                _ => return field.clone(),
            };
            Arc::new(field.as_ref().clone().with_data_type(view))
        });
        let views = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let metadata = ArrowReaderMetadata::try_new(metadata.metadata().clone(), options.with_schema(views))?;
        Ok(Self { metadata, schema })
    }

    /// Returns the columns with their Parquet types: strings are `Utf8`.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the number of rows in the footer.
    pub fn rows(&self) -> u64 {
        row_count(&self.metadata)
    }

    /// Reads these columns, or all columns, of `file`, which must be the opened file.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub fn read(&self, file: File, columns: Option<&[&str]>) -> Result<PlainBatches, ParquetError> {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let mask = match columns {
            Some(columns) => ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied()),
            None => ProjectionMask::all(),
        };
        let rows = batch_rows(builder.metadata(), &mask);
        let reader = builder.with_projection(mask).with_batch_size(rows).build()?;
        Ok(PlainBatches { reader, rest: None, count: RowCount::new("", self.rows()) })
    }
}

/// The rows of a plain file in batches, with strings and bytes as views.
///
/// # Errors
/// An item is an error if the file cannot be read; the end is an error if the number of rows differs from that in the footer.
pub struct PlainBatches {
    reader: ParquetRecordBatchReader,
    rest: Option<RecordBatch>,
    count: RowCount,
}

impl PlainBatches {
    fn next_batch(&mut self) -> Option<Result<RecordBatch, ParquetError>> {
        let batch = match self.rest.take() {
            Some(batch) => batch,
            None => match self.reader.next()? {
                Ok(batch) => batch,
                Err(error) => return Some(Err(error.into())),
            },
        };
        let rows = rows_within(&batch, BATCH_BYTES);
        self.rest = (rows < batch.num_rows()).then(|| batch.slice(rows, batch.num_rows() - rows));
        Some(Ok(batch.slice(0, rows)))
    }
}

impl Iterator for PlainBatches {
    type Item = Result<RecordBatch, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_batch();
        self.count.pass_or(next, |expected, found| {
            ParquetError::General(format!("rows read: {found}; promised by the footer: {expected}"))
        })
    }
}

/// Returns the number of rows to decode at a time.
fn batch_rows(metadata: &ParquetMetaData, mask: &ProjectionMask) -> usize {
    let mean = |group: &RowGroupMetaData| {
        let read = group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf));
        let bytes: u64 = read.map(|(_, column)| column.uncompressed_size().max(0) as u64).sum();
        bytes / (group.num_rows().max(1) as u64)
    };
    let largest = metadata.row_groups().iter().map(mean).max().unwrap_or(0);
    // At most `BATCH_ROWS`, which fits.
    (BATCH_BYTES / largest.max(1)).clamp(1, BATCH_ROWS as u64) as usize
}

/// Returns how many of the first rows have at most `limit` bytes of strings and binary values; at least one, if there are rows.
fn rows_within(batch: &RecordBatch, limit: u64) -> usize {
    // A view begins with the 32-bit length of its value.
    let views: Vec<&[u128]> = batch
        .columns()
        .iter()
        .filter_map(|column| match column.data_type() {
            DataType::Utf8View => column.as_string_view_opt().map(|views| views.views().as_ref()),
            DataType::BinaryView => column.as_binary_view_opt().map(|views| views.views().as_ref()),
            _ => None,
        })
        .collect();
    let mut bytes = 0;
    for row in 0..batch.num_rows() {
        bytes += views.iter().map(|views| u64::from(views[row] as u32)).sum::<u64>();
        if bytes > limit {
            return row.max(1);
        }
    }
    batch.num_rows()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::StringViewArray;

    use super::*;

    #[test]
    fn a_batch_ends_before_the_row_that_passes_its_bytes() {
        let texts = StringViewArray::from(vec!["aaaa", "bbbb", "a text of more than twelve bytes", ""]);
        let batch = RecordBatch::try_from_iter([("content", Arc::new(texts) as _)]).unwrap_or_else(|e| panic!("{e}"));
        for (limit, rows) in [(3, 1), (7, 1), (8, 2), (39, 2), (40, 4)] {
            assert_eq!(rows_within(&batch, limit), rows, "{limit} bytes");
        }
        assert_eq!(rows_within(&batch.slice(2, 2), 5), 1);
        assert_eq!(rows_within(&batch.slice(0, 0), 5), 0);
    }
}
