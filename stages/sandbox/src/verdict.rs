use serde::{Deserialize, Serialize};

/// The result of a program's tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Every test ended without an exception, within all limits.
    Passed,
    /// The program failed.
    Failed {
        /// The kind of failure.
        failure: Failure,
        /// The exception's type and message, or the limit that was exceeded. The candidate chose part of this text.
        detail: String,
    },
}

impl Verdict {
    /// Returns whether the program passed.
    pub fn passed(&self) -> bool {
        *self == Self::Passed
    }

    /// Returns the kind of failure, if the program failed.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Passed => None,
            Self::Failed { failure, .. } => Some(*failure),
        }
    }
}

/// The reason that a program failed. A candidate can choose among these by the exception it raises, but cannot turn a
/// failure into a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Failure {
    /// The candidate does not compile.
    Syntax,
    /// A name is not defined, such as the tested function.
    Name,
    /// An assertion failed.
    Assertion,
    /// Another exception was raised.
    Exception,
    /// The program exceeded the CPU time or the elapsed time.
    Timeout,
    /// The program exceeded the memory limit.
    Memory,
    /// The sandbox refused a file or a system call.
    Refused,
    /// The output was too long.
    Output,
    /// A process ended, or violated the protocol, before the tests ended.
    Ended,
}
