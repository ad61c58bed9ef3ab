//! The name of a stage.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// What a manifest calls a stage: letters, digits, `_` and `-`, 1 to 100 of them, the first a letter or digit. It is a folder's name in a run and never
/// part of a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct StageName(String);

/// A text that names no stage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is no name for a stage (letters, digits, '_' and '-', at most {MAX_LENGTH}, the first a letter or digit)", .0.escape_debug())]
pub struct NotAStageName(pub String);

const MAX_LENGTH: usize = 100;

impl StageName {
    /// The same rule as a regular expression.
    pub const PATTERN: &'static str = "^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$";

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StageName {
    type Err = NotAStageName;

    fn from_str(text: &str) -> Result<Self, NotAStageName> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let begins = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if begins && text.len() <= MAX_LENGTH && text.chars().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAStageName(text.to_owned()))
        }
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Looks a stage up by its text.
impl Borrow<str> for StageName {
    fn borrow(&self) -> &str {
        &self.0
    }
}
