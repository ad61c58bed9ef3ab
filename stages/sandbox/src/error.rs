use std::{fmt, io};

use crate::Layer;

/// A sandbox that cannot be built here.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The system is not Linux.
    #[error("the sandbox needs Linux")]
    System,
    /// There is no usable interpreter.
    #[error("cannot use Python interpreter '{python}': {reason}")]
    Python {
        /// The interpreter as named in the settings.
        python: String,
        /// The reason that it cannot be used.
        reason: String,
    },
    /// The kernel refuses layers that the settings do not disable: it lacks them, or forbids them to this process.
    #[error("cannot confine programs: {}", Missing::list(.0))]
    Layers(Vec<Missing>),
    /// The sandbox failed for another reason, which may pass: for example, the machine has no free memory.
    #[error("cannot start the sandbox: {0}")]
    Start(#[from] Broken),
}

impl Unavailable {
    /// Returns whether the machine lacks something that the sandbox needs, so that another attempt would fail too.
    pub fn is_lasting(&self) -> bool {
        !matches!(self, Self::Start(_))
    }
}

/// A layer that the kernel refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The layer.
    pub layer: Layer,
    /// The kernel's error.
    pub reason: String,
}

impl Missing {
    fn list(missing: &[Self]) -> String {
        missing.iter().map(Self::to_string).collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer '{}' is missing: {}", self.layer, self.reason)
    }
}

/// An error of a run that produced no verdict on the program.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// `setup` or `tests` do not compile, or `setup` raises an exception.
    #[error("the tests cannot run: {0}")]
    Tests(String),
    /// The fork server ended or did not reply.
    #[error("the sandbox broke: {0}")]
    Server(String),
    /// The kernel refused a layer for one process.
    #[error("{0}")]
    Layer(Missing),
    /// The caller stopped the run.
    #[error("the run was stopped")]
    Stopped,
    /// A system call failed.
    #[error("{action}: {error}")]
    System {
        /// The attempted action.
        action: &'static str,
        /// The kernel's error.
        error: io::Error,
    },
}

impl Broken {
    /// Wraps the error of a system call.
    #[cfg(target_os = "linux")]
    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::System { action, error: error.into() }
    }
}
