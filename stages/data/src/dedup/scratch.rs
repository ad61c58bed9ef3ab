//! The resources that every step of the stage uses: a scratch directory, memory, threads, progress and the cancel flag.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use contract::{Cancel, Context, Progress, Result, StageError};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// A scratch directory and its resources. It is cheap to clone.
#[derive(Debug, Clone)]
pub struct Scratch {
    /// The directory; no other run writes to it.
    pub folder: PathBuf,
    /// The memory that the steps share, in bytes.
    pub memory: u64,
    /// The stage's threads.
    pub pool: Arc<ThreadPool>,
    /// The stage's progress.
    pub progress: Progress,
    /// The flag that asks the stage to stop.
    pub cancel: Cancel,
}

impl Scratch {
    /// Creates an empty directory in the stage's scratch. Half of the stage's memory is for the steps; the other half is for
    /// the documents that are being read and for the system's buffers.
    ///
    /// # Errors
    /// Returns an error if the directory or the threads cannot be created.
    pub fn open(context: &Context) -> Result<Self> {
        let folder = context.scratch.join("dedup");
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StageError::io("clear the scratch directory", &error));
            }
            _ => fs::create_dir_all(&folder)?,
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(context.resources.threads.max(1))
            .build()
            .map_err(|error| StageError::new(format!("cannot start threads: {error}")))?;
        Ok(Self {
            folder,
            memory: context.resources.memory / 2,
            pool: Arc::new(pool),
            progress: context.progress.clone(),
            cancel: context.cancel.clone(),
        })
    }

    /// Creates a file of this name, open for writing and reading.
    ///
    /// # Errors
    /// Returns an error if it cannot be created.
    pub fn create(&self, name: &str) -> io::Result<File> {
        File::options().read(true).write(true).create(true).truncate(true).open(self.folder.join(name))
    }

    /// Removes the scratch files.
    ///
    /// # Errors
    /// Returns an error if one cannot be removed.
    pub fn close(self) -> io::Result<()> {
        fs::remove_dir_all(&self.folder)
    }
}
