//! Writes and reads Parquet parts of rows.

use std::sync::Arc;

use contract::{InputFile, InputTree, OutputFile, OutputTree, PortType, Result, StageError};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriterOptions;

use crate::complete::RowCount;
use crate::error::TableError;
use crate::format::{EMPTY_PART, part_of, rows_options, rows_path, text_options, text_path, text_schema, write_error};
use crate::table::{Part, footer, open, row_count};

/// The number of rows in a batch that is read from a file of rows.
const READ_ROWS: usize = 8192;

/// The writer of `rows/<name>.parquet` of an output port. The first row creates the file: without rows, there is no file.
#[derive(Debug)]
pub struct RowsFile<'a> {
    output: &'a OutputTree,
    path: String,
    schema: SchemaRef,
    writer: Option<ArrowWriter<OutputFile<'a>>>,
    rows: u64,
}

impl<'a> RowsFile<'a> {
    /// Creates the writer of a part of this name with these columns; nothing is written yet.
    pub fn new(output: &'a OutputTree, name: &str, schema: SchemaRef) -> Self {
        Self { output, path: rows_path(name), schema, writer: None, rows: 0 }
    }

    /// Adds rows. Columns are matched by name; columns that the file does not have are ignored.
    ///
    /// # Errors
    /// Returns an error if a column is missing, has a null that its type does not allow, or cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let columns = self.schema.fields().iter().map(|field| {
            let column = batch.column_by_name(field.name()).cloned();
            column.ok_or_else(|| StageError::new(format!("the rows have no column '{}'", field.name())))
        });
        let batch = RecordBatch::try_new(self.schema.clone(), columns.collect::<Result<_>>()?)
            .map_err(|error| StageError::new(format!("the rows do not match the columns of {}: {error}", self.path)))?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(
                ArrowWriter::try_new_with_options(
                    self.output.create(&self.path)?,
                    self.schema.clone(),
                    rows_options()?,
                )
                .map_err(write_error)?,
            ),
        };
        writer.write(&batch).map_err(write_error)?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Finishes the file. Returns the number of its rows.
    ///
    /// # Errors
    /// Returns an error if the last bytes cannot be written.
    pub fn finish(self) -> Result<u64> {
        if let Some(writer) = self.writer {
            writer.into_inner().map_err(write_error)?.finish()?;
        }
        Ok(self.rows)
    }
}

/// A part of documents that keeps the text of an input's part: new rows, the same text.
#[derive(Debug)]
pub struct RowsPart<'a> {
    part: &'a Part,
    rows: RowsFile<'a>,
}

impl<'a> RowsPart<'a> {
    /// Returns the part's rows with these columns, including `row`; without added columns, [`Part::rows_schema`].
    pub fn new(output: &'a OutputTree, part: &'a Part, schema: SchemaRef) -> Self {
        Self { part, rows: RowsFile::new(output, &part.name, schema) }
    }

    /// Adds rows, in the part's order.
    ///
    /// # Errors
    /// See [`RowsFile::write`].
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows.write(batch)
    }

    /// Finishes the part. Without rows it is not in the tree; otherwise its text is linked. Returns the number of its rows.
    ///
    /// # Errors
    /// See [`RowsFile::finish`].
    pub fn finish(self) -> Result<u64> {
        let output = self.rows.output;
        let rows = self.rows.finish()?;
        if rows > 0 {
            output.link(&text_path(&self.part.name), &self.part.text)?;
        }
        Ok(rows)
    }
}

/// Finishes a table of documents or of rows: if it has no rows, adds the part [`EMPTY_PART`], which contains its columns. Call it when all
/// parts of the output are finished.
///
/// # Errors
/// Returns an error if the part cannot be written.
pub fn close(output: &OutputTree, schema: &SchemaRef, port: PortType) -> Result<()> {
    if !output.is_empty() {
        return Ok(());
    }
    let file = output.create(&rows_path(EMPTY_PART))?;
    parquet_file(file, schema, rows_options()?)?.finish()?;
    if port == PortType::Documents {
        parquet_file(output.create(&text_path(EMPTY_PART))?, &text_schema(), text_options()?)?.finish()?;
    }
    Ok(())
}

