//! The output ports of a running stage.
//!
//! Files are hashed while they are written, into a staging directory that the engine empties before each run; the
//! engine then moves them into the store. All methods take `&self` and may be called from any thread: the order of
//! calls does not affect the tree.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::context::InputFile;
use crate::digest::{Digest, HashingWriter};
use crate::error::{Result, StageError};
use crate::tree::{Tree, TreeEntry, TreePath};

/// The trees that a stage wrote, by port, with the location of each file.
pub type Staged = BTreeMap<String, (Tree, Vec<(TreeEntry, PathBuf)>)>;

/// The output ports of a running stage.
#[derive(Debug)]
pub struct Outputs(BTreeMap<String, OutputTree>);

/// One output port of a running stage.
#[derive(Debug)]
pub struct OutputTree {
    folder: PathBuf,
    next: AtomicU64,
    files: Mutex<Vec<(TreeEntry, PathBuf)>>,
}

/// A file being written to an output port. It is part of the tree once [`OutputFile::finish`] returns.
#[derive(Debug)]
pub struct OutputFile<'a> {
    tree: &'a OutputTree,
    path: TreePath,
    location: PathBuf,
    writer: BufWriter<HashingWriter<File>>,
}

impl Outputs {
    /// Creates a staging directory for each of these ports below `staging`, which must be empty or absent.
    ///
    /// # Errors
    /// Returns an error if a directory cannot be created.
    pub fn stage(staging: &Path, ports: impl IntoIterator<Item = String>) -> io::Result<Self> {
        let tree = |port: String| {
            let folder = staging.join(&port);
            fs::create_dir_all(&folder)?;
            Ok((port, OutputTree { folder, next: AtomicU64::new(0), files: Mutex::default() }))
        };
        ports.into_iter().map(tree).collect::<io::Result<_>>().map(Self)
    }

    /// Returns the output port of that name.
    ///
    /// # Errors
    /// Returns an error if the kind declares no such port.
    pub fn tree(&self, port: &str) -> Result<&OutputTree> {
        self.0.get(port).ok_or_else(|| StageError::new(format!("the stage kind declares no output '{port}'")))
    }

    /// Finishes all ports. Returns for each port its tree and the path of each of its files, including files that are
    /// already in the store ([`OutputTree::link`]).
    ///
    /// # Errors
    /// Returns an error if two files of one port share a path.
    pub fn finish(self) -> Result<Staged> {
        let finish = |(port, tree): (String, OutputTree)| {
            let files = tree.files.into_inner().unwrap_or_else(PoisonError::into_inner);
            let entries = files.iter().map(|(entry, _)| entry.clone()).collect();
            let tree = Tree::new(entries).map_err(|error| StageError::new(format!("output '{port}': {error}")))?;
            Ok((port, (tree, files)))
        };
        self.0.into_iter().map(finish).collect()
    }
}

impl OutputTree {
    /// Creates a file.
    ///
    /// # Errors
    /// Returns an error if the path is not a safe relative one or the file cannot be created.
    pub fn create(&self, path: &str) -> Result<OutputFile<'_>> {
        let path: TreePath = path.parse().map_err(|error| StageError::new(format!("{error}")))?;
        let location = self.fresh();
        let file = File::create_new(&location).map_err(|error| StageError::io(format!("create {path}"), &error))?;
        Ok(OutputFile {
            tree: self,
            path,
            location,
            writer: BufWriter::with_capacity(1 << 16, HashingWriter::new(file)),
        })
    }

    /// Writes a whole file.
    ///
    /// # Errors
    /// See [`OutputTree::create`]; returns an error if the bytes cannot be written.
    pub fn write(&self, path: &str, content: &[u8]) -> Result<()> {
        let mut file = self.create(path)?;
        file.write_all(content)?;
        file.finish().map(drop)
    }

    /// Writes a value as indented JSON with a final newline. Maps must be sorted (`BTreeMap`) for equal bytes.
    ///
    /// # Errors
    /// See [`OutputTree::write`].
    pub fn write_json(&self, path: &str, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string_pretty(value).map_err(|error| StageError::new(error.to_string()))?;
        text.push('\n');
        self.write(path, text.as_bytes())
    }

    /// Adds a file of an input tree unchanged, without copying it.
    ///
    /// # Errors
    /// Returns an error if the path is not a safe relative one.
    pub fn link(&self, path: &str, file: &InputFile) -> Result<()> {
        let path = path.parse().map_err(|error| StageError::new(format!("{error}")))?;
        self.add(TreeEntry { path, digest: file.digest, size: file.size }, file.location.clone());
        Ok(())
    }

    /// Moves a finished file from the scratch directory into the tree, and hashes it.
    ///
    /// # Errors
    /// Returns an error if the path is not a safe relative one, or the file cannot be read or moved.
    pub fn adopt(&self, path: &str, file: &Path) -> Result<()> {
        let path: TreePath = path.parse().map_err(|error| StageError::new(format!("{error}")))?;
        let digest = Digest::of_file(file)?;
        let size = fs::metadata(file)?.len();
        File::open(file)?.sync_all()?;
        let location = self.fresh();
        fs::rename(file, &location)?;
        self.add(TreeEntry { path, digest, size }, location);
        Ok(())
    }

    /// Returns whether no file of the tree is finished.
    pub fn is_empty(&self) -> bool {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn fresh(&self) -> PathBuf {
        self.folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn add(&self, entry: TreeEntry, location: PathBuf) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).push((entry, location));
    }
}

impl OutputFile<'_> {
    /// Writes a value as a line of JSON.
    ///
    /// # Errors
    /// Returns an error if it has no JSON form or the file cannot be written.
    pub fn write_json_line(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut *self, value).map_err(|error| match error.io_error_kind() {
            Some(kind) => StageError::io("write", &io::Error::from(kind)),
            None => StageError::new(error.to_string()),
        })?;
        Ok(self.write_all(b"\n")?)
    }

    /// Finishes the file. Returns its digest and its size in bytes.
    ///
    /// # Errors
    /// Returns an error if the last bytes cannot be written or synced to disk.
    pub fn finish(self) -> Result<(Digest, u64)> {
        let writer = self.writer.into_inner().map_err(|error| error.into_error())?;
        let (file, digest, size) = writer.finish();
        file.sync_all()?;
        self.tree.add(TreeEntry { path: self.path, digest, size }, self.location);
        Ok((digest, size))
    }
}

impl Write for OutputFile<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.writer.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
