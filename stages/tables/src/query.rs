//! SQL queries over tables of the store, for interactive use.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use contract::{InputTree, Resources, Result, StageError, printable};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::{MemorySchemaProvider, TableProvider};
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::sql::sqlparser::parser::ParserError;
use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;

use crate::error::plan_error;
use crate::format::rows_options;
use crate::provider::FilesProvider;
use crate::session::Session;

/// The catalog and schema in which DataFusion looks up names.
const CATALOG: &str = "datafusion";
const SCHEMA: &str = "public";

/// The output format of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerFormat {
    /// A text table.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object per line, without null values.
    Json,
    /// One Parquet file.
    Parquet,
}

/// The maximum number of rows that a text table shows.
pub const TABLE_ROWS: usize = 10_000;
/// The maximum memory of the rows of a text table, in bytes.
const TABLE_BYTES: usize = 64 << 20;

/// Whether a result was written completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// All rows.
    Whole,
    /// Only the rows that a text table shows.
    First(usize),
}

/// The reason that a query failed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No table has this name.
    #[error("unknown table '{0}'")]
    UnknownTable(String),
    /// The query is invalid or not allowed.
    #[error("{0}")]
    Invalid(String),
    /// The result cannot be written.
    #[error("{0}")]
    Output(io::Error),
    /// The tables cannot be read, or the machine lacks resources.
    #[error("{0}")]
    Failed(StageError),
}

impl From<DataFusionError> for QueryError {
    /// Classifies an error: the query is invalid, unless the error is caused by reading or by the machine.
    fn from(error: DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::IoError(_)
            | DataFusionError::ObjectStore(_)
            | DataFusionError::ParquetError(_)
            | DataFusionError::External(_)
            | DataFusionError::ExecutionJoin(_)
            | DataFusionError::ResourcesExhausted(_)
            | DataFusionError::Internal(_) => Self::Failed(plan_error(error)),
            DataFusionError::ArrowError(arrow, _) if matches!(**arrow, ArrowError::IoError(..)) => {
                Self::Failed(plan_error(error))
            }
            root => Self::Invalid(plain(root)),
        }
    }
}

/// Returns the message of an error without DataFusion's names of error kinds and without the catalog name.
fn plain(error: &DataFusionError) -> String {
    let text = match error {
        DataFusionError::SQL(error, _) => match &**error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.clone(),
            ParserError::RecursionLimitExceeded => "it is nested too deeply".to_owned(),
        },
        DataFusionError::Plan(text) | DataFusionError::NotImplemented(text) | DataFusionError::Execution(text) => {
            text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default().to_owned()
        }
        DataFusionError::ArrowError(error, _) => error.to_string(),
        other => other.strip_backtrace(),
    };
    text.replace(&format!("{CATALOG}.{SCHEMA}."), "")
}

/// Writes the result and keeps the first write error, because the format writers return only its text.
struct Output<W> {
    out: W,
    failed: Option<io::Error>,
}

impl<W: Write> Output<W> {
    fn kept<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        done.map_err(|error| {
            let kind = error.kind();
            // An interrupted write is retried, so it is not a failure.
            if kind != io::ErrorKind::Interrupted {
                self.failed.get_or_insert(error);
            }
            kind.into()
        })
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.out.write(bytes);
        self.kept(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.out.flush();
        self.kept(done)
    }
}

/// Tables by name, and a session to query them.
pub struct Query {
    session: Session,
}

impl Query {
    /// Creates a session without tables, with these resources; `scratch` is a directory to spill into.
    ///
    /// # Errors
    /// Returns an error if the threads or the spill directory cannot be created.
    pub fn new(resources: Resources, scratch: &Path) -> Result<Self> {
        Ok(Self { session: Session::standalone(resources, scratch)? })
    }

    /// Registers the table of `stage.port` as `"stage"."port"` and as `"stage.port"`, and if `is_first` also as
    /// `"stage"`.
    ///
    /// # Errors
    /// Returns an error if the tree is not a table.
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

    /// Runs a query. Statements that would define or write anything are rejected. A text table keeps its rows in
    /// memory and ends after [`TABLE_ROWS`] rows or 64 MiB; the other formats are written as rows arrive.
    ///
    /// # Errors
    /// Returns an error if the query is invalid, the tables cannot be read, or the result cannot be written.
    pub fn answer(
        &self,
        sql: &str,
        format: AnswerFormat,
        out: &mut (impl Write + Send),
    ) -> std::result::Result<Answer, QueryError> {
        let plan = self.session.block_on(self.plan(sql))?;
        let mut output = Output { out, failed: None };
        let answered = self.write(plan, format, &mut output);
        match output.failed {
            Some(error) => Err(QueryError::Output(error)),
            None => answered,
        }
    }

