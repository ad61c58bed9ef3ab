//! The working directory of a program: links the inputs before the program runs, and collects the outputs afterwards.
//!
//! ```text
//! in/PORT/PATH            a symbolic link to a file of the store
//! in/PORT/PART.parquet    of a table: a plain Parquet file that is shared by stages (`contract::derived`)
//! out/PORT/               the directory of an output
//! ```

use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use contract::{Context, InputTree, OutputTree, Result, StageError};

/// The format in which programs read tables, and its version. Increase it when [`tables::export_parts`] writes different bytes.
const PLAIN: &str = "parquet-1";

/// Creates a directory and its missing ancestors.
pub fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| StageError::io("create a directory", &error).in_file(folder))
}

/// Removes a directory with its content, if it exists.
pub fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StageError::io("remove a directory of an earlier run", &error).in_file(folder))
        }
        _ => Ok(()),
    }
}

/// The working directory of one run.
#[derive(Debug)]
pub struct Workspace {
    folder: PathBuf,
    inputs: Vec<Input>,
}

/// An input file, which the program must not change.
#[derive(Debug)]
struct Input {
    /// The path in the working directory.
    name: String,
    location: PathBuf,
    place: Place,
    stamp: Stamp,
}

/// The identity of a file, independent of its name.
type Place = (u64, u64);
/// The metadata that change when a file is modified.
type Stamp = (u64, i64, i64);

fn place(metadata: &Metadata) -> Place {
    (metadata.dev(), metadata.ino())
}

fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.size(), metadata.mtime(), metadata.mtime_nsec())
}

/// A file of an output.
#[derive(Debug, Clone)]
pub struct Written {
    /// The path in the output.
    pub name: String,
    /// The location on disk.
    pub location: PathBuf,
}

/// Returns the relative path of an input's directory.
pub fn input(port: &str) -> String {
    format!("in/{port}")
}

/// Returns the relative path of an output's directory.
pub fn output(port: &str) -> String {
    format!("out/{port}")
}

impl Workspace {
    /// Empties `folder`, links the inputs into it and creates a directory for each output.
    ///
    /// # Errors
    /// Returns an error if a file or directory cannot be removed or created.
    pub fn lay_out<'a>(folder: &Path, context: &Context, outputs: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        remove(folder)?;
        let mut inputs = Vec::new();
        for (port, tree) in context.inputs.iter() {
            let root = folder.join(input(port));
            let laid_out = match tables::is_table(tree) {
                true => plain(context, tree, &root)?,
                false => linked(tree, &root)?,
            };
            for (name, location) in laid_out {
                let failed = |error| StageError::io("read an input", &error).in_file(&location);
                let metadata = fs::metadata(&location).map_err(failed)?;
                inputs.push(Input { name, place: place(&metadata), stamp: stamp(&metadata), location });
            }
        }
        for port in outputs {
            make(&folder.join(output(port)))?;
        }
        Ok(Self { folder: folder.to_owned(), inputs })
    }

    /// Returns the directory in which the program runs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the files outside the directory that its links lead to.
    pub fn linked(&self) -> impl Iterator<Item = &Path> {
        let locations = self.inputs.iter().map(|input| input.location.as_path());
        locations.filter(|location| !location.starts_with(&self.folder))
    }

    /// Checks that the program did not write to an input.
    ///
    /// # Errors
    /// Returns an error if it did; the file is then damaged.
    pub fn check_inputs(&self) -> Result<()> {
        for Input { name, location, place: before, stamp: untouched } in &self.inputs {
            // The program may remove or replace links in its own directory.
            let Ok(metadata) = fs::metadata(location) else { continue };
            if place(&metadata) == *before && stamp(&metadata) != *untouched {
                return Err(StageError::new(format!("the program changed its input '{name}' in the store"))
                    .in_file(location)
                    .hint("let the program write to copies; the store detects the damaged file and rebuilds it"));
            }
        }
        Ok(())
    }

    /// Returns the files below an output's directory, sorted by path.
    ///
    /// # Errors
    /// Returns an error if there are no files, a name is not UTF-8, or an entry is neither a directory nor a regular file.
    pub fn written(&self, port: &str) -> Result<Vec<Written>> {
        let root = self.folder.join(output(port));
        let refused = |what: String| StageError::new(format!("output '{port}' {what}"));
        if !root.is_dir() || fs::symlink_metadata(&root)?.is_symlink() {
            return Err(refused("is no longer a directory".to_owned()));
        }
        let mut written = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let read = |error: io::Error| {
                let place = folder.strip_prefix(&root).unwrap_or(&folder).display();
                refused(format!("contains a directory that cannot be read, {place}: {error}"))
            };
            let entries = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            for entry in entries.map_err(read)? {
                let path = entry.path();
                let relative = path.strip_prefix(&root).unwrap_or(&path);
                let Some(name) = relative.to_str().map(str::to_owned) else {
                    return Err(refused(format!("contains '{}', whose name is not UTF-8", relative.display())));
                };
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() {
                    written.push(Written { name, location: path });
                } else {
                    let what = describe(kind);
                    return Err(refused(format!("contains '{}', which is {what}", name.escape_debug()))
                        .hint("an output may contain only directories and regular files"));
                }
            }
        }
        if written.is_empty() {
            return Err(refused("is empty".to_owned())
                .hint(format!("the program must write at least one file below {{output:{port}}}")));
        }
        written.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(written)
    }

    /// Adds the files of an output, unchanged.
    ///
    /// # Errors
    /// Returns an error if a file has an unsafe name or cannot be moved.
    pub fn take(&self, port: &str, written: &[Written], tree: &OutputTree) -> Result<()> {
        for Written { name, location } in written {
            let metadata = fs::symlink_metadata(location)?;
            tree.adopt(name, &self.alone(location, &metadata)?).map_err(|error| {
                StageError::new(format!("output '{port}' contains a file that cannot be stored: {error}"))
            })?;
        }
        Ok(())
    }

    /// Returns the file itself, or a copy if it has a second hard link, through which it could be changed.
    fn alone(&self, path: &Path, metadata: &Metadata) -> Result<PathBuf> {
        if metadata.nlink() == 1 {
            return Ok(path.to_owned());
        }
        let copy = self.folder.join("copy");
        fs::copy(path, &copy)?;
        Ok(copy)
    }
}

/// Links the files of a tree; returns the name and the location of each file.
fn linked(tree: &InputTree, root: &Path) -> Result<Vec<(String, PathBuf)>> {
    make(root)?;
    let link = |file: &contract::InputFile| {
        let link = file.path.below(root);
        link.parent().map(make).transpose()?;
        let laid_out = std::path::absolute(&file.location).and_then(|location| symlink(location, &link));
        laid_out.map_err(|error| StageError::io("link an input", &error).in_file(&file.location))?;
        Ok((file.path.to_string(), file.location.clone()))
    };
    tree.files.iter().map(link).collect()
}

/// Links the plain Parquet files of a table; returns the name and the location of each.
fn plain(context: &Context, tree: &InputTree, root: &Path) -> Result<Vec<(String, PathBuf)>> {
    root.parent().map(make).transpose()?;
    let write = |folder: &Path| tables::export_parts(context, tree, folder);
    context.derived.provide(tree.digest, PLAIN, root, &context.cancel, write)?;
    let entries = fs::read_dir(root)?.collect::<io::Result<Vec<_>>>()?;
    let file = |entry: &fs::DirEntry| (entry.file_name().to_string_lossy().into_owned(), entry.path());
    Ok(entries.iter().map(file).collect())
}

fn describe(kind: FileType) -> &'static str {
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}
