//! Errors and damage of a store. Messages are lowercase fragments; [`StoreError::hint`] returns the hint.

use std::io;
use std::path::{Path, PathBuf};

use contract::Digest;
use contract::figures;

/// The format that this program reads and writes: the content of the `version` file.
pub const FORMAT: u32 = 2;

/// The result of store code.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The reason that the store cannot do what was requested.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system returned an error.
    #[error("cannot {attempt} {}: {source}", path.display())]
    Io {
        /// The attempted action: "read", "write", "lock".
        attempt: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file outside the store cannot be read, or is not a regular file.
    #[error("cannot read {}: {source}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The path given as the store is a file.
    #[error("{} is a file, not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// The directory given as the store has other contents.
    #[error("{} is not a store: it holds other files", .0.display())]
    NotAStore(PathBuf),
    /// The store has a format that this program does not know.
    #[error("{} has store format {found}, this program supports {}", path.display(), FORMAT)]
    Format {
        /// The store.
        path: PathBuf,
        /// The content of its `version` file.
        found: String,
    },
    /// The run name belongs to another manifest.
    #[error("run '{run}' belongs to {}", manifest.display())]
    Owned {
        /// The name.
        run: String,
        /// Its owner.
        manifest: PathBuf,
    },
    /// The file that names the owner of a run name cannot be read.
    #[error("cannot determine the owner of run '{run}': cannot read {}: {source}", path.display())]
    OwnerUnknown {
        /// The name.
        run: String,
        /// The file.
        path: PathBuf,
        /// The problem with it.
        source: io::Error,
    },
    /// The store was opened read-only.
    #[error("the store is open read-only")]
    ReadOnly,
    /// Stages must be built, and the store cannot be written.
    #[error("cannot build {}: {because}", .stages.join(", "))]
    Unbuildable {
        /// The stages that are not cached.
        stages: Vec<String>,
        /// The reason that it cannot be written.
        because: Box<StoreError>,
    },
    /// An object of the store is damaged or missing.
    #[error("{0}")]
    Damaged(Damage),
    /// Objects are damaged, so it is unknown which blobs are needed, and nothing may be removed.
    #[error("cannot determine what is needed: {} in the store: {}", count(.0.len()), list(.0))]
    Unaccountable(Vec<Damage>),
    /// A stage's output cannot be adopted.
    #[error("output {path} of port '{port}' is {problem}")]
    Output {
        /// The output port.
        port: String,
        /// The file in the tree.
        path: String,
        /// The problem.
        problem: &'static str,
    },
    /// A run, stage or port name that is not safe as a file name.
    #[error("'{}' cannot be a file name", .0.escape_debug())]
    Name(String),
    /// An external file that kept changing while it was read.
    #[error("{} changed while it was read", .0.display())]
    Changing(PathBuf),
    /// Cancelled while hashing or waiting.
    #[error("interrupted")]
    Interrupted,
}

impl StoreError {
    pub(crate) fn io(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { attempt, path, source }
    }

    pub(super) fn source(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Source { path, source }
    }

    /// Returns whether the store or its file system is the cause (exit code 4), rather than an external file, a stage or a request to stop.
    pub const fn is_store_failure(&self) -> bool {
        !matches!(
            self,
            Self::Owned { .. } | Self::Source { .. } | Self::Output { .. } | Self::Changing(_) | Self::Interrupted
        )
    }

    /// Returns whether the file system or its permissions do not allow writing.
    pub fn is_write_denied(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem))
    }

    /// Returns the hint.
    pub fn hint(&self) -> Option<&'static str> {
        use io::ErrorKind;
        const MISPLACED: &str = "something else is in its place: `pipeline cache verify --repair` moves it aside";
        match self {
            Self::Io { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(
                    "the disk is full: free some space (pipeline cache gc --scratch), or put the store elsewhere with --cache DIR",
                ),
                ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                    Some("choose a directory that you may write to with --cache DIR")
                }
                ErrorKind::CrossesDevices => {
                    Some("all directories of a store must be on one file system: no links or mounts inside it")
                }
                ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => Some(MISPLACED),
                ErrorKind::Unsupported => Some("the store needs a file system with locks: choose one with --cache DIR"),
                _ => is_link(source).then_some(MISPLACED),
            },
            Self::Owned { .. } => Some(
                "give this run another name with --as NAME, or `name` in [run]; --adopt takes the name over, as after a move of \
                 the project",
            ),
            Self::OwnerUnknown { .. } => Some(
                "make the file readable; if it is damaged, `pipeline run --adopt` rewrites it for the manifest of that run",
            ),
            Self::Unbuildable { because, .. } => because.hint(),
            Self::Source { .. } => Some("make it a readable file, or leave it out of the pattern"),
            Self::NotADirectory(_) | Self::NotAStore(_) => Some("choose a new or empty directory with --cache DIR"),
            Self::Format { .. } => Some("use the program that wrote it, or another directory with --cache DIR"),
            Self::Damaged(_) => Some("run again: damaged objects are moved aside and rebuilt"),
            Self::Unaccountable(_) => {
                Some("run `pipeline cache verify --repair` first; the next run rebuilds what it needs")
            }
            Self::Name(_) => Some("use letters, digits, '.', '_' and '-', beginning with a letter or digit"),
            Self::Changing(_) => Some("wait until nothing writes to it any more, then run again"),
            Self::ReadOnly | Self::Output { .. } | Self::Interrupted => None,
        }
    }
}

/// Returns whether opening failed because the path is a symbolic link.
pub(super) fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::ELOOP)
}

fn count(objects: usize) -> String {
    format!("{} {} damaged", figures::counted(objects as u64, "object"), if objects == 1 { "is" } else { "are" })
}

fn list(damage: &[Damage]) -> String {
    const SHOWN: usize = 3;
    let mut shown: Vec<_> = damage.iter().take(SHOWN).map(ToString::to_string).collect();
    shown.extend((damage.len() > SHOWN).then(|| format!("and {} more", damage.len() - SHOWN)));
    shown.join(", ")
}

/// A damaged or missing object of the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object} {fault}")]
pub struct Damage {
    /// The object.
    pub object: Object,
    /// The problem with it.
    pub fault: Fault,
    /// The path that it was moved to, if it was moved.
    pub aside: Option<PathBuf>,
}

/// An object of the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Object {
    /// A file's content.
    #[error("blob {}", .0.short())]
    Blob(Digest),
    /// A list of files.
    #[error("tree {}", .0.short())]
    Tree(Digest),
    /// The record of a build.
    #[error("record {}", .0.display())]
    Record(PathBuf),
    /// Another file: of a run, an index or a lock.
    #[error("{}", .0.display())]
    File(PathBuf),
}

impl Object {
    /// Returns the damage that reports the object as missing.
    pub(super) const fn missing(self) -> Damage {
        Damage { object: self, fault: Fault::Missing, aside: None }
    }
}

/// The problem with an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It does not exist.
    #[error("is missing")]
    Missing,
    /// Its length differs.
    #[error("has {found} bytes instead of {expected}")]
    Size {
        /// The expected number of bytes.
        expected: u64,
        /// The actual number of bytes.
        found: u64,
    },
    /// Its bytes differ.
    #[error("was modified: its content has digest {}", .found.short())]
    Content {
        /// The digest of its bytes.
        found: Digest,
    },
    /// It is truncated, or does not match its format.
    #[error("cannot be read: {0}")]
    Format(String),
}