/// Creates a Parquet file without rows.
fn parquet_file<'a>(file: OutputFile<'a>, schema: &SchemaRef, options: ArrowWriterOptions) -> Result<OutputFile<'a>> {
    let writer = ArrowWriter::try_new_with_options(file, schema.clone(), options).map_err(write_error)?;
    writer.into_inner().map_err(write_error)
}

/// A table of rows ([`contract::PortType::Rows`]) in the store.
#[derive(Debug, Clone)]
pub(crate) struct RowsTable {
    /// The files, sorted by path.
    pub(crate) parts: Vec<RowsInput>,
    /// The columns of each file.
    pub(crate) schema: SchemaRef,
}

/// A file of rows.
#[derive(Debug, Clone)]
pub(crate) struct RowsInput {
    /// The content of the file.
    pub(crate) file: InputFile,
    /// The name of the part.
    pub(crate) name: String,
    /// The number of rows.
    pub(crate) row_count: u64,
}

impl RowsTable {
    /// Opens the table of a tree whose files are all in `rows/`. Reads the footers, no data.
    ///
    /// # Errors
    /// Returns an error if a file does not belong to a table, a footer is damaged, or the columns of files differ.
    pub(crate) fn open(tree: &InputTree) -> Result<Option<Self>, TableError> {
        if tree.files.is_empty() || tree.files.iter().any(|file| !file.path.as_str().starts_with("rows/")) {
            return Ok(None);
        }
        let mut table = Self { parts: Vec::with_capacity(tree.files.len()), schema: Arc::new(Schema::empty()) };
        for file in tree.below("rows") {
            let path = file.path.as_str();
            let (name, _) = part_of(path).ok_or_else(|| TableError::Foreign { path: path.to_owned() })?;
            let metadata = footer(file)?;
            if table.parts.is_empty() {
                table.schema = metadata.schema().clone();
            } else if metadata.schema().fields() != table.schema.fields() {
                return Err(TableError::Columns { part: name.to_owned() });
            }
            table.parts.push(RowsInput { name: name.to_owned(), file: file.clone(), row_count: row_count(&metadata) });
        }
        Ok(Some(table))
    }

    /// Returns the number of its rows.
    pub(crate) fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.row_count).sum()
    }
}

impl RowsInput {
    /// Returns the rows in batches.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened. A batch is an error if it cannot be read; the end is an error if rows are missing.
    pub(crate) fn read(&self) -> Result<Batches, TableError> {
        Batches::open(&self.file, self.row_count)
    }
}

/// The rows of one file, in batches.
pub(crate) struct Batches {
    path: String,
    reader: ParquetRecordBatchReader,
    count: RowCount,
}

impl Batches {
    fn open(file: &InputFile, rows: u64) -> Result<Self, TableError> {
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(open(file)?, footer(file)?)
            .with_batch_size(READ_ROWS)
            .build()
            .map_err(TableError::parquet(&file.path))?;
        Ok(Self { path: file.path.to_string(), reader, count: RowCount::new(&file.path, rows) })
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.reader.next();
        self.count.pass(next.map(|batch| batch.map_err(|error| TableError::parquet(&self.path)(error.into()))))
    }
}

/// Returns the rows of a table of rows (or the `rows/` of a table of documents), part by part in order, in batches. One file is
/// open at a time.
///
/// # Errors
/// Returns an error if a footer cannot be read. A batch is an error if a file cannot be read or ends before its last row.
pub fn read_rows(tree: &InputTree) -> Result<impl Iterator<Item = Result<RecordBatch, TableError>> + '_, TableError> {
    let counts: Vec<_> =
        tree.below("rows").map(|file| Ok((file, row_count(&footer(file)?)))).collect::<Result<_, TableError>>()?;
    Ok(counts.into_iter().flat_map(|(file, rows)| {
        let (batches, error) = match Batches::open(file, rows) {
            Ok(batches) => (Some(batches), None),
            Err(error) => (None, Some(Err(error))),
        };
        error.into_iter().chain(batches.into_iter().flatten())
    }))
}
