//! Exit codes: a public table. Scripts may rely on them.

use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for is done.
    Done = 0,
    /// A stage failed; what the others finished is kept.
    StageFailed = 1,
    /// The manifest or the command line is wrong; nothing ran.
    Usage = 2,
    /// A reproduction differs.
    Differs = 3,
    /// The store is damaged, or cannot be read or written.
    StoreDamaged = 4,
    /// Interrupted by Ctrl-C or a termination signal; the store is whole and the next run resumes.
    Interrupted = 130,
}

impl Exit {
    /// Every code with its meaning, for `pipeline --help` and docs/exit-codes.md.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Done, "done"),
        (
            Self::StageFailed,
            "a stage failed, what the others finished is kept; or what there was to say could not be written",
        ),
        (Self::Usage, "the manifest or the command line is wrong; nothing ran"),
        (Self::Differs, "a reproduction differs"),
        (Self::StoreDamaged, "the store is damaged, or cannot be read or written"),
        (Self::Interrupted, "interrupted; the store is whole and the next run resumes"),
    ];

    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
