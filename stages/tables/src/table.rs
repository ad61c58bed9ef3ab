//! A table of documents in the store.

use std::collections::BTreeMap;
use std::fs::File;

use contract::{InputFile, InputTree};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};

use crate::error::TableError;
use crate::format::{CONTENT, content_field, part_of, rows_path, rows_schema, text_path};

/// A table of documents.
#[derive(Debug, Clone)]
pub struct Table {
    parts: Vec<Part>,
    rows_schema: SchemaRef,
}

/// A part of a table: rows, and the text that they refer to.
#[derive(Debug, Clone)]
pub struct Part {
    /// The name, the same in both directories.
    pub name: String,
    /// The Parquet file of its rows.
    pub rows: InputFile,
    /// The Parquet file of its texts.
    pub text: InputFile,
    /// The number of its rows.
    pub row_count: u64,
    /// The columns of `rows`.
    pub(crate) rows_schema: SchemaRef,
}

impl Table {
    /// Opens the table of a tree. Reads only the footers of the `rows/` parts, no data.
    ///
    /// # Errors
    /// Returns an error if the tree is not a table: an unexpected file, an incomplete part, parts with different columns, a column of the
    /// format that is missing or of another type, or a damaged footer.
    pub fn open(tree: &InputTree) -> Result<Self, TableError> {
        let mut halves: BTreeMap<String, (Option<InputFile>, Option<InputFile>)> = BTreeMap::new();
        for file in &tree.files {
            let path = file.path.as_str();
            let (part, is_text) = part_of(path).ok_or_else(|| TableError::Foreign { path: path.to_owned() })?;
            let halves = halves.entry(part.to_owned()).or_default();
            *(if is_text { &mut halves.1 } else { &mut halves.0 }) = Some(file.clone());
        }
        let mut parts = Vec::with_capacity(halves.len());
        for (name, halves) in halves {
            let (rows, text) = match halves {
                (Some(rows), Some(text)) => (rows, text),
                (rows, _) => {
                    let missing = if rows.is_none() { rows_path(&name) } else { text_path(&name) };
                    return Err(TableError::Half { missing, part: name });
                }
            };
            let metadata = footer(&rows)?;
            let rows_schema = metadata.schema().clone();
            check(&rows_schema, &rows)?;
            parts.push(Part { name, rows, text, row_count: row_count(&metadata), rows_schema });
        }
        let rows_schema = parts.first().map_or_else(rows_schema, |part| part.rows_schema.clone());
        if let Some(part) = parts.iter().find(|part| part.rows_schema.fields() != rows_schema.fields()) {
            return Err(TableError::Columns { part: part.name.clone() });
        }
        // The part of an empty table only provides its columns.
        parts.retain(|part| part.row_count > 0);
        Ok(Self { parts, rows_schema })
    }

    /// Returns the parts that have rows, sorted by name.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Returns the number of its rows.
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.row_count).sum()
    }

    /// Returns the columns of `rows/`, including `row`.
    pub fn rows_schema(&self) -> &SchemaRef {
        &self.rows_schema
    }

    /// Returns the columns of `rows/`, then `content`.
    pub fn schema(&self) -> SchemaRef {
        with_content(&self.rows_schema)
    }

    /// Returns whether `rows/` has this column.
    pub fn has_column(&self, name: &str) -> bool {
        self.rows_schema.column_with_name(name).is_some()
    }
}

impl Part {
    /// Returns the columns of its rows.
    pub fn rows_schema(&self) -> &SchemaRef {
        &self.rows_schema
    }
}

pub(crate) fn with_content(rows: &Schema) -> SchemaRef {
    let mut fields: Vec<_> = rows.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(content_field());
    Schema::new(fields).into()
}

/// Checks the columns that the format requires.
fn check(schema: &Schema, file: &InputFile) -> Result<(), TableError> {
    let missing = |field: &Field| TableError::Column {
        file: file.path.to_string(),
        column: field.name().clone(),
        expected: field.data_type().to_string(),
    };
    for field in rows_schema().fields() {
        match schema.field_with_name(field.name()) {
            Ok(found) if found.data_type() == field.data_type() => {}
            _ => return Err(missing(field)),
        }
    }
    match schema.column_with_name(CONTENT) {
        Some(_) => Err(TableError::Foreign { path: format!("{} with a column {CONTENT}", file.path) }),
        None => Ok(()),
    }
}

/// Returns the number of rows in a footer.
pub(crate) fn row_count(footer: &ArrowReaderMetadata) -> u64 {
    u64::try_from(footer.metadata().file_metadata().num_rows()).unwrap_or_default()
}

/// Opens a file of the store.
pub(crate) fn open(file: &InputFile) -> Result<File, TableError> {
    File::open(&file.location).map_err(|error| TableError::parquet(&file.path)(error.into()))
}

/// Returns the metadata of a Parquet file.
pub(crate) fn footer(file: &InputFile) -> Result<ArrowReaderMetadata, TableError> {
    ArrowReaderMetadata::load(&open(file)?, ArrowReaderOptions::new()).map_err(TableError::parquet(&file.path))
}
