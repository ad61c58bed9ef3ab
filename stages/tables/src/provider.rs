//! The tables of the store as DataFusion tables: a partition a part, and no text read unless it is asked for.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::stream;

use contract::{InputFile, InputTree};

use crate::error::TableError;
use crate::rows::read_file;
use crate::table::{Part, Table, footer, with_content};

/// The files of a table. Each partition is in order.
#[derive(Debug, Clone)]
pub struct FilesProvider {
    files: Files,
    schema: SchemaRef,
}

#[derive(Debug, Clone)]
enum Files {
    /// Documents: the columns of `rows/`, then `content`.
    Documents(Vec<Part>),
    /// Rows ([`contract::PortType::Rows`]).
    Rows(Vec<InputFile>),
}

impl FilesProvider {
    /// All documents of a table.
    pub fn documents(table: &Table) -> Self {
        Self { files: Files::Documents(table.parts().to_vec()), schema: table.schema() }
    }

    /// The documents of one part.
    pub fn part(part: &Part) -> Self {
        Self { files: Files::Documents(vec![part.clone()]), schema: with_content(part.rows_schema()) }
    }

    /// The table that a tree holds, of documents or of rows.
    ///
    /// # Errors
    /// When the tree is no table, or a footer cannot be read.
    pub fn open(tree: &InputTree) -> std::result::Result<Self, TableError> {
        match tree.files.first() {
            Some(first) if tree.files.iter().all(|file| file.path.as_str().starts_with("rows/")) => {
                let schema = footer(first)?.schema().clone();
                Ok(Self { files: Files::Rows(tree.files.clone()), schema })
            }
            _ => Ok(Self::documents(&Table::open(tree)?)),
        }
    }
}

#[async_trait]
impl TableProvider for FilesProvider {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema: SchemaRef = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => self.schema.clone(),
        };
        let mut partitions: Vec<Arc<dyn PartitionStream>> = match &self.files {
            Files::Documents(parts) => {
                let partition = |part: &Part| Arc::new(PartStream { part: part.clone(), schema: schema.clone() }) as _;
                parts.iter().map(partition).collect()
            }
            Files::Rows(files) => {
                let columns = projection.cloned();
                let partition = |file: &InputFile| {
                    let (file, columns) = (file.clone(), columns.clone());
                    Arc::new(RowsStream { file, columns, schema: schema.clone() }) as _
                };
                files.iter().map(partition).collect()
            }
        };
        if partitions.is_empty() {
            partitions.push(Arc::new(NoRows(schema.clone())));
        }
        Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, None, None, false, limit)?))
    }
}

#[derive(Debug)]
struct PartStream {
    part: Part,
    schema: SchemaRef,
}

impl PartitionStream for PartStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let names: Vec<_> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let external = |error| DataFusionError::External(Box::new(error));
        let batches: Box<dyn Iterator<Item = Result<_>> + Send> = match self.part.read(&names) {
            Ok(documents) => Box::new(documents.map(move |batch| batch.map_err(external))),
            Err(error) => Box::new(std::iter::once(Err(external(error)))),
        };
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), stream::iter(batches)))
    }
}

/// A file of rows; the columns are taken out of each batch.
#[derive(Debug)]
struct RowsStream {
    file: InputFile,
    columns: Option<Vec<usize>>,
    schema: SchemaRef,
}

impl PartitionStream for RowsStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let external = |error| DataFusionError::External(Box::new(error));
        let columns = self.columns.clone();
        let project = move |batch: RecordBatch| match &columns {
            Some(columns) => Ok(batch.project(columns)?),
            None => Ok(batch),
        };
        let batches: Box<dyn Iterator<Item = Result<_>> + Send> = match read_file(&self.file) {
            Ok(batches) => Box::new(batches.map(move |batch| batch.map_err(external).and_then(&project))),
            Err(error) => Box::new(std::iter::once(Err(external(error)))),
        };
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), stream::iter(batches)))
    }
}

#[derive(Debug)]
struct NoRows(Arc<Schema>);

impl PartitionStream for NoRows {
    fn schema(&self) -> &SchemaRef {
        &self.0
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        Box::pin(RecordBatchStreamAdapter::new(self.0.clone(), stream::empty()))
    }
}
