//! Exit codes: a public table that scripts may rely on.

use std::process::ExitCode;

/// The exit code of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything requested succeeded.
    Done = 0,
    /// A stage failed; the outputs of the others are stored.
    StageFailed = 1,
    /// The manifest or the command line is invalid; nothing ran.
    Usage = 2,
    /// A reproduction differs.
    Differs = 3,
    /// The store is damaged, or cannot be read or written.
    StoreDamaged = 4,
    /// Interrupted by Ctrl-C or a termination signal; the store is consistent and the next run resumes.
    Interrupted = 130,
}

impl Exit {
    /// Every code with its meaning, as in docs/exit-codes.md.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Done, "done"),
        (
            Self::StageFailed,
            "a stage failed, the outputs of the others are stored; or standard output could not be written",
        ),
        (Self::Usage, "the manifest or the command line is invalid; nothing ran"),
        (Self::Differs, "a reproduction differs"),
        (Self::StoreDamaged, "the store is damaged, or cannot be read or written"),
        (Self::Interrupted, "interrupted; the store is consistent and the next run resumes"),
    ];

    /// Returns the number.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
