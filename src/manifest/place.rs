//! A position in a manifest, for people and for `--json`.

use std::fmt;

use serde::Serialize;

/// The name of the source if it is an argument of the command line.
pub(super) const COMMAND_LINE: &str = "--set";

/// The position of a key or value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// The file, as named on the command line or by `extends`; `--set` for the command line itself.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters, from 1.
    pub column: usize,
}

/// Formats the position: `codeparrot-small.toml:41:1`; without line and column for the command line.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column } = self;
        if file == COMMAND_LINE { f.write_str(file) } else { write!(f, "{file}:{line}:{column}") }
    }
}
