//! What every step of the stage works with: a folder for scratch files, memory, threads, progress, and the flag to stop.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use contract::{Cancel, Context, Progress, Result, StageError};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Workshop {
    /// Holds files of this run alone.
    pub folder: PathBuf,
    /// Bytes that the steps share.
    pub memory: u64,
    /// The stage's threads.
    pub pool: Arc<ThreadPool>,
    /// How far the stage is.
    pub progress: Progress,
    /// Whether it shall stop.
    pub cancel: Cancel,
}

impl Workshop {
    /// In a folder of the stage's scratch, emptied. Half of the stage's memory is for the steps; the other half is for
    /// the documents that are being read and for the system's buffers.
    ///
    /// # Errors
    /// When the folder or the threads cannot be made.
    pub fn open(context: &Context) -> Result<Self> {
        let folder = context.scratch.join("dedup");
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StageError::io("empty the scratch", &error));
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

    /// A new file of that name, to write and to read.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(&self, name: &str) -> io::Result<File> {
        File::options().read(true).write(true).create(true).truncate(true).open(self.folder.join(name))
    }

    /// Removes the scratch files.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn close(self) -> io::Result<()> {
        fs::remove_dir_all(&self.folder)
    }
}
