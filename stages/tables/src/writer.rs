//! Writes new tables, for `import` and for stages that create or change text.

use std::sync::Arc;

use contract::{Digest, OutputFile, OutputTree, Result};
use datafusion::arrow::array::{ArrayRef, Int64Builder, RecordBatch, StringBuilder, UInt32Builder};
use datafusion::arrow::compute::interleave;
use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;

use crate::format::{
    PART_ROWS, PART_TEXT_BYTES, ROW, TEXT_GROUP_BYTES, TEXT_GROUP_ROWS, document_id, part_name, rows_schema,
    text_options, text_path, text_schema, write_error,
};
use crate::rows::RowsFile;

/// A document to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document<'a> {
    /// The repository.
    pub repo_name: &'a str,
    /// The path in the repository.
    pub path: &'a str,
    /// The number of copies, according to the export.
    pub copies: i64,
    /// The size of the content in bytes, according to the export.
    pub size: i64,
    /// The repository's license key.
    pub license: Option<&'a str>,
    /// The content of the file.
    pub content: &'a str,
}

/// Writes the documents of one source shard, in the given order, as the parts of the shard.
pub struct ShardWriter<'a> {
    output: &'a OutputTree,
    shard: Digest,
    /// The columns of `rows/`.
    schema: SchemaRef,
    number: usize,
    part: Option<OpenPart<'a>>,
}

struct OpenPart<'a> {
    text: ArrowWriter<OutputFile<'a>>,
    rows: RowsFile<'a>,
    schema: SchemaRef,
    text_schema: SchemaRef,
    /// The number of documents and bytes of text in the part so far, including those of `group`.
    documents: usize,
    bytes: usize,
    group: Group,
}

/// The documents of the row group that is being filled.
#[derive(Default)]
struct Group {
    id: StringBuilder,
    repo_name: StringBuilder,
    path: StringBuilder,
    copies: Int64Builder,
    size: Int64Builder,
    license: StringBuilder,
    row: UInt32Builder,
    content: StringBuilder,
    further: Further,
    documents: usize,
    bytes: usize,
}

/// The values of columns that the format does not define: for each document, the index of a batch and of a row in it.
#[derive(Default)]
struct Further {
    batches: Vec<RecordBatch>,
    rows: Vec<(usize, usize)>,
}

impl Further {
    fn push(&mut self, batch: &RecordBatch, row: usize) {
        let is_same = |last: &RecordBatch| last.columns().iter().zip(batch.columns()).all(|(a, b)| Arc::ptr_eq(a, b));
        if !self.batches.last().is_some_and(is_same) {
            self.batches.push(batch.clone());
        }
        self.rows.push((self.batches.len() - 1, row));
    }

    fn finish(&self) -> Result<Vec<ArrayRef>, ArrowError> {
        let columns = self.batches.first().map_or(0, RecordBatch::num_columns);
        let column = |index: usize| {
            let arrays: Vec<_> = self.batches.iter().map(|batch| batch.column(index).as_ref()).collect();
            interleave(&arrays, &self.rows)
        };
        (0..columns).map(column).collect()
    }
}

/// Returns the columns of `rows/` with further columns, which come before `row`.
pub(crate) fn documents_schema(further: &[FieldRef]) -> SchemaRef {
    let own = rows_schema();
    let (row, before) = own.fields().iter().cloned().partition::<Vec<_>, _>(|field| field.name() == ROW);
    let fields: Vec<_> = before.into_iter().chain(further.iter().cloned()).chain(row).collect();
    Arc::new(Schema::new(fields))
}

impl<'a> ShardWriter<'a> {
    /// Creates the writer of the shard with this digest; without documents nothing is written.
    pub fn new(output: &'a OutputTree, shard: Digest) -> Self {
        Self::with_columns(output, shard, &[])
    }

    /// Creates a writer of documents with further columns, which follow those of the format.
    pub fn with_columns(output: &'a OutputTree, shard: Digest, further: &[FieldRef]) -> Self {
        Self { output, shard, schema: documents_schema(further), number: 0, part: None }
    }