    /// Plans a query that only reads.
    async fn plan(&self, sql: &str) -> std::result::Result<DataFrame, QueryError> {
        let context = self.session.context();
        let state = context.state();
        let statement = state.sql_to_statement(sql, &state.config().options().sql_parser.dialect);
        let statement = statement.map_err(|error| match error.find_root() {
            DataFusionError::NotImplemented(_) => QueryError::Invalid("only one query can be run at a time".to_owned()),
            DataFusionError::Plan(_) => QueryError::Invalid("the query is empty".to_owned()),
            _ => error.into(),
        })?;
        let tables = state.resolve_table_references(&statement)?;
        let plan = state.statement_to_plan(statement).await.map_err(|error| {
            let unknown = tables.into_iter().find(|table| !context.table_exist(table.clone()).unwrap_or(false));
            match (error.find_root(), unknown) {
                (DataFusionError::Plan(_), Some(table)) => QueryError::UnknownTable(table.to_string()),
                _ => error.into(),
            }
        })?;
        let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        options.verify_plan(&plan)?;
        Ok(context.execute_logical_plan(plan).await?)
    }

    /// Runs a plan and calls `each` with its batches until there are no more or it returns false.
    fn stream(
        &self,
        plan: DataFrame,
        mut each: impl FnMut(RecordBatch) -> std::result::Result<bool, QueryError>,
    ) -> std::result::Result<(), QueryError> {
        self.session.block_on(async {
            let mut batches = plan.execute_stream().await?;
            while let Some(batch) = batches.next().await {
                if !each(batch?)? {
                    break;
                }
            }
            Ok(())
        })
    }

    fn write(
        &self,
        plan: DataFrame,
        format: AnswerFormat,
        out: &mut (impl Write + Send),
    ) -> std::result::Result<Answer, QueryError> {
        let mut answer = Answer::Whole;
        let schema: Arc<datafusion::arrow::datatypes::Schema> = Arc::new(plan.schema().as_arrow().clone());
        let arrow = |error: ArrowError| QueryError::from(DataFusionError::from(error));
        let parquet = |error: ParquetError| QueryError::from(DataFusionError::from(error));
        match format {
            AnswerFormat::Table => {
                let (mut batches, mut rows, mut bytes) = (Vec::new(), 0, 0);
                self.stream(plan, |batch| {
                    let taken = batch.slice(0, batch.num_rows().min(TABLE_ROWS - rows));
                    rows += taken.num_rows();
                    bytes += batch.get_array_memory_size();
                    let cut = taken.num_rows() < batch.num_rows() || bytes > TABLE_BYTES;
                    batches.push(taken);
                    if cut {
                        answer = Answer::First(rows);
                    }
                    Ok(!cut)
                })?;
                if batches.is_empty() {
                    batches.push(RecordBatch::new_empty(schema));
                }
                let text = pretty_format_batches(&batches).map_err(arrow)?;
                // Rows contain untrusted text.
                writeln!(out, "{}", printable(&text.to_string(), &[])).map_err(QueryError::Output)?;
            }
            AnswerFormat::Csv => {
                let mut writer = csv::Writer::new(&mut *out);
                // The header is written even if there are no rows.
                writer.write(&RecordBatch::new_empty(schema)).map_err(arrow)?;
                self.stream(plan, |batch| writer.write(&batch).map(|()| true).map_err(arrow))?;
            }
            AnswerFormat::Json => {
                let mut writer = LineDelimitedWriter::new(&mut *out);
                self.stream(plan, |batch| writer.write(&batch).map(|()| true).map_err(arrow))?;
                writer.finish().map_err(arrow)?;
            }
            AnswerFormat::Parquet => {
                let options = rows_options().map_err(QueryError::Failed)?;
                let mut writer = ArrowWriter::try_new_with_options(&mut *out, schema, options).map_err(parquet)?;
                self.stream(plan, |batch| {
                    writer.write(&batch).and_then(|()| writer.flush()).map(|()| true).map_err(parquet)
                })?;
                writer.close().map_err(parquet)?;
            }
        }
        out.flush().map_err(QueryError::Output)?;
        Ok(answer)
    }
}
