//! The counts of a shard's rows, and the tables of the rows that were not kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::{Context, Digest, PortType, Result, StageError};
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tables::{Attrition, Document, RowsFile, document_id, dropped_schema, part_name};

/// The number of rows that are buffered before they are written to their table.
const BATCH: usize = 1024;

/// The counts of a shard's rows.
#[derive(Debug, Default)]
pub(super) struct ShardResult {
    /// The number of rows read, kept and dropped, without the rejected ones.
    pub attrition: Attrition,
    /// The number of rejected rows by the kind of their fault.
    pub rejected: BTreeMap<&'static str, u64>,
    /// The kind of the fault, if the shard could not be read to its end.
    pub unreadable: Option<&'static str>,
    /// The number of lines without a row.
    pub blank_lines: u64,
    /// The number of rows with columns that the query does not have.
    pub rows_with_extra_columns: u64,
    /// The number of rows whose `size` is not the length of their content.
    pub size_mismatches: u64,
}

impl ShardResult {
    /// Returns the number of rejected rows.
    pub(super) fn rejected_rows(&self) -> u64 {
        self.rejected.values().sum()
    }
}

/// A malformed row, or a shard that cannot be read from a line on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadRow {
    /// The line number, or the row number in a Parquet file, from 1.
    pub line: u64,
    /// The kind of the fault: `json`, `utf-8`, `long line`, `column`; for shards `gzip`, `parquet`, `zstd` and so on.
    pub kind: &'static str,
    /// The message.
    pub reason: String,
    /// The beginning of the row.
    pub excerpt: String,
}

/// The tables `dropped` and `rejected` of one shard.
pub(super) struct Tables<'a> {
    shard: String,
    dropped: RowsFile<'a>,
    drops: Vec<[Option<String>; 5]>,
    rejected: RowsFile<'a>,
    rejects: Vec<BadRow>,
}

fn rejected_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("shard", DataType::Utf8, false),
        Field::new("line", DataType::Int64, false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("excerpt", DataType::Utf8, false),
    ]))
}

/// Finishes the outputs `documents`, `dropped` and `rejected` once all shards are written.
pub(super) fn close(context: &Context) -> Result<()> {
    tables::close(context.outputs.tree("documents")?, &tables::rows_schema(), PortType::Documents)?;
    tables::close(context.outputs.tree("dropped")?, &dropped_schema(), PortType::Rows)?;
    tables::close(context.outputs.tree("rejected")?, &rejected_schema(), PortType::Rows)
}

impl<'a> Tables<'a> {
    pub(super) fn new(context: &'a Context, shard: Digest) -> Result<Self> {
        let name = part_name(shard, 0);
        Ok(Self {
            shard: shard.to_string(),
            dropped: RowsFile::new(context.outputs.tree("dropped")?, &name, dropped_schema()),
            drops: Vec::new(),
            rejected: RowsFile::new(context.outputs.tree("rejected")?, &name, rejected_schema()),
            rejects: Vec::new(),
        })
    }

    pub(super) fn drop_row(&mut self, document: &Document<'_>, rule: &str, detail: String) -> Result<()> {
        let id = document_id(document.repo_name, document.path, document.content).to_string();
        let text = |text: &str| Some(text.to_owned());
        self.drops.push([Some(id), text(document.repo_name), text(document.path), text(rule), Some(detail)]);
        if self.drops.len() == BATCH { self.write_drops() } else { Ok(()) }
    }

    pub(super) fn reject(&mut self, row: BadRow) -> Result<()> {
        self.rejects.push(row);
        if self.rejects.len() == BATCH { self.write_rejects() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.write_drops()?;
        self.write_rejects()?;
        self.dropped.finish()?;
        self.rejected.finish().map(drop)
    }

    fn write_drops(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.drops);
        let column = |index: usize| -> ArrayRef {
            Arc::new(rows.iter().map(|row| row[index].as_deref()).collect::<StringArray>())
        };
        let batch = RecordBatch::try_new(dropped_schema(), (0..5).map(column).collect());
        self.dropped.write(&batch.map_err(|error| StageError::new(error.to_string()))?)
    }

    fn write_rejects(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rejects);
        let text = |field: fn(&BadRow) -> &str| -> ArrayRef {
            Arc::new(rows.iter().map(|row| Some(field(row))).collect::<StringArray>())
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|_| Some(self.shard.as_str())).collect::<StringArray>()),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| i64::try_from(row.line).unwrap_or(i64::MAX)))),
            text(|row| row.kind),
            text(|row| &row.reason),
            text(|row| &row.excerpt),
        ];
        let batch = RecordBatch::try_new(rejected_schema(), columns);
        self.rejected.write(&batch.map_err(|error| StageError::new(error.to_string()))?)
    }
}
