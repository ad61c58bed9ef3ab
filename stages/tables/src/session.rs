//! DataFusion sessions within the resources of a stage.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use contract::{Cancel, Context, Resources, Result, StageError};
use datafusion::arrow::array::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SessionContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionConfig;
use futures::StreamExt;
use tokio::runtime::{Builder, Runtime};

use crate::error::plan_error;
use crate::provider::FilesProvider;
use crate::table::{Part, Table};

/// A session whose plans use the stage's threads and memory and spill into its scratch directory.
pub struct Session {
    context: SessionContext,
    runtime: Runtime,
    cancel: Cancel,
}

impl Session {
    /// Creates a session for plans over all parts, with as many partitions and open parts as the stage has threads. The
    /// rows of a plan over several partitions have a defined order only after a sort.
    ///
    /// # Errors
    /// Returns an error if the spill directory or the threads cannot be created.
    pub fn new(context: &Context) -> Result<Self> {
        let threads = context.resources.threads.max(1);
        let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
        Self::with(context.cancel.clone(), threads, memory(context)?, runtime)
    }

    /// Creates a session for queries outside a stage, with these resources and a directory to spill into.
    ///
    /// # Errors
    /// Returns an error if the spill directory or the threads cannot be created.
    pub(crate) fn standalone(resources: Resources, scratch: &Path) -> Result<Self> {
        let threads = resources.threads.max(1);
        let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
        // A row may contain a whole file, and a query may combine all rows with all others.
        let config = config(threads).with_batch_size(512);
        Self::of(Cancel::default(), config, memory_in(scratch, resources.memory)?, runtime)
    }

    /// Creates a session for plans over one part on the caller's thread: one partition, so that rows stay in order.
    pub(crate) fn sequential(context: &Context, memory: Arc<RuntimeEnv>) -> Result<Self> {
        Self::with(context.cancel.clone(), 1, memory, Builder::new_current_thread().enable_all().build()?)
    }

    fn with(cancel: Cancel, partitions: usize, memory: Arc<RuntimeEnv>, runtime: Runtime) -> Result<Self> {
        Self::of(cancel, config(partitions), memory, runtime)
    }

    fn of(cancel: Cancel, config: SessionConfig, memory: Arc<RuntimeEnv>, runtime: Runtime) -> Result<Self> {
        let state =
            SessionStateBuilder::new().with_config(config).with_runtime_env(memory).with_default_features().build();
        Ok(Self { context: SessionContext::new_with_state(state), runtime, cancel })
    }

    /// Returns DataFusion's own session, to register functions and tables and to plan SQL.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// Returns all documents of a table.
    ///
    /// # Errors
    /// Returns an error if DataFusion rejects the table.
    pub fn documents(&self, table: &Table) -> Result<DataFrame> {
        self.context.read_table(Arc::new(FilesProvider::documents(table))).map_err(plan_error)
    }

    /// Returns the documents of one part.
    ///
    /// # Errors
    /// Returns an error if DataFusion rejects the table.
    pub fn part(&self, part: &Part) -> Result<DataFrame> {
        self.context.read_table(Arc::new(FilesProvider::part(part))).map_err(plan_error)
    }

    /// Blocks until a DataFusion future is ready.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Runs a plan and calls `each` with its batches as they arrive.
    ///
    /// # Errors
    /// Returns an error of the plan or of `each`, or an error if the stage was asked to stop.
    pub fn stream(&self, plan: DataFrame, mut each: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        self.runtime.block_on(async {
            let mut batches = plan.execute_stream().await.map_err(plan_error)?;
            while let Some(batch) = batches.next().await {
                self.cancel.check()?;
                each(batch.map_err(plan_error)?)?;
            }
            self.cancel.check()
        })
    }

    /// Runs a plan whose result is small.
    ///
    /// # Errors
    /// See [`Session::stream`].
    pub fn collect(&self, plan: DataFrame) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        self.stream(plan, |batch| {
            batches.push(batch);
            Ok(())
        })?;
        Ok(batches)
    }
}

fn config(partitions: usize) -> SessionConfig {
    // The reader already limits batches to several megabytes of text; DataFusion must not combine them.
    SessionConfig::new().with_target_partitions(partitions).with_coalesce_batches(false).with_information_schema(false)
}

/// Creates the stage's memory pool and spill directory, shared by its sessions.
pub(crate) fn memory(context: &Context) -> Result<Arc<RuntimeEnv>> {
    memory_in(&context.scratch, context.resources.memory)
}

fn memory_in(scratch: &Path, bytes: u64) -> Result<Arc<RuntimeEnv>> {
    let spill = scratch.join("spill");
    fs::create_dir_all(&spill)?;
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(bytes)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![spill])))
        .build_arc()
        .map_err(|error| StageError::new(error.to_string()))
}
