//! Writes and reads Parquet parts of rows.

use contract::{InputFile, InputTree, OutputFile, OutputTree, Result, StageError};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::TableError;
use crate::format::{rows_options, write_error};
use crate::table::{Part, footer, open};

/// `rows/<name>.parquet` of an output port. The file is made by the first row: without one there is none.
#[derive(Debug)]
pub struct RowsFile<'a> {
    output: &'a OutputTree,
    path: String,
    schema: SchemaRef,
    writer: Option<ArrowWriter<OutputFile<'a>>>,
    rows: u64,
}

impl<'a> RowsFile<'a> {
    /// A part of that name with these columns; nothing is written yet.
    pub fn new(output: &'a OutputTree, name: &str, schema: SchemaRef) -> Self {
        Self { output, path: format!("rows/{name}.parquet"), schema, writer: None, rows: 0 }
    }

    /// Adds rows. Columns are taken by name; others than those of the file are left out.
    ///
    /// # Errors
    /// When a column is missing, null where it may not be, or cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let columns = self.schema.fields().iter().map(|field| {
            let column = batch.column_by_name(field.name()).cloned();
            column.ok_or_else(|| StageError::new(format!("the rows have no column '{}'", field.name())))
        });
        let batch = RecordBatch::try_new(self.schema.clone(), columns.collect::<Result<_>>()?)
            .map_err(|error| StageError::new(format!("the rows do not fit {}: {error}", self.path)))?;
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

    /// Ends the file; the number of its rows.
    ///
    /// # Errors
    /// When the last bytes cannot be written.
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
    /// The part's rows with these columns, `row` among them; [`Part::rows_schema`] where none is added.
    pub fn new(output: &'a OutputTree, part: &'a Part, schema: SchemaRef) -> Self {
        Self { part, rows: RowsFile::new(output, &part.name, schema) }
    }

    /// Adds rows, in the part's order.
    ///
    /// # Errors
    /// As [`RowsFile::write`].
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows.write(batch)
    }

    /// Ends the part: with no row it is not in the tree, else its text is linked. The number of its rows.
    ///
    /// # Errors
    /// As [`RowsFile::finish`].
    pub fn finish(self) -> Result<u64> {
        let output = self.rows.output;
        let rows = self.rows.finish()?;
        if rows > 0 {
            output.link(&format!("text/{}.parquet", self.part.name), &self.part.text)?;
        }
        Ok(rows)
    }
}

/// The rows of a table of rows (or the `rows/` of a table of documents), part by part in order, in batches.
///
/// # Errors
/// When a file cannot be opened; each batch, when it cannot be read.
pub fn read_rows(tree: &InputTree) -> Result<impl Iterator<Item = Result<RecordBatch, TableError>> + '_, TableError> {
    let readers: Vec<_> = tree.below("rows").map(read_file).collect::<Result<_, TableError>>()?;
    Ok(readers.into_iter().flatten())
}

/// The rows of one file, in batches.
pub(crate) fn read_file(
    file: &InputFile,
) -> Result<impl Iterator<Item = Result<RecordBatch, TableError>> + Send + 'static, TableError> {
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(open(file)?, footer(file)?)
        .build()
        .map_err(TableError::parquet(&file.path))?;
    let path = file.path.to_string();
    Ok(reader.map(move |batch| batch.map_err(|error| TableError::parquet(&path)(error.into()))))
}
