//! Documents as a DataFusion table: a partition a part, and no text read unless it is asked for.

use std::sync::Arc;

use async_trait::async_trait;
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
use crate::rows::read_rows;
use crate::table::{Part, Table, footer, with_content};

/// The documents of some parts: the columns of `rows/`, then `content`. Each partition is in order.
#[derive(Debug, Clone)]
pub struct DocumentsProvider {
    parts: Vec<Part>,
    schema: SchemaRef,
}

impl DocumentsProvider {
    /// All parts of a table.
    pub fn new(table: &Table) -> Self {
        Self { parts: table.parts().to_vec(), schema: table.schema() }
    }

    /// One part.
    pub fn part(part: &Part) -> Self {
        Self { parts: vec![part.clone()], schema: with_content(part.rows_schema()) }
    }
}

#[async_trait]
impl TableProvider for DocumentsProvider {
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
        let partition = |part: &Part| Arc::new(PartStream { part: part.clone(), schema: schema.clone() }) as _;
        let mut partitions: Vec<Arc<dyn PartitionStream>> = self.parts.iter().map(partition).collect();
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

/// A table of rows ([`contract::PortType::Rows`]): a partition a file.
#[derive(Debug, Clone)]
pub struct RowsProvider {
    files: Vec<InputFile>,
    schema: SchemaRef,
}

impl RowsProvider {
    /// The rows of a tree; `None` where the tree is of documents, or empty.
    ///
    /// # Errors
    /// When a footer cannot be read.
    pub fn open(tree: &InputTree) -> Result<Option<Self>, TableError> {
        match tree.files.first() {
            Some(first) if tree.files.iter().all(|file| file.path.as_str().starts_with("rows/")) => {
                let schema = footer(first)?.schema().clone();
                Ok(Some(Self { files: tree.files.clone(), schema }))
            }
            _ => Ok(None),
        }
    }
}

#[async_trait]
impl TableProvider for RowsProvider {
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
        let partition = |file: &InputFile| {
            let tree = InputTree { digest: file.digest, files: vec![file.clone()] };
            Arc::new(RowsStream { tree, schema: self.schema.clone() }) as _
        };
        let partitions = self.files.iter().map(partition).collect();
        let exec = StreamingTableExec::try_new(self.schema.clone(), partitions, projection, None, false, limit)?;
        Ok(Arc::new(exec))
    }
}

#[derive(Debug)]
struct RowsStream {
    tree: InputTree,
    schema: SchemaRef,
}

impl PartitionStream for RowsStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let external = |error| DataFusionError::External(Box::new(error));
        let batches: Vec<Result<_>> = match read_rows(&self.tree) {
            // One file of rows: its batches are small, and what they borrow does not outlive this call.
            Ok(batches) => batches.map(|batch| batch.map_err(external)).collect(),
            Err(error) => vec![Err(external(error))],
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
