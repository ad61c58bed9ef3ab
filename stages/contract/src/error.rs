//! The errors of stages, with their location and a hint. Messages are lowercase fragments that fit into "stage: {error}".

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
    /// The machine lacks something that the stage needs, and its settings request to skip it in that case: it has no output, and the run
    /// does not fail.
    #[error("{0}")]
    Skipped(String),
    /// The stage failed.
    #[error("{0}")]
    Failed(Box<Failure>),
}

/// A failure with its location and a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The message, without the location.
    pub message: String,
    /// The file outside the store that the error is about, if any.
    pub file: Option<PathBuf>,
    /// The line in that file, counted from 1.
    pub line: Option<u64>,
    /// The hint.
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

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Failed(failure) = &mut self {
            failure.hint = Some(hint.into());
        }
        self
    }
}

/// Converts errors of reads and writes inside the store and the scratch directory, for which the path would not help the user.
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
    /// The path of the setting ([`crate::setting_path`]): `allow[3]`, `rules.line_max.threshold`; empty for the stage as a whole.
    pub setting: String,
    /// The reason that it is invalid: `must be at most steps (10), not 20`.
    pub message: String,
    /// The other settings that the check read. They are shown together with this setting. The problem is not reported if one of them is
    /// itself invalid.
    pub depends_on: Vec<&'static str>,
    /// The hint.
    pub hint: Option<String>,
}

impl Problem {
    /// Creates a problem of one setting, without a hint.
    pub fn new(setting: impl Into<String>, message: impl Into<String>) -> Self {
        Self { setting: setting.into(), message: message.into(), depends_on: Vec::new(), hint: None }
    }

    /// Adds another setting that the check read.
    #[must_use]
    pub fn depends_on(mut self, setting: &'static str) -> Self {
        self.depends_on.push(setting);
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
