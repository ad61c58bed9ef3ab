//! Reads a part: its rows, with `content` joined by position, one row group of text at a time.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use contract::InputFile;
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat, concat_batches};
use datafusion::arrow::datatypes::{Schema, SchemaRef, UInt32Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};

use crate::complete::{self, RowCount};
use crate::error::TableError;
use crate::format::{CONTENT, ROW, TEXT_GROUP_ROWS};
use crate::table::{Part, footer, open, with_content};

/// The documents of a part in order, in batches whose texts are in one row group (at most about [`crate::TEXT_GROUP_BYTES`] of content).
/// Texts that no row refers to are skipped. If `content` is not among the columns, the text file is not opened.
pub struct Documents {
    part: String,
    rows: ParquetRecordBatchReader,
    text: Option<Text>,
    pending: Option<RecordBatch>,
    schema: SchemaRef,
    count: RowCount,
}

/// The reader of the text.
struct Text {
    file: InputFile,
    metadata: ArrowReaderMetadata,
    /// The number of rows in each row group.
    groups: Vec<Range<usize>>,
}

impl Part {
    /// Reads all documents with all columns ([`crate::Table::schema`]).
    ///
    /// # Errors
    /// Returns an error if a file cannot be opened.
    pub fn documents(&self) -> Result<Documents, TableError> {
        let names = with_content(&self.rows_schema);
        let names: Vec<_> = names.fields().iter().map(|field| field.name().as_str()).collect();
        self.read(&names)
    }

    /// Reads all documents with these columns, in this order.
    ///
    /// # Errors
    /// Returns an error if a file cannot be opened or has no such column. A batch is an error if it cannot be read; the end is an error if
    /// not all of [`Part::row_count`] rows were read.
    pub fn read(&self, columns: &[&str]) -> Result<Documents, TableError> {
        let all = with_content(&self.rows_schema);
        let fields = columns.iter().map(|name| {
            all.field_with_name(name).cloned().map_err(|_| TableError::Column {
                file: self.rows.path.to_string(),
                column: (*name).to_owned(),
                expected: "any".to_owned(),
            })
        });
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Result<Vec<_>, _>>()?));
        let text = columns.contains(&CONTENT).then(|| Text::open(&self.text)).transpose()?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(open(&self.rows)?, footer(&self.rows)?);
        let read = columns.iter().copied().filter(|name| *name != CONTENT).chain(text.is_some().then_some(ROW));
        let mask = ProjectionMask::columns(builder.parquet_schema(), read);
        let rows = builder
            .with_projection(mask)
            .with_batch_size(TEXT_GROUP_ROWS)
            .build()
            .map_err(TableError::parquet(&self.rows.path))?;
        let count = RowCount::new(&self.rows.path, self.row_count);
        Ok(Documents { part: self.name.clone(), rows, text, pending: None, schema, count })
    }
}

impl Documents {
    /// Returns the requested columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn fault(&self, why: impl ToString) -> TableError {
        TableError::Rows { part: self.part.clone(), why: why.to_string() }
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, TableError> {
        if self.text.is_none() {
            return match self.rows.next() {
                Some(batch) => self.project(&batch.map_err(|error| self.fault(error))?).map(Some),
                None => Ok(None),
            };
        }
        let Some((rows, group)) = self.next_group()? else { return Ok(None) };
        let text = self.text.as_ref().ok_or_else(|| self.fault("no text"))?;
        let content = text.read(group, positions(&rows).values())?;
        if content.len() != rows.num_rows() {
            return Err(self.fault("a text is missing"));
        }
        let mut columns = rows.columns().to_vec();
        columns.push(content);
        let batch = RecordBatch::try_new(with_content(&rows.schema()), columns).map_err(|error| self.fault(error))?;
        self.project(&batch).map(Some)
    }

