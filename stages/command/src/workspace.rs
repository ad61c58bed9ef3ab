//! The working directory of a program: inputs laid out before it runs, outputs taken after.
//!
//! ```text
//! in/PORT/PATH     a symbolic link to a file of the store
//! out/PORT/        where the program writes
//! ```

use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use contract::{Context, InputFile, OutputTree, Result, StageError};

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| StageError::io("make a folder", &error).in_file(folder))
}

/// The working directory of one run.
#[derive(Debug)]
pub struct Workspace {
    folder: PathBuf,
    inputs: Vec<(InputFile, Stamp)>,
}

/// What changes when a file is written to.
type Stamp = (u64, i64, i64);

fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.size(), metadata.mtime(), metadata.mtime_nsec())
}

/// The relative path of an input's folder.
pub fn input(port: &str) -> String {
    format!("in/{port}")
}

/// The relative path of an output's folder.
pub fn output(port: &str) -> String {
    format!("out/{port}")
}

impl Workspace {
    /// Empties `folder` and lays out the inputs and a folder for each output.
    ///
    /// # Errors
    /// When a file or folder cannot be removed or made.
    pub fn lay_out<'a>(folder: &Path, context: &Context, outputs: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StageError::io("empty the working directory", &error).in_file(folder));
            }
            _ => {}
        }
        let mut inputs = Vec::new();
        for (port, tree) in context.inputs.iter() {
            let root = folder.join(input(port));
            make(&root)?;
            for file in &tree.files {
                let link = file.path.below(&root);
                link.parent().map(make).transpose()?;
                let laid_out = std::path::absolute(&file.location).and_then(|location| symlink(location, &link));
                let laid_out = laid_out.and_then(|()| fs::metadata(&file.location));
                let failed = |error| StageError::io("lay out an input", &error).in_file(&file.location);
                inputs.push((file.clone(), stamp(&laid_out.map_err(failed)?)));
            }
        }
        for port in outputs {
            make(&folder.join(output(port)))?;
        }
        Ok(Self { folder: folder.to_owned(), inputs })
    }

    /// Where the program runs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Looks whether the program wrote to an input.
    ///
    /// # Errors
    /// When it did: the store is then damaged.
    pub fn check_inputs(&self) -> Result<()> {
        for (file, before) in &self.inputs {
            if stamp(&fs::metadata(&file.location)?) != *before {
                return Err(StageError::new(format!("the program changed its input '{}' in the store", file.path))
                    .in_file(&file.location)
                    .hint("let it write to copies; the store finds the damaged file and rebuilds it"));
            }
        }
        Ok(())
    }

    /// Takes every file below an output's folder.
    ///
    /// # Errors
    /// When there is none, one has an unsafe name, or one is neither a folder nor a regular file.
    pub fn take(&self, port: &str, tree: &OutputTree) -> Result<()> {
        let root = self.folder.join(output(port));
        let refused = |what: String| StageError::new(format!("output '{port}' {what}"));
        if !root.is_dir() || fs::symlink_metadata(&root)?.is_symlink() {
            return Err(refused("is no folder any more".to_owned()));
        }
        let mut taken = 0;
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let read = |error: io::Error| {
                let place = folder.strip_prefix(&root).unwrap_or(&folder).display();
                refused(format!("holds a folder that cannot be read, {place}: {error}"))
            };
            let entries = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            let mut entries = entries.map_err(read)?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let path = entry.path();
                let relative = path.strip_prefix(&root).unwrap_or(&path);
                let Some(name) = relative.to_str() else {
                    return Err(refused(format!("holds '{}', whose name is not UTF-8", relative.display())));
                };
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() {
                    tree.adopt(name, &self.alone(&path, &entry.metadata()?)?)
                        .map_err(|error| refused(format!("holds a file that cannot be kept: {error}")))?;
                    taken += 1;
                } else {
                    let what = describe(kind);
                    return Err(refused(format!("holds '{}', which is {what}", name.escape_debug()))
                        .hint("an output holds folders and regular files only"));
                }
            }
        }
        if taken == 0 {
            return Err(refused("is empty".to_owned())
                .hint(format!("the program must write at least one file below {{output:{port}}}")));
        }
        Ok(())
    }

    /// The file itself, or a copy of it where it has a second name somewhere, through which it could be changed.
    fn alone(&self, path: &Path, metadata: &Metadata) -> Result<PathBuf> {
        if metadata.nlink() == 1 {
            return Ok(path.to_owned());
        }
        let copy = self.folder.join("copy");
        fs::copy(path, &copy)?;
        Ok(copy)
    }
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
