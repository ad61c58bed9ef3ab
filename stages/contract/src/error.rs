//! What went wrong, where, and a hint. Messages are lowercase fragments fit for "failed to {error}" or "stage: {error}".

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of stage code.
pub type Result<T, E = StageError> = std::result::Result<T, E>;

/// The reason that a stage stopped.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The stage was asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The machine lacks what the stage needs, and its settings say to skip it then: it has no output, and the run does not fail.
    #[error("{0}")]
    Skipped(String),
    /// It failed.
    #[error("{0}")]
    Failed(Box<Failure>),
}

/// A failure with its place and a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong, without the place.
    pub message: String,
    /// The file outside the store where it is wrong.
    pub file: Option<PathBuf>,
    /// The line in that file, from 1.
    pub line: Option<u64>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: {}", file.display(), self.message),
            (Some(file), None) => write!(f, "{}: {}", file.display(), self.message),
            _ => f.write_str(&self.message),
        }
    }
}

impl StageError {
    /// Creates a failure with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self::Failed(Box::new(Failure { message: message.into(), file: None, line: None, hint: None }))
    }

    /// Creates a failure from an error of the operating system, with the attempted action ("read shard.json.gz").
    pub fn io(attempt: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(format!("cannot {attempt}: {error}"))
    }

    /// Adds the file.
    #[must_use]
    pub fn in_file(mut self, file: &Path) -> Self {
        if let Self::Failed(failure) = &mut self {
            failure.file = Some(file.to_owned());
        }
        self
    }

    /// Adds the file and line (from 1).
    #[must_use]
    pub fn at(mut self, file: &Path, line: u64) -> Self {
        if let Self::Failed(failure) = &mut self {
            (failure.file, failure.line) = (Some(file.to_owned()), Some(line));
        }
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Failed(failure) = &mut self {
            failure.hint = Some(hint.into());
        }
        self
    }
}

/// For `?` on reads and writes inside the store and the scratch directory, where no path says more.
impl From<io::Error> for StageError {
    fn from(error: io::Error) -> Self {
        let failure = Self::new(error.to_string());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                failure.hint("the disk is full: free some space, or put the store elsewhere with --cache DIR")
            }
            _ => failure,
        }
    }
}

/// An invalid setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its path ([`crate::setting_path`]): `allow[3]`, `rules.line_max.threshold`; empty for the stage as a whole.
    pub setting: String,
    /// The reason that it is invalid: `must be at most steps (10), not 20`.
    pub message: String,
    /// The other settings that the check read. They are shown beside this one, and the problem is not reported while one
    /// of them is itself in error.
    pub depends_on: Vec<&'static str>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// Creates a problem of one setting, without a hint.
    pub fn new(setting: impl Into<String>, message: impl Into<String>) -> Self {
        Self { setting: setting.into(), message: message.into(), depends_on: Vec::new(), hint: None }
    }

    /// Names another setting that the check read.
    #[must_use]
    pub fn depends_on(mut self, setting: &'static str) -> Self {
        self.depends_on.push(setting);
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
