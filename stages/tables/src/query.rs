//! SQL over tables of the store, for people who look at them.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use contract::{InputTree, Resources, Result, StageError};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv;
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::{MemorySchemaProvider, TableProvider};
use datafusion::execution::context::SQLOptions;
use parquet::arrow::ArrowWriter;

use crate::error::plan_error;
use crate::format::{rows_options, write_error};
use crate::provider::FilesProvider;
use crate::session::Session;

/// The catalog and schema that DataFusion looks names up in.
const CATALOG: &str = "datafusion";

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerFormat {
    /// A table for people.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line; what is null is left out.
    Json,
    /// One Parquet file.
    Parquet,
}

/// Rows that an answer as a table shows.
pub const TABLE_ROWS: usize = 10_000;
/// Bytes of memory of these rows.
const TABLE_BYTES: usize = 64 << 20;

/// Whether an answer was written to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// All rows.
    Whole,
    /// As many as a table for people shows.
    First(usize),
}

/// Tables by name, and a session to query them.
pub struct Query {
    session: Session,
}

impl Query {
    /// With no tables yet, for such a share of the machine; `scratch` is a folder to spill into.
    ///
    /// # Errors
    /// When the threads or the spill folder cannot be made.
    pub fn new(resources: Resources, scratch: &Path) -> Result<Self> {
        Ok(Self { session: Session::standalone(resources, scratch)? })
    }

    /// Makes the table of `stage.port` known as `"stage"."port"` and as `"stage.port"`, and where `is_first` also as
    /// `"stage"`.
    ///
    /// # Errors
    /// When the tree is no table.
    pub fn register(&self, stage: &str, port: &str, is_first: bool, tree: &InputTree) -> Result<()> {
        let provider: Arc<dyn TableProvider> = Arc::new(FilesProvider::open(tree)?);
        let context = self.session.context();
        let catalog = context.catalog(CATALOG).ok_or_else(|| StageError::new("there is no catalog of tables"))?;
        let schema = match catalog.schema(stage) {
            Some(schema) => schema,
            None => {
                let schema = Arc::new(MemorySchemaProvider::new());
                catalog.register_schema(stage, schema.clone()).map_err(plan_error)?;
                schema
            }
        };
        schema.register_table(port.to_owned(), provider.clone()).map_err(plan_error)?;
        let whole = datafusion::common::TableReference::bare(format!("{stage}.{port}"));
        context.register_table(whole, provider.clone()).map_err(plan_error)?;
        if is_first {
            let name = datafusion::common::TableReference::bare(stage.to_owned());
            context.register_table(name, provider).map_err(plan_error)?;
        }
        Ok(())
    }

    /// Answers a query. Statements that would define or write anything are refused. A table for people holds its rows in
    /// memory and ends after [`TABLE_ROWS`] rows or 64 MiB; the other formats are written as rows come.
    ///
    /// # Errors
    /// What is wrong with the query, or that the answer cannot be written.
    pub fn answer(&self, sql: &str, format: AnswerFormat, out: &mut (impl Write + Send)) -> Result<Answer> {
        let mut answer = Answer::Whole;
        let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let plan = self.session.block_on(self.session.context().sql_with_options(sql, options)).map_err(plan_error)?;
        let schema: Arc<datafusion::arrow::datatypes::Schema> = Arc::new(plan.schema().as_arrow().clone());
        match format {
            AnswerFormat::Table => {
                let (mut batches, mut rows, mut bytes) = (Vec::new(), 0, 0);
                let streamed = self.session.stream(plan, |batch| {
                    let taken = batch.slice(0, batch.num_rows().min(TABLE_ROWS - rows));
                    rows += taken.num_rows();
                    bytes += batch.get_array_memory_size();
                    let cut = taken.num_rows() < batch.num_rows() || bytes > TABLE_BYTES;
                    batches.push(taken);
                    if cut {
                        answer = Answer::First(rows);
                        // Ends the stream; it is no failure.
                        return Err(StageError::Interrupted);
                    }
                    Ok(())
                });
                if answer == Answer::Whole {
                    streamed?;
                }
                if batches.is_empty() {
                    batches.push(RecordBatch::new_empty(schema));
                }
                let text = pretty_format_batches(&batches).map_err(|error| write_error(error.into()))?;
                // Rows hold what anyone wrote.
                writeln!(out, "{}", contract::printable(&text.to_string(), &[]))?;
            }
            AnswerFormat::Csv => {
                let mut writer = csv::Writer::new(&mut *out);
                // The header is there even where no row is.
                writer.write(&RecordBatch::new_empty(schema)).map_err(|error| write_error(error.into()))?;
                self.session.stream(plan, |batch| writer.write(&batch).map_err(|error| write_error(error.into())))?;
            }
            AnswerFormat::Json => {
                let mut writer = LineDelimitedWriter::new(&mut *out);
                self.session.stream(plan, |batch| writer.write(&batch).map_err(|error| write_error(error.into())))?;
                writer.finish().map_err(|error| write_error(error.into()))?;
            }
            AnswerFormat::Parquet => {
                let mut writer =
                    ArrowWriter::try_new_with_options(&mut *out, schema, rows_options()?).map_err(write_error)?;
                self.session
                    .stream(plan, |batch| writer.write(&batch).and_then(|()| writer.flush()).map_err(write_error))?;
                writer.close().map_err(write_error)?;
            }
        }
        out.flush()?;
        Ok(answer)
    }
}
