//! What can go wrong with a store. Messages are lowercase fragments; [`StoreError::hint`] says what to do.

use std::io;
use std::path::{Path, PathBuf};

use contract::Digest;
use contract::figures;

/// The result of store code.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why the store cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {attempt} {}: {source}", path.display())]
    Io {
        /// What was attempted: "read", "write", "lock".
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// A file outside the store cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The path given for the store is a file.
    #[error("{} is a file, not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// The folder given for the store holds other things.
    #[error("{} is not a store: it holds other files", .0.display())]
    NotAStore(PathBuf),
    /// The store was written in a format that this program does not know.
    #[error("{} has store format {found}, this program knows {}", path.display(), super::FORMAT)]
    Format {
        /// The store.
        path: PathBuf,
        /// What its `version` file says.
        found: String,
    },
    /// The store has the format before this one, which is enough to look things up.
    #[error("{} has store format 1, in which past runs are not found", .0.display())]
    Older(PathBuf),
    /// A program of an older format uses the store.
    #[error("{} is in use by an older version of this program: {by}", path.display())]
    InUse {
        /// The store.
        path: PathBuf,
        /// The process.
        by: String,
    },
    /// The runs of a name belong to another manifest.
    #[error("run '{run}' belongs to {}", manifest.display())]
    Owned {
        /// The name.
        run: String,
        /// Whose it is.
        manifest: PathBuf,
    },
    /// The file that says which manifest the runs of a name belong to cannot be read.
    #[error("cannot determine the owner of run '{run}': cannot read {}: {source}", path.display())]
    OwnerUnknown {
        /// The name.
        run: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The store was opened for reading only.
    #[error("the store is open for reading only")]
    ReadOnly,
    /// There is something to build, and the store cannot be written.
    #[error("cannot build {}: {because}", .stages.join(", "))]
    Unbuildable {
        /// The stages that are not cached.
        stages: Vec<String>,
        /// Why it cannot be written.
        because: Box<StoreError>,
    },
    /// An object of the store is damaged or missing.
    #[error("{0}")]
    Damaged(Damage),
    /// Something is damaged, so that nobody can say what belongs to what.
    #[error("{} in the store, so that it is not known what is needed: {}", count(.0.len()), list(.0))]
    Unaccountable(Vec<Damage>),
    /// A stage handed over something that the store cannot take.
    #[error("output {path} of port '{port}' is {problem}")]
    Output {
        /// The output port.
        port: String,
        /// The file in the tree.
        path: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A run, stage or port name that cannot be a file name.
    #[error("'{}' cannot be a file name", .0.escape_debug())]
    Name(String),
    /// An external file that is a folder, a pipe or a device.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// An external file that changed again and again while it was read.
    #[error("{} changed while it was read", .0.display())]
    Changing(PathBuf),
    /// Asked to stop while hashing.
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

    /// Whether the store, or the file system below it, is the cause (exit code 4): not a file outside it, not what a stage
    /// handed over, not a request to stop.
    pub const fn is_of_the_store(&self) -> bool {
        match self {
            Self::Io { .. }
            | Self::NotAFolder(_)
            | Self::NotAStore(_)
            | Self::Format { .. }
            | Self::Older(_)
            | Self::InUse { .. }
            | Self::OwnerUnknown { .. }
            | Self::ReadOnly
            | Self::Unbuildable { .. }
            | Self::Damaged(_)
            | Self::Unaccountable(_)
            | Self::Name(_) => true,
            Self::Owned { .. }
            | Self::Source { .. }
            | Self::Output { .. }
            | Self::NotAFile(_)
            | Self::Changing(_)
            | Self::Interrupted => false,
        }
    }

    /// Whether the file system or its permissions refuse to have the store written.
    pub fn is_refusal(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem))
    }

    /// Whether an object of the store is damaged (exit code 4).
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Unaccountable(_))
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        use io::ErrorKind;
        match self {
            Self::Io { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(
                    "the disk is full: free some space (pipeline cache gc --scratch), or put the store elsewhere with --cache DIR",
                ),
                ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                    Some("put the store where you may write with --cache DIR")
                }
                ErrorKind::CrossesDevices => {
                    Some("all folders of a store must lie on one file system: no links or mounts inside it")
                }
                ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => {
                    Some("something else lies in its place: `pipeline cache verify --repair` moves it aside")
                }
                ErrorKind::Unsupported => Some("the store needs a file system with locks: choose one with --cache DIR"),
                _ => None,
            },
            Self::Older(_) => {
                Some("any run, and `cache gc` without --dry-run, make it a store of the format of this program")
            }
            Self::InUse { .. } => Some("run again when it has ended"),
            Self::Owned { .. } => Some(
                "give this run another name with --as NAME, or `name` in [run]; --adopt takes the name over, as after a move of \
                 the project",
            ),
            Self::OwnerUnknown { .. } => Some(
                "make the file readable; where it is damaged, `pipeline run --adopt` writes it again for the manifest of that run",
            ),
            Self::Unbuildable { because, .. } => because.hint(),
            Self::Source { .. } => Some("make the file readable, or leave it out of the pattern"),
            Self::NotAFolder(_) | Self::NotAStore(_) => Some("choose a new or empty folder with --cache DIR"),
            Self::Format { .. } => Some("use the program that wrote it, or another folder with --cache DIR"),
            Self::Damaged(_) => Some("run again: what is damaged is moved aside and rebuilt"),
            Self::Unaccountable(_) => {
                Some("`pipeline cache verify --repair` makes it whole first; a run rebuilds what it needs")
            }
            Self::Name(_) => Some("use letters, digits, '.', '_' and '-', beginning with a letter or digit"),
            Self::Changing(_) => Some("wait until nothing writes to it any more, then run again"),
            Self::ReadOnly | Self::Output { .. } | Self::NotAFile(_) | Self::Interrupted => None,
        }
    }
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

/// An object of the store that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object} {fault}")]
pub struct Damage {
    /// Which.
    pub object: Object,
    /// In what way.
    pub fault: Fault,
    /// Where it was moved to, if it was.
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
    /// What a build gave.
    #[error("record {}", .0.display())]
    Record(PathBuf),
    /// What is written down of a run.
    #[error("{}", .0.display())]
    File(PathBuf),
}

impl Object {
    /// That it is gone.
    pub(super) const fn missing(self) -> Damage {
        Damage { object: self, fault: Fault::Missing, aside: None }
    }
}

/// In what way an object is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is gone.
    #[error("is missing")]
    Missing,
    /// It is shorter or longer than it was.
    #[error("has {found} bytes instead of {expected}")]
    Size {
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// It has other bytes.
    #[error("was modified: its content has digest {}", .found.short())]
    Content {
        /// The digest of the bytes that it has.
        found: Digest,
    },
    /// It is torn, or not in its format.
    #[error("cannot be read: {0}")]
    Format(String),
}
