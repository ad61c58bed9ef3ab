//! Shards in Parquet, whose columns may be of any string or integer type.

use std::borrow::Cow;
use std::fs::File;

use contract::Result;
use datafusion::arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::outcome::BadRow;
use super::row::{COLUMNS, Row};
use super::shard::Shard;

/// Rows decoded at a time.
const BATCH: usize = 64;

/// Reads all rows. A file that cannot be read (further) is one bad row.
pub(super) fn read(file: File, max_content: u64, shard: &mut Shard<'_>) -> Result<()> {
    let bad = |line, reason: String| BadRow { line, kind: "parquet", reason, excerpt: String::new() };
    let builder = match ParquetRecordBatchReaderBuilder::try_new(file) {
        Ok(builder) => builder,
        Err(error) => return shard.reject_rest(bad(1, format!("the Parquet file cannot be read: {error}"))),
    };
    let names: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    for column in COLUMNS {
        match names.iter().filter(|name| *name == column).count() {
            0 => return shard.reject_rest(bad(1, format!("column '{column}' is missing"))),
            1 => {}
            _ => return shard.reject_rest(bad(1, format!("column '{column}' is there twice"))),
        }
    }
    let extra_columns = (names.len() - COLUMNS.len()) as u64;
    let mask = ProjectionMask::columns(builder.parquet_schema(), COLUMNS);
    let reader = match builder.with_projection(mask).with_batch_size(BATCH).build() {
        Ok(reader) => reader,
        Err(error) => return shard.reject_rest(bad(1, format!("the Parquet file cannot be read: {error}"))),
    };
    let mut line = 0;
    for batch in reader {
        shard.check()?;
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                return shard.reject_rest(bad(line + 1, format!("the Parquet file is corrupt from here: {error}")));
            }
        };
        let columns = match Columns::of(&batch) {
            Ok(columns) => columns,
            Err(reason) => return shard.reject_rest(bad(line + 1, reason)),
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

struct Columns {
    repo_name: StringArray,
    path: StringArray,
    copies: Int64Array,
    size: Int64Array,
    content: StringArray,
    license: StringArray,
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Self, String> {
        let column = |name: &str, ty: &DataType| {
            let column = batch.column_by_name(name).ok_or_else(|| format!("column '{name}' is missing"))?;
            let found = column.data_type();
            let fits = found.is_string() || (*ty == DataType::Int64 && found.is_integer());
            let fits = fits || (*ty == DataType::Utf8 && *found == DataType::Null);
            match cast(column, ty) {
                Ok(column) if fits => Ok(column),
                _ => Err(format!("column '{name}' is {found}, not {ty}")),
            }
        };
        let text = |name: &str| column(name, &DataType::Utf8).map(|column| column.as_string::<i32>().clone());
        let number =
            |name: &str| column(name, &DataType::Int64).map(|column| column.as_primitive::<Int64Type>().clone());
        Ok(Self {
            repo_name: text("repo_name")?,
            path: text("path")?,
            copies: number("copies")?,
            size: number("size")?,
            content: text("content")?,
            license: text("license")?,
        })
    }

    fn row(&self, index: usize, extra_columns: u64, max_content: u64) -> Result<Row<'_>, String> {
        let text = |name: &str, column: &'_ StringArray| {
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
            license: (!self.license.is_null(index)).then(|| Cow::Borrowed(self.license.value(index))),
            extra_columns,
        })
    }
}