    /// Returns the next rows whose texts are in one row group, and its number.
    fn next_group(&mut self) -> Result<Option<(RecordBatch, usize)>, TableError> {
        let mut pending = match self.pending.take() {
            Some(batch) => batch,
            None => match self.pull()? {
                Some(batch) => batch,
                None => return Ok(None),
            },
        };
        let text = self.text.as_ref().ok_or_else(|| self.fault("no text"))?;
        let first = positions(&pending).value(0) as usize;
        let group = text.groups.partition_point(|group| group.end <= first);
        let end = text.groups.get(group).ok_or_else(|| self.fault(format!("row {first} does not exist")))?.end;
        let last = |batch: &RecordBatch| positions(batch).values().last().map_or(0, |row| *row as usize);
        while last(&pending) < end {
            match self.pull()? {
                Some(more) => {
                    pending =
                        concat_batches(&pending.schema(), [&pending, &more]).map_err(|error| self.fault(error))?;
                }
                None => break,
            }
        }
        let rows = positions(&pending).values().to_vec();
        if rows.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(self.fault("rows are not in ascending order"));
        }
        let taken = rows.partition_point(|row| (*row as usize) < end);
        if taken < pending.num_rows() {
            self.pending = Some(pending.slice(taken, pending.num_rows() - taken));
        }
        Ok(Some((pending.slice(0, taken), group)))
    }

    fn pull(&mut self) -> Result<Option<RecordBatch>, TableError> {
        match self.rows.next() {
            Some(Ok(batch)) => Ok(Some(batch)),
            Some(Err(error)) => Err(self.fault(error)),
            None => Ok(None),
        }
    }

    fn project(&self, batch: &RecordBatch) -> Result<RecordBatch, TableError> {
        let columns = self.schema.fields().iter().map(|field| {
            let column = batch.column_by_name(field.name()).cloned();
            column.ok_or_else(|| self.fault(format!("column '{}' is missing", field.name())))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(|error| self.fault(error))
    }
}

impl Iterator for Documents {
    type Item = Result<RecordBatch, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_batch().transpose();
        self.count.pass(next)
    }
}

impl Text {
    fn open(file: &InputFile) -> Result<Self, TableError> {
        let metadata = footer(file)?;
        let mut start = 0;
        let groups = metadata.metadata().row_groups().iter().map(|group| {
            let end = start + usize::try_from(group.num_rows()).unwrap_or_default();
            std::mem::replace(&mut start, end)..end
        });
        let groups = groups.collect();
        Ok(Self { file: file.clone(), metadata, groups })
    }

    /// Returns the texts at these positions, which ascend and are in row group `group`.
    fn read(&self, group: usize, rows: &[u32]) -> Result<ArrayRef, TableError> {
        let span = &self.groups[group];
        let wanted = rows.iter().map(|row| *row as usize - span.start).map(|row| row..row + 1);
        let selection = RowSelection::from_consecutive_ranges(wanted, span.len());
        let file: File = open(&self.file)?;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_row_groups(vec![group])
            .with_row_selection(selection)
            .with_batch_size(rows.len())
            .build()
            .map_err(TableError::parquet(&self.file.path))?;
        let mut texts = Vec::new();
        for batch in reader {
            let batch = batch.map_err(|error| TableError::parquet(&self.file.path)(error.into()))?;
            let column = batch.column_by_name(CONTENT).filter(|column| column.as_string_opt::<i32>().is_some());
            texts.push(column.cloned().ok_or_else(|| TableError::Column {
                file: self.file.path.to_string(),
                column: CONTENT.to_owned(),
                expected: "Utf8".to_owned(),
            })?);
        }
        let arrays: Vec<_> = texts.iter().map(|text| text.as_ref()).collect();
        let texts: ArrayRef = match arrays.as_slice() {
            [] => Arc::new(datafusion::arrow::array::StringArray::from(Vec::<String>::new())),
            arrays => concat(arrays).map_err(|error| TableError::parquet(&self.file.path)(error.into()))?,
        };
        if rows.len() == span.len() {
            complete::text_bytes(&self.file.path, self.metadata.metadata().row_group(group), &texts)?;
        }
        Ok(texts)
    }
}

/// Returns the `row` column, whose type [`crate::Table::open`] has checked.
fn positions(batch: &RecordBatch) -> UInt32Array {
    let column = batch.column_by_name(ROW).and_then(|column| column.as_primitive_opt::<UInt32Type>());
    column.cloned().unwrap_or_else(|| UInt32Array::from_iter_values([]))
}
