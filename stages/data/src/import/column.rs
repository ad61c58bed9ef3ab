//! Shards in Parquet, whose columns may be of any string or integer type; `license` may be missing.
//!
//! Texts are read as views of the decoded pages, which a batch of any size fits, and fewer rows at a time where they are
//! large.

use std::borrow::Cow;
use std::fs::File;
use std::sync::Arc;

use contract::Result;
use datafusion::arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringViewArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::outcome::BadRow;
use super::row::{COLUMNS, NULLABLE, Row};
use super::shard::{Shard, bad_shard};

/// The columns of text.
const TEXTS: [&str; 4] = ["repo_name", "path", "content", NULLABLE];
/// Rows decoded at a time, at most.
const BATCH: usize = 64;
/// Bytes of text that are decoded at a time, by the mean of a row group; at least one row.
const BATCH_BYTES: u64 = 32 << 20;

/// Reads all rows. A file that cannot be read (further) is an unreadable shard.
pub(super) fn read(file: File, max_content: u64, shard: &mut Shard<'_>) -> Result<()> {
    let bad = |line, reason: String| bad_shard(line, "parquet", reason);
    let cannot = |error: ParquetError| bad(1, format!("the Parquet file cannot be read: {error}"));
    let metadata = match metadata(&file) {
        Ok(metadata) => metadata,
        Err(error) => return shard.break_off(cannot(error)),
    };
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
    let fields = builder.schema().fields();
    let (mut columns, mut extra_columns) = (Vec::new(), fields.len() as u64);
    for column in COLUMNS {
        match fields.iter().filter(|field| field.name() == column).count() {
            // As in JSON lines, a column of nulls need not be there.
            0 if column == NULLABLE => continue,
            0 => return shard.break_off(bad(1, format!("column '{column}' is missing"))),
            1 => columns.push(column),
            _ => return shard.break_off(bad(1, format!("column '{column}' is there twice"))),
        }
        extra_columns -= 1;
    }
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns);
    let batch = batch_rows(builder.metadata());
    let reader = match builder.with_projection(mask).with_batch_size(batch).build() {
        Ok(reader) => reader,
        Err(error) => return shard.break_off(cannot(error)),
    };
    let mut line = 0;
    for batch in reader {
        shard.check()?;
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                return shard.break_off(bad(line + 1, format!("the Parquet file is corrupt from here: {error}")));
            }
        };
        let columns = match Columns::of(&batch) {
            Ok(columns) => columns,
            Err(reason) => return shard.break_off(bad(line + 1, reason)),
        };
        for index in 0..batch.num_rows() {
            line += 1;
            match columns.row(index, extra_columns, max_content) {
                Ok(row) => shard.keep_or_drop(&row)?,
                Err(reason) => shard.reject(BadRow { line, kind: "column", reason, excerpt: String::new() })?,
            }
        }
    }
    Ok(())
}

/// The file's metadata, with the types of the text columns replaced by views. The types that the writer meant (a string in
/// 64 bits, a dictionary) are ignored: they are all strings.
fn metadata(file: &File) -> Result<ArrowReaderMetadata, ParquetError> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = ArrowReaderMetadata::load(file, options.clone())?;
    let fields = metadata.schema().fields().iter().map(|field| {
        let is_text = TEXTS.contains(&field.name().as_str()) && *field.data_type() == DataType::Utf8;
        if is_text { Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)) } else { field.clone() }
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    ArrowReaderMetadata::try_new(metadata.metadata().clone(), options.with_schema(schema))
}

/// How many rows are decoded at a time.
fn batch_rows(metadata: &ParquetMetaData) -> usize {
    let mean = |group: &RowGroupMetaData| {
        let content = group.columns().iter().find(|column| column.column_path().string() == "content");
        let bytes = content.map_or(0, |column| column.uncompressed_size().max(0) as u64);
        bytes / (group.num_rows().max(1) as u64)
    };
    let largest = metadata.row_groups().iter().map(mean).max().unwrap_or(0);
    // At most `BATCH`, which fits.
    (BATCH_BYTES / largest.max(1)).clamp(1, BATCH as u64) as usize
}

struct Columns {
    repo_name: StringViewArray,
    path: StringViewArray,
    copies: Int64Array,
    size: Int64Array,
    content: StringViewArray,
    license: Option<StringViewArray>,
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Self, String> {
        let column = |name: &str, ty: &DataType| {
            let column = batch.column_by_name(name).ok_or_else(|| format!("column '{name}' is missing"))?;
            let found = column.data_type();
            let fits = found.is_string() || (*ty == DataType::Int64 && found.is_integer());
            let fits = fits || (*ty == DataType::Utf8View && *found == DataType::Null);
            match cast(column, ty) {
                Ok(column) if fits => Ok(column),
                _ => Err(format!(
                    "column '{name}' is {found}, expected {}",
                    if ty.is_integer() { "INT64" } else { "a string" }
                )),
            }
        };
        let text = |name: &str| column(name, &DataType::Utf8View).map(|column| column.as_string_view().clone());
        let number =
            |name: &str| column(name, &DataType::Int64).map(|column| column.as_primitive::<Int64Type>().clone());
        Ok(Self {
            repo_name: text("repo_name")?,
            path: text("path")?,
            copies: number("copies")?,
            size: number("size")?,
            content: text("content")?,
            license: batch.column_by_name(NULLABLE).map(|_| text(NULLABLE)).transpose()?,
        })
    }

    fn row(&self, index: usize, extra_columns: u64, max_content: u64) -> Result<Row<'_>, String> {
        let text = |name: &str, column: &'_ StringViewArray| {
            if column.is_null(index) { Err(format!("column '{name}' is null")) } else { Ok(()) }
        };
        text("repo_name", &self.repo_name)?;
        text("path", &self.path)?;
        text("content", &self.content)?;
        let number = |name: &str, column: &Int64Array| {
            if column.is_null(index) {
                Err(format!("column '{name}' is null or no INT64"))
            } else {
                Ok(column.value(index))
            }
        };
        let license = self.license.as_ref().filter(|license| !license.is_null(index));
        let content = self.content.value(index);
        if content.len() as u64 > max_content {
            return Err(format!("the content has {} bytes, more than max_line = {max_content}", content.len()));
        }
        Ok(Row {
            repo_name: Cow::Borrowed(self.repo_name.value(index)),
            path: Cow::Borrowed(self.path.value(index)),
            copies: number("copies", &self.copies)?,
            size: number("size", &self.size)?,
            content: Cow::Borrowed(content),
            license: license.map(|license| Cow::Borrowed(license.value(index))),
            extra_columns,
        })
    }
}
