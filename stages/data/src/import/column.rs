//! Parquet shards. Columns may be of any string or integer type; `license` may be missing.
//!
//! [`PlainReader`] bounds what is decoded at a time, and compares the rows with the footer.

use std::borrow::Cow;
use std::fs::File;

use contract::Result;
use datafusion::arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringViewArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use parquet::errors::ParquetError;
use tables::PlainReader;

use super::row::{COLUMNS, NULLABLE, Row, count};
use super::shard::{Shard, bad_shard};
use super::shard_result::BadRow;

/// Reads all rows. A file that cannot be read (further) is an unreadable shard.
pub(super) fn read(file: File, max_content: u64, shard: &mut Shard<'_>) -> Result<()> {
    let bad = |line, reason: String| bad_shard(line, "parquet", reason);
    let cannot = |error: ParquetError| bad(1, format!("the Parquet file cannot be read: {error}"));
    let plain = match PlainReader::open(&file) {
        Ok(plain) => plain,
        Err(error) => return shard.break_off(cannot(error)),
    };
    let fields = plain.schema().fields();
    let (mut columns, mut extra_columns) = (Vec::new(), fields.len() as u64);
    for column in COLUMNS {
        match fields.iter().filter(|field| field.name() == column).count() {
            // As in JSON lines, a column that contains only nulls may be missing.
            0 if column == NULLABLE => continue,
            0 => return shard.break_off(bad(1, format!("column '{column}' is missing"))),
            1 => columns.push(column),
            _ => return shard.break_off(bad(1, format!("column '{column}' is there twice"))),
        }
        extra_columns -= 1;
    }
    let batches = match plain.read(file, Some(&columns)) {
        Ok(batches) => batches,
        Err(error) => return shard.break_off(cannot(error)),
    };
    let mut line = 0;
    for batch in batches {
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
            let row = columns.row(index, extra_columns);
            match row.and_then(|row| row.too_long(max_content).map_or(Ok(row), Err)) {
                Ok(row) => shard.keep_or_drop(&row)?,
                Err(reason) => shard.reject(BadRow { line, kind: "column", reason, excerpt: String::new() })?,
            }
        }
    }
    Ok(())
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

    fn row(&self, index: usize, extra_columns: u64) -> Result<Row<'_>, String> {
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
                count(name, column.value(index))
            }
        };
        let license = self.license.as_ref().filter(|license| !license.is_null(index));
        Ok(Row {
            repo_name: Cow::Borrowed(self.repo_name.value(index)),
            path: Cow::Borrowed(self.path.value(index)),
            copies: number("copies", &self.copies)?,
            size: number("size", &self.size)?,
            content: Cow::Borrowed(self.content.value(index)),
            license: license.map(|license| Cow::Borrowed(license.value(index))),
            extra_columns,
        })
    }
}
