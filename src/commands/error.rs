//! The error of a command, with its exit code and hint.

use std::fmt;

use super::stdout::NotPrinted;
use crate::exit::Exit;
use crate::manifest::{Diagnostics, suggest};
use crate::store::StoreError;

/// The reason that a command failed.
#[derive(Debug)]
pub(super) enum CommandError {
    /// The manifest is invalid.
    Manifest(Box<Diagnostics>),
    /// The command line, or a file named on it, is invalid.
    Usage { message: String, hint: Option<String> },
    /// The store failed.
    Store(StoreError),
    /// The reader of standard output closed it.
    Closed,
    /// Anything else failed.
    Failed { message: String, hint: Option<String> },
}

impl CommandError {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: None }
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), hint: None }
    }

    /// Returns a closure for `map_err`: `cannot ACTION: error`.
    pub(super) fn io(action: impl fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.to_string();
        move |error| Self::failed(format!("cannot {action}: {error}"))
    }

    pub(super) fn hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Usage { hint, .. } | Self::Failed { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    /// Adds the hint `did you mean 'x'?`, or else the list of names after `list`.
    pub(super) fn suggest<'n>(self, name: &str, list: &str, names: impl Iterator<Item = &'n str> + Clone) -> Self {
        match suggest(name, list, names) {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Returns the exit code.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Manifest(_) | Self::Usage { .. } | Self::Store(StoreError::Owned { .. }) => Exit::Usage,
            Self::Store(StoreError::Interrupted) => Exit::Interrupted,
            Self::Store(error) if error.is_store_failure() => Exit::StoreDamaged,
            Self::Store(_) | Self::Failed { .. } => Exit::StageFailed,
            Self::Closed => Exit::Done,
        }
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Diagnostics> for CommandError {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Manifest(Box::new(diagnostics))
    }
}

impl From<contract::StageError> for CommandError {
    fn from(error: contract::StageError) -> Self {
        let message = error.to_string();
        let hint = match error {
            contract::StageError::Failed(failure) => failure.hint,
            contract::StageError::Interrupted | contract::StageError::Skipped(_) => None,
        };
        Self::Failed { message, hint }
    }
}

/// A closed standard output ([`super::stdout`]) ends the program without an error.
impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        match error.downcast::<NotPrinted>() {
            Ok(NotPrinted(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Self::Closed,
            Ok(error) => Self::failed(error.to_string()),
            Err(error) => Self::failed(error.to_string()),
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (message, hint): (&dyn fmt::Display, _) = match self {
            Self::Manifest(diagnostics) => return write!(f, "{diagnostics}"),
            Self::Closed => return Ok(()),
            Self::Store(error) => (error, error.hint()),
            Self::Usage { message, hint } | Self::Failed { message, hint } => (message, hint.as_deref()),
        };
        write!(f, "error: {message}")?;
        hint.map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}