    /// Adds a document without further columns.
    ///
    /// # Errors
    /// Returns an error if the bytes cannot be written.
    pub fn push(&mut self, document: &Document<'_>) -> Result<()> {
        self.push_with(document, None)
    }

    /// Adds a document; `further` is a batch of exactly the further columns, and the document's row in it.
    ///
    /// # Errors
    /// Returns an error if the bytes cannot be written.
    pub fn push_with(&mut self, document: &Document<'_>, further: Option<(&RecordBatch, usize)>) -> Result<()> {
        let full =
            |part: &OpenPart<'_>| part.documents >= PART_ROWS || part.bytes + document.content.len() > PART_TEXT_BYTES;
        if let Some(part) = self.part.take_if(|part| full(part)) {
            part.finish()?;
            self.number += 1;
        }
        let part = match &mut self.part {
            Some(part) => part,
            none => none.insert(OpenPart::new(self.output, &part_name(self.shard, self.number), self.schema.clone())?),
        };
        part.push(document, further)
    }

    /// Finishes the shard's last part.
    ///
    /// # Errors
    /// Returns an error if the last bytes cannot be written.
    pub fn finish(self) -> Result<()> {
        self.part.map_or(Ok(()), OpenPart::finish)
    }
}

impl<'a> OpenPart<'a> {
    fn new(output: &'a OutputTree, name: &str, schema: SchemaRef) -> Result<Self> {
        let text_schema = text_schema();
        let file = output.create(&text_path(name))?;
        let text =
            ArrowWriter::try_new_with_options(file, text_schema.clone(), text_options()?).map_err(write_error)?;
        let rows = RowsFile::new(output, name, schema.clone());
        Ok(Self { text, rows, schema, text_schema, documents: 0, bytes: 0, group: Group::default() })
    }

    fn push(&mut self, document: &Document<'_>, further: Option<(&RecordBatch, usize)>) -> Result<()> {
        let next = self.group.bytes + document.content.len();
        if self.group.documents > 0 && (next > TEXT_GROUP_BYTES || self.group.documents == TEXT_GROUP_ROWS) {
            self.flush()?;
        }
        self.group.push(document, self.documents);
        if let Some((batch, row)) = further {
            self.group.further.push(batch, row);
        }
        self.documents += 1;
        self.bytes += document.content.len();
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.group.documents == 0 {
            return Ok(());
        }
        let group = std::mem::take(&mut self.group);
        let (rows, text) = group.finish(&self.schema, &self.text_schema)?;
        self.rows.write(&rows)?;
        self.text.write(&text).map_err(write_error)?;
        self.text.flush().map_err(write_error)
    }

    fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.rows.finish()?;
        self.text.into_inner().map_err(write_error)?.finish().map(drop)
    }
}

impl Group {
    fn push(&mut self, document: &Document<'_>, row: usize) {
        let Document { repo_name, path, copies, size, license, content } = *document;
        self.id.append_value(document_id(repo_name, path, content).to_string());
        self.repo_name.append_value(repo_name);
        self.path.append_value(path);
        self.copies.append_value(copies);
        self.size.append_value(size);
        self.license.append_option(license);
        // A part contains at most PART_ROWS documents.
        self.row.append_value(row as u32);
        self.content.append_value(content);
        self.documents += 1;
        self.bytes += content.len();
    }

    /// Returns the batch of rows and the batch of text.
    fn finish(mut self, schema: &SchemaRef, text_schema: &SchemaRef) -> Result<(RecordBatch, RecordBatch)> {
        let error = |error: ArrowError| write_error(error.into());
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.id.finish()),
            Arc::new(self.repo_name.finish()),
            Arc::new(self.path.finish()),
            Arc::new(self.copies.finish()),
            Arc::new(self.size.finish()),
            Arc::new(self.license.finish()),
        ];
        columns.extend(self.further.finish().map_err(error)?);
        columns.push(Arc::new(self.row.finish()));
        let rows = RecordBatch::try_new(schema.clone(), columns).map_err(error)?;
        let text = RecordBatch::try_new(text_schema.clone(), vec![Arc::new(self.content.finish())]).map_err(error)?;
        Ok((rows, text))
    }
}
